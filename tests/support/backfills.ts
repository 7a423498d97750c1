/** What tests of backfills share: tables that have rows before their slot, and a store to compare them with. */

import { assertEquals } from "@std/assert";
import type { ChangeEvent, PgStream, PgStreamOptions } from "../../mod.ts";
import { type Database, until } from "./streams.ts";
import { TestTable } from "./test_table.ts";

/** In small chunks. */
export const initial = { backfill: "initial", backfillChunk: { maxRows: 14 } } as const;

/** Options of streams, and what is in the table. */
export type TableOptions = PgStreamOptions & {
  /** The column `v` by `n`, the key. */
  value?: string;
  /** A statement before, which calls the table `$table`. */
  more?: string;
};

/** A table whose rows are there before its slot is. */
export function tableWithRows(
  db: Database,
  rows: number,
  { value = "NULL", more = "", ...options }: TableOptions = initial,
): Promise<TestTable> {
  return TestTable.create(db, "rows", {
    ...options,
    more: (table) =>
      `${more.replaceAll("$table", table)}; INSERT INTO ${table}
        SELECT n, ${value} FROM generate_series(1, ${rows}) n`,
  });
}

/** What a store would hold by now, and the events that led there. */
export class StoreModel {
  readonly events: ChangeEvent[] = [];
  readonly rows = new Map<string, Record<string, unknown>>();

  readonly take = (event: ChangeEvent): void => {
    this.events.push(event);
    if (event.operation === "truncate") return this.rows.clear();
    if (event.operation === "delete") return void this.rows.delete(event.key);
    const before = this.rows.get(event.oldKey ?? event.key) ?? {};
    if (event.oldKey !== null) this.rows.delete(event.oldKey);
    const kept = event.unchanged.map((column) => [column, before[column]]);
    this.rows.set(event.key, { ...event.row, ...Object.fromEntries(kept) });
  };

  /** Keys of the rows that a backfill handed out. */
  get backfilled(): string[] {
    return this.events.filter(({ backfill }) => backfill).map(({ key }) => `${key}`);
  }
}

async function contents(
  db: Database,
  table: string,
): Promise<Map<string, Record<string, unknown>>> {
  const rows = await db.query<{ key: string; row: string }>(
    `SELECT id::text AS key, row_to_json(t)::text AS row FROM ${table} t`,
  );
  const textOf = (value: unknown) => value === null ? null : String(value);
  return new Map(rows.map(({ key, row }) => [
    key,
    Object.fromEntries(
      Object.entries(JSON.parse(row)).map(([name, value]) => [name, textOf(value)]),
    ),
  ]));
}

/** Fails where the model is not what the table is. */
export async function sameRows(db: Database, model: StoreModel, table: string): Promise<void> {
  const sorted = (rows: Map<string, unknown>) =>
    [...rows].sort(([a], [b]) => a < b ? -1 : 1)
      .map(([key, row]) => [key, { ...row as object }]);
  assertEquals(sorted(model.rows), sorted(await contents(db, table)));
}

/** Waits until the backfill is over. */
export const over = (stream: PgStream) =>
  until("the backfill to be over", () => {
    const { state, backfill, lastError } = stream.status();
    if (state === "failed") throw new Error(lastError!);
    return state === "streaming" && backfill === null;
  });
