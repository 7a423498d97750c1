/**
 * Rows of events that wait, made ready while those before them are being written: else the store and the stream
 * would wait for each other.
 */

import { nextTurn } from "../backoff.ts";
import type { AnyRow, ChangeEvent } from "../change.ts";
import type { RowState } from "../sinks/rows.ts";
import type { SinkLike } from "../sinks/sink.ts";
import { formatTableName } from "../table_name.ts";
import type { TableSync } from "./resolve_options.ts";
import { rowChanges } from "./row_changes.ts";
import type { WantedRow } from "./row_maker.ts";
import { idsOf, type MadeRow } from "./row_plan.ts";

/** Rows that are made without a break: some milliseconds. */
const ROWS_A_TURN = 100;

/** By id, what a store has; null: nothing. */
export type KnownStates = ReadonlyMap<string, RowState | null>;

/** Of one store. It only saves time: what is not ready, or could not be made ready, is done when its turn comes. */
export class RowsAhead {
  readonly #sink: SinkLike;
  readonly #tables: ReadonlyMap<string, TableSync>;
  #made = new WeakMap<AnyRow, Promise<WantedRow>>();
  #states: KnownStates = new Map();

  constructor(sink: SinkLike, tables: ReadonlyMap<string, TableSync>) {
    this.#sink = sink;
    this.#tables = tables;
  }

  /** What a row is to have. */
  make({ maker }: TableSync, key: string, row: AnyRow): Promise<WantedRow> {
    return this.#made.get(row) ?? maker.make(key, row);
  }

  /** What the store was found to have, by id; null: nothing. Once: by the next time it may have more. */
  takeStates(): KnownStates {
    const states = this.#states;
    this.#states = new Map();
    return states;
  }

  /** What is known is not known any more. */
  forget(): void {
    this.#made = new WeakMap();
    this.#states = new Map();
  }

  /** Never rejected: who needs it is told then. @param inHand rows that are being written */
  async prepare(events: readonly ChangeEvent[], inHand: readonly MadeRow[]): Promise<void> {
    const made = this.#made;
    try {
      const changes = this.#changes(events, inHand);
      const ids: string[] = [];
      for (let at = 0; at < changes.length; at += ROWS_A_TURN) {
        // What is being written is sent and answered meanwhile.
        await nextTurn();
        const rows = await Promise.all(changes.slice(at, at + ROWS_A_TURN).map(this.#prepared));
        ids.push(...rows.flatMap(idsOf));
      }
      if (ids.length === 0 || this.#sink.apply === undefined) return;
      const states = await this.#sink.fingerprints?.(ids);
      const isForgotten = this.#made !== made;
      if (states === undefined || isForgotten) return;
      this.#states = new Map(ids.map((id) => [id, states.get(id) ?? null]));
    } catch {
      this.forget();
    }
  }

  #changes(events: readonly ChangeEvent[], inHand: readonly MadeRow[]): SyncedRow[] {
    const written = new Set(
      inHand.map(({ sync: { table }, change: { key } }) => nameOf(table, key)),
    );
    // Of the others not all is known yet.
    const whole = events.filter((event) =>
      this.#tables.has(formatTableName(event)) && event.unchanged.length === 0
    );
    return [...rowChanges(whole)].flatMap(([table, { truncated, rows }]) => {
      // Of what is there now, nothing will be.
      if (truncated !== null) return [];
      const sync = this.#tables.get(table)!;
      return [...rows.values()]
        .filter(({ key }) => !written.has(nameOf(table, key)))
        .map((change) => ({ sync, change }));
    });
  }

  readonly #prepared = async (
    { sync, change }: SyncedRow,
  ): Promise<SyncedRow & Pick<MadeRow, "wanted">> => {
    const { key, row } = change;
    if (row === null) return { sync, change, wanted: { points: [] } };
    const made = sync.maker.make(key, row);
    this.#made.set(row, made);
    return { sync, change, wanted: await made };
  };
}

type SyncedRow = Pick<MadeRow, "sync" | "change">;

function nameOf(table: string, key: string): string {
  return `${table} ${key}`;
}
