/**
 * Makes `pg<major>.jsonl` beside itself from real servers.
 *
 *     deno run -A tests/golden/capture.ts 10 11 12 13 14 15 16 17 18
 */
import { writeFileSync } from "node:fs";
import { argv } from "node:process";
import postgres from "postgres";
import { PgOutputDecoder } from "../../src/pgoutput/mod.ts";
import { testPostgres } from "../support/servers/test_postgres.ts";
import {
  type GoldenMessage,
  goldenOf,
  type GoldenSlot,
  type GoldenTable,
  hexOf,
  shortened,
} from "../support/golden.ts";
import { captureParts } from "./capture_parts.ts";

const TABLES = `
  CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
  CREATE TABLE every_kind (id int PRIMARY KEY, small smallint, big bigint, flag boolean,
    ratio double precision, amount numeric(10, 2), title text, code char(4), at timestamptz,
    day date, data jsonb, bytes bytea, tags text[], grid int[][], uid uuid, mood mood, span int4range);

  CREATE TABLE toast_default (id int PRIMARY KEY, note text, body text);
  CREATE TABLE toast_full (id int PRIMARY KEY, note text, body text);
  CREATE TABLE toast_index (id int PRIMARY KEY, tag text NOT NULL UNIQUE, note text, body text);
  CREATE TABLE toast_nothing (id int PRIMARY KEY, note text, body text);
  ALTER TABLE toast_default ALTER body SET STORAGE EXTERNAL;
  ALTER TABLE toast_full ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
  ALTER TABLE toast_index ALTER body SET STORAGE EXTERNAL,
    REPLICA IDENTITY USING INDEX toast_index_tag_key;
  ALTER TABLE toast_nothing ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY NOTHING;

  CREATE SCHEMA "We""ird";
  CREATE TABLE "We""ird"."Ta.ble" ("I d" int PRIMARY KEY, "__proto__" text, constructor text, "1" text);
  CREATE TABLE emptied (id int PRIMARY KEY);
  CREATE TABLE emptied_too (id int PRIMARY KEY, emptied int REFERENCES emptied);
  CREATE TABLE changing (id int PRIMARY KEY, a text);
  CREATE TABLE in_binary (id int PRIMARY KEY, big bigint, title text, bytes bytea, body text);
  ALTER TABLE in_binary ALTER body SET STORAGE EXTERNAL;

  CREATE PUBLICATION changes FOR TABLE every_kind, toast_default, toast_full, toast_index,
    "We""ird"."Ta.ble", emptied, emptied_too, changing;
  CREATE PUBLICATION inserts FOR TABLE toast_nothing WITH (publish = 'insert');
  CREATE PUBLICATION binaries FOR TABLE in_binary;`;

/** From 11: before it, a partitioned table has no key. Before 13, its partitions are published. */
const PARTED_TABLE = `
  CREATE TABLE parted (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
  CREATE TABLE parted_eu PARTITION OF parted FOR VALUES IN ('eu');
  CREATE TABLE parted_us PARTITION OF parted FOR VALUES IN ('us');
  ALTER PUBLICATION changes ADD TABLE`;

/** From 18 such columns can be published; before, they are left out. */
const GENERATED_TABLE = `
  CREATE TABLE generated (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED);
  CREATE PUBLICATION generated FOR TABLE generated WITH (publish_generated_columns = stored);`;

/** From 15: a filter turns updates into inserts and deletes. */
const FILTERED_TABLE = `
  CREATE TABLE filtered (id int NOT NULL, published boolean NOT NULL, body text,
    CONSTRAINT filtered_key UNIQUE (id, published));
  ALTER TABLE filtered ALTER body SET STORAGE EXTERNAL, REPLICA IDENTITY USING INDEX filtered_key;
  ALTER PUBLICATION changes ADD TABLE filtered WHERE (published);`;

