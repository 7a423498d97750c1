/**
 * Plays a shape on a server, and looks at it in three ways: a stream that runs meanwhile, one that
 * comes late, and the bytes. Each has to tell exactly what is expected, and to leave what SELECT says.
 */

import { assert, assertEquals, assertInstanceOf, assertNotEquals } from "@std/assert";
import { PgStream, PgStreamError } from "../../mod.ts";
import { formatTableName } from "../../src/table_name.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { started, until, within } from "../support/streams.ts";
import { type Content, Model, sorted } from "./model.ts";
import { byteLevel, type Seen, seenOf } from "./seen.ts";
import type { Change, Script, Shape } from "./shape.ts";
import { MARKER, SqlWorld } from "./world.ts";

/** What the shapes need of a server. */
export function serverSettings(major: number): Record<string, string> {
  return {
    max_prepared_transactions: "5",
    // As little as may be, so that transactions of some size go by the disk.
    ...major >= 13 ? { logical_decoding_work_mem: "64kB" } : {},
  };
}

/** Where shapes are played. */
export interface Place {
  server: PostgresServer;
  /** Of the database for all shapes that take none of their own. */
  dsn: string;
}

const PATIENCE_MS = 60_000;
let played = 0;

/** Plays the shape. @throws where anything came otherwise than expected. */
export async function play(shape: Shape, { server, dsn }: Place): Promise<void> {
  const { major } = server;
  const script = shape.script(major);
  const name = `shape_${++played}`;
  if (script.database !== undefined) {
    const how = `TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ${script.database}`;
    await server.query(`CREATE DATABASE ${name} ${how}`);
    dsn = server.dsnOf(name);
  }
  const world = new SqlWorld({ dsn, major, name, schema: script.schema ?? name });
  try {
    await world.create(script);
    if (script.refused !== undefined) await refuse(script.refused, script, world);
    else await follow(script, world);
  } finally {
    await world.end();
    await shape.after?.(world);
  }
}

/** What is refused is refused before anything is made. */
async function refuse(kind: string, script: Script, world: SqlWorld): Promise<void> {
  const error = await streamOf(world, script.watch, world.name, []).setup()
    .then(() => null, (error) => error);
  await assertRefused(error, kind);
  assertEquals(await world.query(`SELECT FROM pg_publication WHERE pubname = '${world.name}'`), []);
  assertEquals(
    await world.query(`SELECT FROM pg_replication_slots WHERE slot_name = '${world.name}'`),
    [],
  );
}

function assertRefused(error: unknown, kind: string): void {
  assertNotEquals(error, null, `nothing was refused, where ${kind} was expected`);
  assertInstanceOf(error, PgStreamError);
  assertEquals(error.kind, kind, error.message);
  assert(error.hint, `no way out: ${error.message}`);
}

function streamOf(
  { dsn, schema, name }: SqlWorld,
  watch: string[],
  slotName: string,
  seen: Seen[],
): PgStream {
  const tables = watch.map((table) => formatTableName({ schema, table }));
  return new PgStream({ dsn, slotName, publicationName: name, logger: false })
    .watch(...tables).onChange((event) => void seen.push(seenOf(event)));
}

async function follow(script: Script, world: SqlWorld): Promise<void> {
  const { dsn, name, schema } = world;
  const watch = [...script.watch, MARKER];
  const live: Seen[] = [];
  const alongside = streamOf(world, watch, name, live);
  await alongside.setup();
  for (const slot of [`${name}_late`, `${name}_bytes`]) {
    await world.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
  }
  const running = await started(alongside);
  try {
    let failed: unknown = null;
    void running.ended.then((error) => failed = error);
    for (const step of script.steps) await world.run(step);
    await world.query(`INSERT INTO ${MARKER} DEFAULT VALUES`);
    await until("the marker in the stream that runs", () => {
      if (failed !== null) throw failed;
      return live.at(-1)?.table === MARKER;
    }, PATIENCE_MS);
    await running.stop();
  } finally {
    await alongside.stop();
  }
  const late = await comeLate(script, world);
  const options = { dsn, slotName: `${name}_bytes`, publicationName: name };
  const read = await within("the bytes", byteLevel(options, schema, MARKER), PATIENCE_MS);

  const contents = await world.contents(script);
  const by = script.by ?? "key";
  compare("the stream that ran", live, script.transactions, contents, by);
  compare("the bytes", read, script.transactions, contents, "row");
  assertEquals(coordinates(read), coordinates(live), "the bytes and the stream that ran");
  if (script.late === undefined) {
    compare("the stream that came late", late, script.transactions, contents, by);
    assertEquals(coordinates(late), coordinates(live), "the streams that ran and that came late");
  } else {
    const { watch } = script.late;
    const rest = live.filter(({ table }) => table === MARKER || watch.includes(table));
    assertEquals(late, rest, "the stream that came late");
  }
}

/** A stream that begins when all is over. */
async function comeLate({ watch, late }: Script, world: SqlWorld): Promise<Seen[]> {
  const seen: Seen[] = [];
  const catchUp = (watch: string[]) =>
    within(
      "what comes late",
      streamOf(world, [...watch, MARKER], `${world.name}_late`, seen).catchUp(),
      PATIENCE_MS,
    );
  if (late !== undefined) {
    assertRefused(await catchUp(watch).then(() => null, (error) => error), late.kind);
  }
  await catchUp(late?.watch ?? watch);
  return seen;
}

const coordinates = (seen: Seen[]) =>
  seen.map(({ lsn, ordinal, xid, commitTimeMs }) => ({ lsn, ordinal, xid, commitTimeMs }));

/** What came, against what was expected, and then against the tables. */
function compare(
  who: string,
  seen: Seen[],
  expected: Change[][] | null,
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
  if (expected !== null) {
    const wanted = expected.map((changes) => changes.map((change) => told(change, who)));
    assertEquals(transactions, wanted, who);
  }
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
    const left = `${who}: what is left of ${table}`;
    assertEquals(sorted(model.rows, columns), sorted(rows, columns), left);
  }
}

/** What of a change each level tells. */
function told(change: Change, who: string): Change {
  return who === "the bytes"
    ? { ...change, key: null, oldKey: null }
    : { ...change, options: null };
}
