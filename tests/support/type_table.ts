/** A table with a column of every type that PostgreSQL has, and what a stream makes of its rows. */

import { assert, assertEquals } from "@std/assert";
import { type ChangeEvent, PgStream, type PgStreamOptions } from "../../mod.ts";
import { type Database, started, until } from "./streams.ts";
import { SAMPLES, sampleSql, WITHOUT_VALUES } from "./type_samples.ts";

/** Ids of the rows that are written while the stream runs begin here. */
const LATER = 1000;

/** A column of one type. */
export interface Column {
  name: string;
  type: string;
  /** SQL of its values. */
  samples: string[];
}

/** All that the server has, and what was made beside it. */
export async function everyColumn(db: Database, major: number): Promise<Column[]> {
  const types = await db.query<{ schema: string; name: string; array: boolean }>(
    `SELECT nspname AS schema, typname AS name, typarray <> 0 AS array
    FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
    WHERE typtype IN ('b', 'r', 'm', 'd', 'e') AND typcategory <> 'A'
      AND nspname IN ('pg_catalog', 'information_schema', 'public')
      OR nspname = 'public' AND typtype IN ('c', 'd') AND typname IN ('pair', 'several', 'two')
    GROUP BY 1, 2, 3 ORDER BY 1, 2`,
  );
  const columns: Column[] = [];
  for (const { schema, name, array } of types) {
    if (WITHOUT_VALUES.has(name)) continue;
    const known = schema === "pg_catalog" ? name : `${schema}.${name}`;
    const samples = SAMPLES[known];
    assert(samples !== undefined, `There is no sample of the type ${known}`);
    const type = `${schema}."${name}"`;
    const values = samples.map((sample) => `(${sampleSql(sample, major)})::${type}`);
    columns.push({ name: known, type, samples: values });
    if (!array) continue;
    const [first, last] = [values[0]!, values.at(-1)!];
    const arrays = ["'{}'", ...values.map((value) => `ARRAY[${value}, NULL]`)];
    arrays.push(`ARRAY[[${first}, ${last}], [${last}, NULL]]`, "'{NULL}'");
    columns.push({
      name: `${known}[]`,
      type: `${type}[]`,
      samples: arrays.map((sql) => `(${sql})::${type}[]`),
    });
  }
  const others = Object.keys(SAMPLES).filter((name) => /[ ([]|^pg_catalog\./.test(name));
  for (const type of others) {
    const samples = SAMPLES[type]!.map((sample) => `(${sample})::${type}`);
    columns.push({ name: `${type} `, type, samples });
  }
  return columns;
}

/** A name in double quotes. */
export const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** A table with a column of each, and a row for each sample; the last row has nothing but NULLs. */
export async function fill(db: Database, columns: readonly Column[]): Promise<number> {
  const definitions = columns.map(({ name, type }) => `${quote(name)} ${type}`);
  await db.query(`CREATE TABLE every_type (id int PRIMARY KEY, ${definitions.join()})`);
  const rows = Math.max(...columns.map(({ samples }) => samples.length));
  for (let id = 1; id <= rows; id++) {
    const values = columns.map(({ samples }) => samples[(id - 1) % samples.length]);
    await db.query(`INSERT INTO every_type VALUES (${[id, ...values].join()})`);
  }
  // Said, not left out: a domain may have a default.
  await db.query(
    `INSERT INTO every_type VALUES (${[rows + 1, ...columns.map(() => "NULL")].join()})`,
  );
  return rows + 1;
}

/** What a stream hands out of the rows that were there, and of the same rows written again. */
export async function bothOf(
  db: Database,
  columns: readonly Column[],
  rows: number,
  options: PgStreamOptions,
): Promise<Map<number, ChangeEvent>> {
  const events = new Map<number, ChangeEvent>();
  const stream = new PgStream({ dsn: db.dsn, slotName: "every_type", logger: false, ...options });
  stream.watch("every_type").onChange((event) => {
    const id = Number(event.row.id);
    // What is written while rows are read may be read as well, after it was streamed.
    if (id < LATER || !event.backfill) events.set(id, event);
  });
  await stream.setup();
  const running = await started(stream);
  const names = columns.map(({ name }) => quote(name)).join();
  await db.query(`INSERT INTO every_type (id, ${names})
    SELECT id + ${LATER}, ${names} FROM every_type ORDER BY id`);
  await until("all rows", () => events.size === 2 * rows, 30_000);
  await running.stop();
  await stream.teardown();
  return events;
}

/** Finds rows that were read and rows that were streamed to be the same. @returns the latter */
export function compare(events: ReadonlyMap<number, ChangeEvent>, rows: number): ChangeEvent[] {
  const changes: ChangeEvent[] = [];
  for (let id = 1; id <= rows; id++) {
    const [read, change] = [events.get(id)!, events.get(id + LATER)!];
    assertEquals([read.backfill, change.backfill], [true, false]);
    assertEquals(Object.keys(read.row), Object.keys(change.row));
    assertEquals({ ...read.row, id: "" }, { ...change.row, id: "" }, `row ${id}`);
    changes.push(change);
  }
  return changes;
}
