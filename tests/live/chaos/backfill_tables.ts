/** Random tables: keys, replica identities, columns that are stored out of line, partitions. */

import { quoteTableName } from "../../../src/table_name.ts";
import { quoteIdentifier } from "../../../src/wire/quote.ts";
import { KEY_KINDS, type KeyKind } from "./backfill_keys.ts";
import { pick } from "./writer.ts";

/** What a table's rows are known by. */
export type Identity =
  | "default"
  | "full"
  /** USING INDEX: its key and one more column. */
  | "index"
  /** USING INDEX: none of its key's columns. */
  | "other index"
  /** It has no key: FULL. */
  | "no key";

/** A table. */
export interface TableShape {
  schema: string;
  table: string;
  key: KeyKind;
  identity: Identity;
  partitioned: boolean;
  /** Columns of the primary key in its order; none: no key. */
  primaryKey: readonly string[];
  /** The columns by whose values a consumer can tell rows apart. */
  tells: readonly string[];
  /** What is published, in the order of the table. */
  columns: readonly string[];
  /** Those stored out of line. */
  wide: readonly string[];
  /** Keys are the functions of the numbers below. */
  keys: number;
  /** Statements that make it. */
  sql: string;
}

/** How a table is called in SQL. */
export function nameOf(shape: Pick<TableShape, "schema" | "table">): string {
  return quoteTableName(shape);
}

/** The values of a key in SQL. @param i SQL of an integer from 0 on */
export function keySql({ key, schema }: TableShape, i: string, alike = false): string[] {
  const values = alike && key.alike !== undefined ? key.alike(i) : key.of(i);
  return values.map((value) => inSchema(value, schema));
}

function inSchema(sql: string, schema: string): string {
  return sql.replaceAll("@.", `${quoteIdentifier(schema)}.`);
}

/** Statements that make the tables. */
export function tablesSql(schema: string, shapes: readonly TableShape[]): string {
  const prepare = new Set(shapes.map(({ key }) => inSchema(key.prepare ?? "", schema)));
  return [
    `CREATE SCHEMA ${quoteIdentifier(schema)};`,
    `CREATE SEQUENCE ${quoteIdentifier(schema)}.versions;`,
    `CREATE TABLE ${quoteIdentifier(schema)}.unwatched (n int);`,
    ...prepare,
    ...shapes.map(({ sql }) => sql),
  ].join("\n");
}

/** A condition for the row with a key. */
export function isKey(shape: TableShape, i: string): string {
  const values = keySql(shape, i);
  return shape.key.columns
    .map(({ name }, n) => `${quoteIdentifier(name)} = ${values[n]}`).join(" AND ");
}

/** Where a round's tables are made. */
export interface Ground {
  schema: string;
  major: number;
  random: () => number;
  /** Whether rows without a key can be told apart to the end: not after a kill. */
  keyless: boolean;
  /** About how many rows. */
  rows: number;
}

const NAMES = ["docs", 'We"ird, T.able', "Ünïcode ☃", "select"];

/** One to three of them. */
export function randomTables(ground: Ground): TableShape[] {
  const count = 1 + Math.floor(ground.random() * 3);
  const first = Math.floor(ground.random() * NAMES.length);
  return Array.from(
    { length: count },
    (_, n) => randomTable(ground, NAMES[(first + n) % NAMES.length]!, n),
  );
}

interface Column {
  name: string;
  definition: string;
  published: boolean;
}

function randomTable(ground: Ground, table: string, index: number): TableShape {
  const { schema, major, random } = ground;
  const kinds = KEY_KINDS.filter(({ since = 10 }) => since <= major);
  const key = pick(kinds, random);
  const partitioned = major >= 13 && key.unpartitionable === undefined && random() < 0.2;
  const identity: Identity = partitioned
    ? pick(["default", "default", "full"], random)
    : ground.keyless && random() < 0.12
    ? "no key"
    : pick(["default", "default", "default", "full", "index", "other index"], random);
  const keyNames = key.columns.map(({ name }) => name);
  const primaryKey = identity === "no key" ? [] : key.order ?? keyNames;
  const columns = randomColumns(ground, key, identity);
  const wide = columns.map(({ name }) => name).filter((name) => name.startsWith("pad"));
  const published = columns.filter(({ published }) => published).map(({ name }) => name);
  const tells = identity === "no key" ? published : identity === "other index" ? ["u"] : primaryKey;
  const keys = Math.min(Math.ceil(ground.rows * 1.3), key.most ?? Infinity);
  const shape: TableShape = {
    ...{ schema, table, key, identity, partitioned, primaryKey, tells, columns: published, wide },
    keys,
    sql: "",
  };
  return { ...shape, sql: createSql(ground, shape, columns, index) };
}