/** One transaction each. */
const CHANGES = [
  `INSERT INTO every_kind VALUES
    (1, -32768, 9223372036854775807, true, 'NaN', 12345678.90, 'Grüße, 世界 🐘', 'ab',
      'infinity', '0044-03-15 BC', '{"a": [1, null]}', '\\x00ff', '{"a b",NULL,""}', '{{1,2},{3,4}}',
      '00000000-0000-0000-0000-000000000001', 'happy', '[1,5)'),
    (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (3, 0, -9223372036854775808, false, '-0', 0, '', '', '2026-01-02 03:04:05.678901+00',
      '2026-01-02', 'null', '', '{}', '{}', NULL, 'sad', 'empty')`,
  `UPDATE every_kind SET title = E'two\\nlines\\t' WHERE id = 2;
   UPDATE every_kind SET id = 30, title = NULL WHERE id = 3;
   DELETE FROM every_kind WHERE id = 1`,
  `INSERT INTO toast_default VALUES (1, 'a', repeat('d', 5000))`,
  `UPDATE toast_default SET note = 'b'`,
  `UPDATE toast_default SET id = 2`,
  `UPDATE toast_default SET note = NULL, body = 'short'`,
  `INSERT INTO toast_default VALUES (9, '', NULL); DELETE FROM toast_default WHERE id = 9`,
  `INSERT INTO toast_full VALUES (1, 'a', repeat('e', 5000))`,
  `UPDATE toast_full SET id = 2, note = 'b'`,
  `UPDATE toast_full SET note = NULL, body = 'short'`,
  `INSERT INTO toast_full VALUES (9, '', NULL); DELETE FROM toast_full WHERE id = 9`,
  `INSERT INTO toast_index VALUES (1, 'one', 'a', repeat('i', 2500))`,
  `UPDATE toast_index SET note = 'b'`,
  `UPDATE toast_index SET id = 2`,
  `UPDATE toast_index SET tag = 'two'`,
  `INSERT INTO toast_index VALUES (9, 'nine'); DELETE FROM toast_index WHERE id = 9`,
  `INSERT INTO toast_nothing VALUES (1, 'a', repeat('n', 2500))`,
  `INSERT INTO "We""ird"."Ta.ble" VALUES (1, 'p', 'c', 'one'), (2, NULL, '', NULL);
   UPDATE "We""ird"."Ta.ble" SET "__proto__" = 'q' WHERE "I d" = 1`,
  `INSERT INTO emptied VALUES (1), (2); INSERT INTO emptied_too VALUES (1, 1)`,
  `TRUNCATE emptied, emptied_too RESTART IDENTITY`,
  `INSERT INTO emptied VALUES (3)`,
  `TRUNCATE emptied CASCADE`,
  `INSERT INTO changing VALUES (1, 'before');
   ALTER TABLE changing ADD b int DEFAULT 7, ALTER a TYPE varchar(20);
   INSERT INTO changing VALUES (2, 'after', NULL);
   ALTER TABLE changing DROP a, REPLICA IDENTITY FULL;
   UPDATE changing SET b = 8 WHERE id = 1`,
  `SELECT pg_logical_emit_message(true, 'outbox', 'Grüße');
   INSERT INTO changing VALUES (3, 3)`,
  `SELECT pg_logical_emit_message(false, 'ping', '')`,
  `SELECT pg_replication_origin_create('elsewhere');
   SELECT pg_replication_origin_session_setup('elsewhere')`,
  `SELECT pg_replication_origin_xact_setup('16/B374D848', '2026-01-02 03:04:05Z');
   INSERT INTO changing VALUES (4, 4)`,
  `SELECT pg_replication_origin_session_reset();
   SELECT pg_replication_origin_drop('elsewhere')`,
  `INSERT INTO in_binary VALUES (1, -2, 'é', '\\x00ff', repeat('b', 2500)), (2, NULL, '', '', NULL)`,
  `UPDATE in_binary SET big = 3 WHERE id = 1`,
  `UPDATE in_binary SET id = 4 WHERE id = 1; DELETE FROM in_binary WHERE id = 2`,
];

const PARTED_CHANGE = `INSERT INTO parted VALUES (1, 'eu'); UPDATE parted SET region = 'us'`;

const GENERATED_CHANGES = [
  `INSERT INTO generated VALUES (1), (2)`,
  `UPDATE generated SET id = 3 WHERE id = 2`,
];

const FILTERED_CHANGES = [
  `INSERT INTO filtered VALUES (1, false, repeat('f', 2500)), (2, true, 'two')`,
  `UPDATE filtered SET published = true WHERE id = 1`,
  `UPDATE filtered SET published = false WHERE id = 2`,
];

