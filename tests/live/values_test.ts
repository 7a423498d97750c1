/** `values: "js"`: each type has one kind of JS value, in changes as in rows that a backfill read. */

import { assertEquals, assertGreater } from "@std/assert";
import { test } from "node:test";
import postgres from "postgres";
import { builtInTypes } from "../../src/values/built_in_types.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { prepareSamples } from "../support/type_samples.ts";
import { bothOf, type Column, compare, everyColumn, fill, quote } from "../support/type_table.ts";

/** What a value has to be, from its text, by other means than the code that is tested; the others stay text. */
const EXPECTED: Record<string, (text: string) => unknown> = {
  bool: (text) => text === "t" || text === "true",
  int2: Number,
  int4: Number,
  int8: BigInt,
  float4: float4Of,
  float8: Number,
  bytea: (text) => Uint8Array.from(text.slice(2).match(/../g) ?? [], (byte) => parseInt(byte, 16)),
  json: (text) => JSON.parse(text),
  jsonb: (text) => JSON.parse(text),
  timestamp: (text) => dateOf(text, false),
  timestamptz: (text) => dateOf(text, true),
};
/** As postgres.js reads them, too, as the documentation says. */
const AS_POSTGRES_JS = [
  "bool",
  "int2",
  "int4",
  "float8",
  "json",
  "jsonb",
  "timestamp",
  "timestamptz",
];

/** As postgres.js and pg do it, but for years of which they make nothing. */
function dateOf(text: string, zoned: boolean): Date {
  const [, year, rest, bc] = /^(\d+)(-[^+ ]+ [^+ ]+)(?:\+00)?( BC)?$/.exec(text) ?? [];
  if (rest === undefined || (bc === undefined && year!.length === 4)) return new Date(text);
  const date = new Date(`2000${rest}${zoned ? "Z" : ""}`);
  const full = bc === undefined ? Number(year) : 1 - Number(year);
  if (zoned) date.setUTCFullYear(full);
  else date.setFullYear(full);
  return date;
}

/** Of the numbers that are this 32-bit float, the one with the fewest digits. */
function float4Of(text: string): number {
  const value = Math.fround(Number(text));
  if (!Number.isFinite(value) || value === 0) return value;
  for (let digits = 1;; digits++) {
    const shorter = Number(value.toPrecision(digits));
    if (Math.fround(shorter) === value) return shorter;
  }
}

/** What a column's type is called without its length and its brackets. */
function typeOf({ name }: Column): string {
  return name.trim().replace(/(\[\])+$/, "").replace(/\(.*\)$/, "");
}

/** A cast to text would take blanks from char(n), and IS NULL is true of a row of NULLs. */
function printed(sql: string): string {
  return `CASE num_nulls(${sql}) WHEN 0 THEN format('%s', ${sql}) END`;
}

/** What each column of a row has to be. */
async function expectedRow(
  sql: postgres.Sql,
  columns: readonly Column[],
  id: number,
): Promise<Map<string, unknown>> {
  const expected = new Map<string, unknown>();
  for (const column of columns) {
    const type = typeOf(column);
    const valueOf = (text: string | null) => text === null ? null : EXPECTED[type]?.(text) ?? text;
    const name = quote(column.name);
    if (!column.name.includes("[]")) {
      const [row] = await sql.unsafe(
        `SELECT ${printed(name)} AS text FROM public.every_type WHERE id = ${id}`,
      );
      expected.set(column.name, valueOf(row!.text));
      continue;
    }
    const [row] = await sql.unsafe(`SELECT ${name} IS NULL AS missing,
      (SELECT json_agg(array_length(${name}, d)) FROM generate_series(1, array_ndims(${name})) d)
        AS lengths, (SELECT json_agg(${
      printed("u.e")
    }) FROM (SELECT unnest(${name}) AS e) AS u) AS texts
      FROM public.every_type WHERE id = ${id}`);
    const values = ((row!.texts ?? []) as (string | null)[]).map(valueOf);
    expected.set(column.name, row!.missing ? null : nested(values, row!.lengths ?? [0]));
  }
  return expected;
}

/** `[1, 2, 3, 4]` of lengths `[2, 2]` is `[[1, 2], [3, 4]]`. */
function nested(values: unknown[], [length, ...deeper]: number[]): unknown[] {
  if (deeper.length === 0) return values;
  const size = values.length / length!;
  return Array.from(
    { length: length! },
    (_, at) => nested(values.slice(at * size, (at + 1) * size), deeper),
  );
}

/** Other OIDs would be other types. */
async function builtIn(db: TestPostgres): Promise<void> {
  const rows = await db.query<{ oid: number; name: string; array: number; delimiter: string }>(
    `SELECT oid::int, typname AS name, typarray::int AS array, typdelim AS delimiter FROM pg_type
    WHERE oid < 10000 AND typtype IN ('b', 'r', 'm') AND typarray <> 0`,
  );
  const known = builtInTypes();
  for (const { oid, name, array, delimiter } of rows) {
    const { element, ...rest } = known.get(array)!;
    assertEquals({ ...rest, element }, {
      oid: array,
      name: `_${name}`,
      kind: "b",
      delimiter: ",",
      element: { oid, name, kind: "b", delimiter, element: null },
    });
    assertEquals(known.get(oid), element!);
    known.delete(oid);
    known.delete(array);
  }
  // Those that this version does not have must not mean anything else in it.
  const others = await db.query<{ name: string }>(
    `SELECT typname AS name FROM pg_type WHERE oid IN (${[0, ...known.keys()].join()})`,
  );
  assertEquals(others, []);
}

async function everyType(db: TestPostgres, sql: postgres.Sql): Promise<void> {
  await db.query(prepareSamples(db.major));
  const columns = await everyColumn(db, db.major);
  const rows = await fill(db, columns);
  const changes = compare(
    await bothOf(db, columns, rows, { backfill: "initial", values: "js" }),
    rows,
  );
  let compared = 0;
  for (const [index, { key, row }] of changes.entries()) {
    assertEquals(key, `${index + 1001}`);
    assertEquals(row.id, index + 1001);
    const expected = await expectedRow(sql, columns, index + 1);
    const [theirs] = await sql`SELECT ${sql(AS_POSTGRES_JS)}
      FROM public.every_type WHERE id = ${index + 1}`;
    for (const { name } of columns) {
      assertEquals(row[name], expected.get(name), `${name} of row ${index + 1}`);
      if (!AS_POSTGRES_JS.includes(name) || theirs![name] === null) continue;
      const isOddDate = row[name] instanceof Date && Number.isNaN(theirs![name].getTime());
      if (isOddDate || (row[name] instanceof Date && row[name].getUTCFullYear() < 1)) continue;
      assertEquals(row[name], theirs![name], `${name} of row ${index + 1}`);
      compared++;
    }
  }
  assertGreater(compared, changes.length * AS_POSTGRES_JS.length / 2);
}

for (const major of testMajors(18, 17, 14, 10)) {
  test(`every type, as it streams, as a backfill reads it, and as others do, PostgreSQL ${major}`, async () => {
    const db = await testPostgres({ major });
    const connection = { TimeZone: "UTC", extra_float_digits: 3, search_path: "pg_catalog" };
    const sql = postgres(db.dsn, { max: 1, onnotice: () => {}, connection });
    try {
      await builtIn(db);
      await everyType(db, sql);
    } finally {
      await sql.end({ timeout: 1 });
      await db.stop();
    }
  });
}
