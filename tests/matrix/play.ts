/**
 * Plays a shape on a server, and looks at it in three ways: a stream that runs meanwhile, one that
 * comes late, and the bytes. Each has to tell exactly what is expected, and to leave what SELECT says.
 */

import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { PgStream } from "../../mod.ts";
import { formatTableName } from "../../src/table_name.ts";
import { openClient, started, until, within } from "../support/streams.ts";
import { type Content, Model, sorted } from "./model.ts";
import { byteLevel, type Seen, seenOf } from "./seen.ts";
import type { Change, Script, Shape, Step, World } from "./shape.ts";

/** Where shapes are played: a database of its own for all of them. */
export interface Place {
  dsn: string;
  major: number;
}

/** What the shapes need of a server. */
export const SERVER_SETTINGS: Record<string, string> = { max_prepared_transactions: "5" };

/** Changes of it tell that all before them has come. */
const MARKER = "matrix_marker";
// As a stream reads: what SELECT prints is compared with what it tells.
const SETTINGS =
  `SET client_encoding = 'UTF8'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
  SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 3; SET search_path = ''`;
const PATIENCE_MS = 60_000;
let played = 0;

/** Plays the shape. @throws where anything came otherwise than expected. */
export async function play(shape: Shape, place: Place): Promise<void> {
  const script = shape.script(place.major);
  const name = `shape_${++played}`;
  const world = new SqlWorld(place, script.schema ?? name, name);
  const streams: PgStream[] = [];
  try {
    await world.create(script);
    const watched = [...script.watch, MARKER].map((table) =>
      formatTableName({ schema: world.schema, table })
    );
    const follow = (slotName: string, seen: Seen[]) => {
      const stream = new PgStream({
        dsn: place.dsn,
        slotName,
        publicationName: name,
        logger: false,
      }).watch(...watched).onChange((event) => void seen.push(seenOf(event)));
      streams.push(stream);
      return stream;
    };
    const [live, late]: [Seen[], Seen[]] = [[], []];
    const alongside = follow(name, live);
    await alongside.setup();
    const afterwards = follow(`${name}_late`, late);
    await afterwards.setup();
    const bytes = `${name}_bytes`;
    await world.query(`SELECT pg_create_logical_replication_slot('${bytes}', 'pgoutput')`);

    const running = await started(alongside);
    let failed: unknown = null;
    void running.ended.then((error) => failed = error);
    for (const step of script.steps) await world.run(step);
    await world.query(`INSERT INTO ${MARKER} DEFAULT VALUES`);
    await until("the marker in the stream that runs", () => {
      if (failed !== null) throw failed;
      return live.at(-1)?.table === MARKER;
    }, PATIENCE_MS);
    await running.stop();
    await within("what comes late", afterwards.catchUp(), PATIENCE_MS);
    const read = await within(
      "the bytes",
      byteLevel({ dsn: place.dsn, slotName: bytes, publicationName: name }, world.schema, MARKER),
      PATIENCE_MS,
    );

    const expected = typeof script.transactions === "function"
      ? await script.transactions(world)
      : script.transactions;
    const contents = await world.contents(script);
    compare("the stream that ran", live, expected, contents, "key");
    compare("the stream that came late", late, expected, contents, "key");
    assertEquals(coordinates(late), coordinates(live), "late and live differ in coordinates");
    compare("the bytes", read, expected, contents, "row");
    assertEquals(coordinates(read), coordinates(live), "bytes and events differ in coordinates");
  } finally {
    for (const stream of streams) {
      await stream.stop();
      await stream.teardown();
    }
    await shape.after?.(world);
    await world.end();
  }
}

const coordinates = (seen: Seen[]) =>
  seen.map(({ lsn, ordinal, xid, commitTimeMs }) => ({ lsn, ordinal, xid, commitTimeMs }));

/** What came, against what was expected, and then against the tables. */
function compare(
  who: string,
  seen: Seen[],
  expected: Change[][],
  contents: Content[],
  by: "key" | "row",
): void {
  const transactions: Change[][] = [];
  let lsn: bigint | null = null;
  for (const { change, schema, table, lsn: at, ordinal } of seen) {
    if (at !== lsn) {
      assert(lsn === null || at > lsn, `${who}: commits go backwards`);
      lsn = at;
      transactions.push([]);
    }
    assertEquals(ordinal, transactions.at(-1)!.length, `${who}: ordinal of ${schema}.${table}`);
    transactions.at(-1)!.push(change);
  }
  const marker = transactions.pop();
  assertEquals(marker?.map(({ table }) => table), [MARKER], `${who}: the marker`);
  assertEquals(
    transactions,
    expected.map((changes) => changes.map((change) => told(change, by))),
    who,
  );
  for (const { table, keyColumns, identity, columns, rows } of contents) {
    // Where there is no primary key, a store has nothing to go by but what is told of the old row.
    const keyed = by === "key" && keyColumns.length > 0;
    const model = new Model(keyed ? "key" : "row", keyed ? keyColumns : identity);
    try {
      for (const change of transactions.flat()) {
        if (change.table === table) model.apply(change);
      }
    } catch (error) {
      throw new Error(`${who}, kept in step with ${table}: ${(error as Error).message}`);
    }
    assertEquals(
      sorted(model.rows, columns),
      sorted(rows, columns),
      `${who}: what is left of ${table}`,
    );
  }
}