function randomColumns({ schema, major, random }: Ground, key: KeyKind, identity: Identity) {
  const columns: Column[] = [
    ...key.columns.map(({ name, type }) => {
      return { name, definition: `${inSchema(type, schema)} NOT NULL`, published: true };
    }),
    { name: "v", definition: "bigint NOT NULL", published: true },
    { name: "u", definition: "bigint NOT NULL", published: true },
    { name: "n", definition: "int", published: true },
    { name: "pad", definition: "text", published: true },
  ];
  const add = (chance: number, name: string, definition: string, published = true) => {
    if (random() >= chance) return;
    // Not always at the end: what is left out in the middle moves what comes after.
    const place = random() < 0.5 ? columns.length : Math.floor(random() * columns.length);
    columns.splice(place, 0, { name, definition, published });
  };
  add(0.4, "pad2", "text");
  add(0.3, 'od"d, col', "jsonb");
  add(0.2, "__proto__", "text");
  add(0.3, "gone", "text DEFAULT 'gone'", false);
  const full = identity === "full" || identity === "no key";
  if (major >= 12 && !full) add(0.25, "twice", "bigint GENERATED ALWAYS AS (v * 2) STORED", false);
  if (major >= 18 && !full) add(0.2, "later", "bigint GENERATED ALWAYS AS (v + 1) VIRTUAL", false);
  return columns;
}

function createSql(
  { random }: Ground,
  shape: TableShape,
  columns: readonly Column[],
  index: number,
): string {
  const { identity, partitioned, primaryKey, wide, key } = shape;
  const schema = quoteIdentifier(shape.schema);
  const name = nameOf(shape);
  const list = (all: readonly Column[]) =>
    all.map(({ name, definition }) => `${quoteIdentifier(name)} ${definition}`);
  const names = (all: readonly string[]) => all.map((name) => quoteIdentifier(name)).join();
  const partition = partitioned
    ? ` PARTITION BY HASH (${quoteIdentifier(key.columns[0]!.name)})`
    : "";
  const primary = primaryKey.length === 0 ? [] : [`PRIMARY KEY (${names(primaryKey)})`];
  const statements = [
    `CREATE TABLE ${name} (${[...list(columns), ...primary].join()})${partition};`,
  ];
  const stored = [name];
  if (partitioned) {
    const leaf = (n: number) => `${schema}.leaf${index}_${n}`;
    const of = (n: number) => `FOR VALUES WITH (MODULUS 3, REMAINDER ${n})`;
    statements.push(
      `CREATE TABLE ${leaf(0)} PARTITION OF ${name} ${of(0)};`,
      `CREATE TABLE ${leaf(1)} PARTITION OF ${name} ${of(1)} ` +
        `PARTITION BY HASH (${quoteIdentifier(key.columns.at(-1)!.name)});`,
      `CREATE TABLE ${leaf(3)} PARTITION OF ${leaf(1)} FOR VALUES WITH (MODULUS 1, REMAINDER 0);`,
      // One that has its columns in another order, as partitions that are attached may.
      `CREATE TABLE ${leaf(2)} (${list([...columns].reverse()).join()});`,
      `ALTER TABLE ${name} ATTACH PARTITION ${leaf(2)} ${of(2)};`,
    );
    stored.push(leaf(0), leaf(1), leaf(2), leaf(3));
  }
  for (const table of stored) {
    for (const column of wide) {
      statements.push(
        `ALTER TABLE ${table} ALTER ${quoteIdentifier(column)} SET STORAGE EXTERNAL;`,
      );
    }
    if (identity === "full" || identity === "no key") {
      statements.push(`ALTER TABLE ${table} REPLICA IDENTITY FULL;`);
    }
  }
  if (columns.some(({ name }) => name === "gone")) {
    statements.push(`ALTER TABLE ${name} DROP COLUMN gone;`);
  }
  if (identity === "index" || identity === "other index") {
    const over = identity === "index" ? ["u", ...primaryKey] : ["u"];
    if (identity === "index" && random() < 0.5) over.reverse();
    statements.push(
      `CREATE UNIQUE INDEX identity${index} ON ${name} (${names(over)});`,
      `ALTER TABLE ${name} REPLICA IDENTITY USING INDEX identity${index};`,
    );
  }
  return statements.join("\n");
}