for (const major of argv.slice(2).map(Number)) {
  const server = await testPostgres({
    major,
    settings: {
      ...(major >= 14 ? { logical_decoding_work_mem: "64kB" } : {}),
      max_prepared_transactions: "10",
    },
  });
  const sql = postgres(server.dsn, { max: 1, onnotice: () => {} });
  try {
    const lines = await capture(sql, major);
    if (major >= 14) lines.push(...await captureParts(server));
    const file = new URL(`./pg${major}.jsonl`, import.meta.url);
    const text = lines.map((line) => JSON.stringify(line) + "\n").join("");
    writeFileSync(file, text);
    console.log(`${lines.length} lines, ${text.length} bytes: ${file.pathname}`);
  } finally {
    await sql.end();
    await server.stop();
  }
}

async function capture(sql: postgres.Sql, major: number): Promise<unknown[]> {
  const [server] = await sql`SHOW server_version`;
  await sql.unsafe(`SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
    SET bytea_output = 'hex'; SET extra_float_digits = 3`);
  const changes = CHANGES.filter((change) => major >= 11 || !change.startsWith("TRUNCATE"));
  await sql.unsafe(TABLES);
  if (major >= 11) {
    await sql.unsafe(`${PARTED_TABLE} ${major >= 13 ? "parted" : "parted_eu, parted_us"}`);
    changes.push(PARTED_CHANGE);
  }
  if (major >= 15) {
    await sql.unsafe(FILTERED_TABLE);
    changes.push(...FILTERED_CHANGES);
  }
  if (major >= 18) {
    await sql.unsafe(GENERATED_TABLE);
    changes.push(...GENERATED_CHANGES);
  }
  await sql`SELECT pg_create_logical_replication_slot('golden_text', 'pgoutput')`;
  await sql`SELECT pg_create_logical_replication_slot('golden_binary', 'pgoutput')`;
  for (const change of changes) await sql.unsafe(change);

  const publications = major >= 18 ? "changes,inserts,generated" : "changes,inserts";
  return [
    { server: server!.server_version },
    ...await readSlot(sql, "text", publications, major >= 14 ? ["messages", "true"] : []),
    ...major >= 14 ? await readSlot(sql, "binary", "binaries", ["binary", "true"]) : [],
    ...await readTables(sql),
  ];
}

async function readSlot(
  sql: postgres.Sql,
  slot: GoldenSlot,
  publications: string,
  more: string[],
): Promise<GoldenMessage[]> {
  const decoder = new PgOutputDecoder();
  const changes = await sql`
    SELECT data FROM pg_logical_slot_get_binary_changes(${`golden_${slot}`}, NULL, NULL,
      VARIADIC ${["proto_version", "1", "publication_names", publications, ...more]}::text[])`;
  return changes.map(({ data }) => ({
    slot,
    hex: hexOf(data),
    message: goldenOf(decoder.decode(data)),
  }));
}

/**
 * Every table whose rows came whole and as text, with its values as pgoutput writes them:
 * `format()` calls the types' output functions.
 */
async function readTables(sql: postgres.Sql): Promise<GoldenTable[]> {
  const tables = await sql<{ schema: string; name: string; columns: string[]; key: string[] }[]>`
    SELECT n.nspname AS schema, c.relname AS name,
      array_agg(a.attname::text ORDER BY a.attnum) AS columns,
      array_agg(a.attname::text) FILTER (WHERE a.attnum = ANY (i.indkey)) AS key
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    WHERE c.relkind = 'r' AND n.nspname IN ('public', 'We"ird') AND c.relname <> 'in_binary'
    GROUP BY 1, 2 ORDER BY 1, 2`;
  const golden: GoldenTable[] = [];
  for (const { schema, name, columns, key } of tables) {
    const texts = columns.map((column) => {
      const quoted = `"${column.replaceAll('"', '""')}"`;
      return `CASE WHEN ${quoted} IS NOT NULL THEN format('%s', ${quoted}) END`;
    });
    const rows = await sql.unsafe(
      `SELECT ${texts.join(", ")} FROM "${schema.replaceAll('"', '""')}"."${name}" ORDER BY 1`,
    ).values();
    golden.push({
      table: `${schema}.${name}`,
      key,
      columns,
      rows: rows.map((row) => row.map(shortened)),
    });
  }
  return golden;
}