/** What of a change each level tells. */
function told(change: Change, by: "key" | "row"): Change {
  return by === "key" ? { ...change, options: null } : { ...change, key: null, oldKey: null };
}

/** The sessions of a shape. */
class SqlWorld implements World {
  readonly dsn: string;
  readonly major: number;
  readonly schema: string;
  readonly #name: string;
  readonly #sessions = new Map<string, postgres.Sql>();

  constructor({ dsn, major }: Place, schema: string, name: string) {
    this.dsn = dsn;
    this.major = major;
    this.schema = schema;
    this.#name = name;
  }

  get #quoted(): string {
    return `"${this.schema.replaceAll('"', '""')}"`;
  }

  async create({ before, publication }: Script): Promise<void> {
    await this.query(`CREATE SCHEMA ${this.#quoted}`, "creator");
    await this.query(`CREATE TABLE ${MARKER} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`);
    if (before !== "") await this.query(before);
    if (publication === undefined) return;
    const text = publication.replaceAll("$marker", MARKER);
    await this.query(`CREATE PUBLICATION "${this.#name}" ${text}`);
  }

  async query(sql: string, session = "main"): Promise<Record<string, unknown>[]> {
    return [...await (await this.#session(session)).unsafe(sql)];
  }

  async run(step: Step): Promise<void> {
    if (typeof step === "function") return void await step(this);
    if (typeof step === "string") return void await this.query(step);
    const { sql, session, fails } = step;
    const code = await this.query(sql, session).then(() => undefined, (error) => error.code);
    assertEquals(code, fails, sql);
  }

  /** What SELECT says, printed by the output functions: a cast to text would say `true` for `t`. */
  async contents({ watch, model = {} }: Script): Promise<Content[]> {
    if (typeof model === "string") return [];
    const session = openClient(this.dsn);
    try {
      await session.unsafe(SETTINGS);
      const contents: Content[] = [];
      for (const table of watch) {
        const [oid] = await session`SELECT c.oid::text FROM pg_class c
          JOIN pg_namespace n ON n.oid = relnamespace
          WHERE nspname = ${this.schema} AND relname = ${table}`;
        if (oid === undefined) continue;
        contents.push({
          table,
          ...await contentOf(session, oid.oid, this.major, `${this.#quoted}.${quote(table)}`, {
            ...model[table],
          }),
        });
      }
      return contents;
    } finally {
      await session.end({ timeout: 1 });
    }
  }

  async #session(name: string): Promise<postgres.Sql> {
    let session = this.#sessions.get(name);
    if (session === undefined) {
      this.#sessions.set(name, session = openClient(this.dsn));
      if (name !== "creator") await session.unsafe(`SET search_path = ${this.#quoted}, public`);
    }
    return session;
  }

  async end(): Promise<void> {
    const main = this.#sessions.get("main");
    await main?.unsafe(`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
      WHERE slot_name = '${this.#name}_bytes' AND NOT active`);
    await main?.unsafe(`DROP PUBLICATION IF EXISTS "${this.#name}"`);
    await Promise.all([...this.#sessions.values()].map((session) => session.end({ timeout: 1 })));
  }
}

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

async function contentOf(
  session: postgres.Sql,
  oid: string,
  major: number,
  name: string,
  { columns: chosen, where = "true" }: { columns?: string[]; where?: string },
): Promise<Omit<Content, "table">> {
  const place = (kind: string) =>
    `(SELECT array_position(string_to_array(indkey::text, ' '), attnum::text) FROM pg_index
      WHERE indrelid = attrelid AND ${kind})`;
  const all = await session.unsafe<{ name: string; key: number | null; identity: number | null }[]>(
    `SELECT attname AS name, ${place("indisprimary")} AS key, ${place("indisreplident")} AS identity
    FROM pg_attribute WHERE attrelid = ${oid} AND attnum > 0 AND NOT attisdropped
      ${major >= 12 ? "AND attgenerated = ''" : ""} ORDER BY attnum`,
  );
  const columns = chosen ?? all.map(({ name }) => name);
  const namesOf = (index: "key" | "identity") =>
    all.filter((column) => column[index] !== null)
      .sort((a, b) => a[index]! - b[index]!).map(({ name }) => name);
  const keyColumns = namesOf("key");
  const other = namesOf("identity");
  const identity = other.length > 0 ? other : keyColumns;
  const selected = columns.length === 0 ? "" : columns.map(quote).join();
  const found = await session.unsafe(`SELECT ${selected} FROM ${name} WHERE ${where}`).raw();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const rows = found.map((values) => {
    const row: Record<string, string | null> = Object.create(null);
    columns.forEach((column, index) => {
      const value = (values as unknown as (Uint8Array | null)[])[index];
      row[column] = value == null ? null : decoder.decode(value);
    });
    return row;
  });
  return { keyColumns, identity, columns, rows };
}
