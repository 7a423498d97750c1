/**
 * Plays shapes on a server, and looks at each in several ways: a stream that runs meanwhile, one that
 * comes late, one with lanes, and the bytes, whole and in parts. Each has to tell exactly what is expected,
 * and to leave what SELECT says.
 */

import { assertEquals, assertInstanceOf, assertNotEquals } from "@std/assert";
import {
  MemoryStateStore,
  PgStream,
  PgStreamError,
  type PgStreamOptions,
  type ReplicationStreamOptions,
} from "../../mod.ts";
import { formatTableName } from "../../src/table_name.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { started, until, within, withServerOptions } from "../support/streams.ts";
import { compare, coordinates, inOrder, type Witness } from "./compare.ts";
import { byteLevel, type Seen, seenOf } from "./seen.ts";
import { sorted } from "./model.ts";
import type { Script, Shape, Texts } from "./shape.ts";
import { MARKER, Sessions, SqlWorld } from "./world.ts";

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

/** What became of a shape: what came and where it stood, or what was wrong. */
export type Outcome = { seen: Seen[] } | { error: unknown };

/** A row that was read. */
interface Read {
  schema: string;
  table: string;
  row: Texts;
}

/** A shape that is being played. */
interface Part {
  script: Script;
  world: SqlWorld;
}

const PATIENCE_MS = 60_000;
/** Each change as soon as it is decoded, whatever its transaction comes to. */
const IN_SMALLEST_PARTS = "-c debug_logical_replication_streaming=immediate";
let played = 0;

/** Plays one shape, with a publication and slots of its own. */
export async function playAlone(shape: Shape, place: Place): Promise<Outcome> {
  const [outcome] = await playParts([shape], place);
  return outcome!;
}

/** Plays shapes with as few streams as may be: those that allow it share one, on all their tables. */
export async function playTogether(shapes: readonly Shape[], place: Place): Promise<Outcome[]> {
  const major = place.server.major;
  const sharing = shapes.filter((shape) => {
    const { database, publication, refused, late } = shape.script(major);
    return [database, publication, refused, late].every((own) => own === undefined);
  });
  const together = await playParts(sharing, place)
    // What ends the stream ends it for all: each by itself, then, to see which it was.
    .catch(() => null);
  const outcomes: Outcome[] = [];
  for (const shape of shapes) {
    const index = sharing.indexOf(shape);
    const shared = index === -1 ? undefined : together?.[index];
    outcomes.push(
      shared ?? await playAlone(shape, place).catch((error) => ({ error })),
    );
  }
  return outcomes;
}

async function playParts(shapes: readonly Shape[], { server, dsn }: Place): Promise<Outcome[]> {
  const { major } = server;
  const name = `shape_${++played}`;
  const scripts = shapes.map((shape) => shape.script(major));
  const [database] = scripts.flatMap(({ database }) => database ?? []);
  if (database !== undefined) {
    const how = `TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ${database}`;
    await server.query(`CREATE DATABASE ${name} ${how}`);
    dsn = server.dsnOf(name);
  }
  const sessions = new Sessions(dsn);
  const parts: Part[] = [];
  try {
    for (const [index, script] of scripts.entries()) {
      const schema = script.schema ?? `${name}_${index}`;
      parts.push({ script, world: new SqlWorld(sessions, { major, schema }) });
      await parts[index]!.world.create(script, name);
    }
    const [first] = parts;
    if (first === undefined) return [];
    if (first.script.refused === undefined) return await follow(parts, dsn, name);
    return [await outcomeOf(() => refuse(first.script.refused!, first, name))];
  } finally {
    await parts[0]?.world.dropShared(name);
    await sessions.end();
  }
}

/** What is refused is refused before anything is made. */
async function refuse(kind: string, part: Part, name: string): Promise<Seen[]> {
  const { world } = part;
  const stream = streamOf([part], { dsn: world.dsn, publicationName: name, slotName: name });
  assertRefused(await stream.setup().then(() => null, (error) => error), kind);
  const made = (table: string, column: string) =>
    world.query(`SELECT FROM ${table} WHERE ${column} = '${name}'`);
  assertEquals(await made("pg_publication", "pubname"), []);
  assertEquals(await made("pg_replication_slots", "slot_name"), []);
  return [];
}

function assertRefused(error: unknown, kind: string): void {
  assertNotEquals(error, null, `nothing was refused, where ${kind} was expected`);
  assertInstanceOf(error, PgStreamError);
  assertEquals(error.kind, kind, error.message);
  assertNotEquals(error.hint ?? "", "", `no way out: ${error.message}`);
}

/** A stream of all tables of the parts. */
function streamOf(parts: Part[], options: PgStreamOptions): PgStream {
  const stream = new PgStream({ logger: false, ...options });
  for (const { script: { watch, options }, world: { schema } } of parts) {
    for (const table of [...watch, MARKER]) {
      const name = formatTableName({ schema, table });
      const told = options?.[table];
      if (told === undefined) stream.watch(name);
      else stream.watch(name, told);
    }
  }
  return stream;
}

/** How the bytes are read. */
function waysOf(
  major: number,
): { who: Witness; slot: string; options: ReplicationStreamOptions }[] {
  return [
    { who: "the bytes" as const, slot: "bytes", options: {} },
    ...major >= 14
      ? [{ who: "the bytes in parts" as const, slot: "parts", options: { streaming: true } }]
      : [],
    ...major >= 16
      ? [{
        who: "the bytes in the smallest parts" as const,
        slot: "smallest",
        options: { streaming: "parallel" as const },
      }]
      : [],
  ];
}

/** @throws where a stream cannot go on, so that nothing can be said of any part. */
async function follow(parts: Part[], dsn: string, name: string): Promise<Outcome[]> {
  const { schema, query, major } = parts.at(-1)!.world;
  const live: Seen[] = [];
  const alongside = streamOf(parts, { dsn, publicationName: name, slotName: name })
    .onChange((event) => void live.push(seenOf(event)));
  await alongside.setup();
  const ways = waysOf(major);
  for (const slot of ["late", "lanes", ...ways.map(({ slot }) => slot)]) {
    await query(`SELECT pg_create_logical_replication_slot('${name}_${slot}', 'pgoutput')`);
  }
  const running = await started(alongside);
  const failed: unknown[] = [];
  try {
    let ended: unknown = null;
    void running.ended.then((error) => ended = error);
    for (const [index, { script, world }] of parts.entries()) {
      try {
        for (const step of script.steps) await world.run(step);
      } catch (error) {
        failed[index] = error;
      }
      await world.query(`INSERT INTO ${MARKER} DEFAULT VALUES`, "marker");
    }
    await until("the marker in the stream that runs", () => {
      if (ended !== null) throw ended;
      return live.at(-1)?.table === MARKER && live.at(-1)?.schema === schema;
    }, PATIENCE_MS);
    await running.stop();
  } finally {
    await alongside.stop();
  }
  const seen = new Map<Witness, Seen[]>([["the stream that ran", live]]);
  seen.set("the stream that came late", await comeLate(parts, dsn, name, "late"));
  seen.set("the stream with lanes", inOrder(await comeLate(parts, dsn, name, "lanes")));
  for (const { who, slot, options } of ways) {
    const read = byteLevel({
      dsn: slot === "smallest" ? withServerOptions(dsn, IN_SMALLEST_PARTS) : dsn,
      slotName: `${name}_${slot}`,
      publicationName: name,
      inParts: slot === "smallest",
      ...options,
    }, { schema, table: MARKER });
    seen.set(who, await within(who, read, PATIENCE_MS));
  }
  const rows = await readAgain(parts, dsn, name);
  const outcomes: Outcome[] = [];
  for (const [index, part] of parts.entries()) {
    outcomes.push(
      index in failed ? { error: failed[index] } : await outcomeOf(() => check(part, seen, rows)),
    );
  }
  return outcomes;
}

async function outcomeOf(work: () => Promise<Seen[]>): Promise<Outcome> {
  try {
    return { seen: await work() };
  } catch (error) {
    return { error };
  }
}

/** A stream that begins when all is over; on the slot for lanes, with several of them, and in batches. */
async function comeLate(
  parts: Part[],
  dsn: string,
  name: string,
  slot: "late" | "lanes",
): Promise<Seen[]> {
  const seen: Seen[] = [];
  const catchUp = (parts: Part[]) => {
    const options = { dsn, publicationName: name, slotName: `${name}_${slot}` };
    const stream = slot === "late"
      ? streamOf(parts, options).onChange((event) => void seen.push(seenOf(event)))
      : streamOf(parts, { ...options, concurrency: 3 })
        .onBatch((events) => void seen.push(...events.map(seenOf)));
    return within("what comes late", stream.catchUp(), PATIENCE_MS);
  };
  const [first] = parts;
  const late = first!.script.late;
  if (late === undefined) {
    await catchUp(parts);
  } else {
    assertRefused(await catchUp(parts).then(() => null, (error) => error), late.kind);
    await catchUp([{ ...first!, script: { ...first!.script, watch: late.watch } }]);
  }
  return seen;
}

/** The rows that are there when all is over, as a backfill reads them. */
async function readAgain(parts: Part[], dsn: string, name: string): Promise<Read[]> {
  const rows: Read[] = [];
  const wanted = parts.map(({ script, world }) => {
    const watch = script.late?.watch ?? script.watch;
    return { script: { ...script, watch }, world };
  });
  const stream = streamOf(wanted, {
    dsn,
    publicationName: name,
    slotName: `${name}_rows`,
    backfill: "initial",
    stateStore: new MemoryStateStore(),
  }).onChange(({ operation, schema, table, row, backfill }) => {
    assertEquals(backfill, true);
    // It goes before the rows of a table that has no primary key.
    if (operation === "truncate") return;
    assertEquals(operation, "insert");
    rows.push({ schema, table, row: { ...row } });
  });
  await stream.setup();
  const running = await started(stream);
  try {
    let ended: unknown = null;
    void running.ended.then((error) => ended = error);
    await until("the rows to be read", () => {
      if (ended !== null) throw ended;
      const markers = rows.filter(({ table }) => table === MARKER).length;
      return markers === parts.length && stream.status().backfill === null;
    }, PATIENCE_MS);
    await running.stop();
  } finally {
    await stream.stop();
  }
  return rows;
}

async function check(
  { script, world }: Part,
  all: Map<Witness, Seen[]>,
  read: Read[],
): Promise<Seen[]> {
  const contents = await world.contents(script);
  const of = (who: Witness) => all.get(who)!.filter(({ schema }) => schema === world.schema);
  const live = of("the stream that ran");
  for (const who of all.keys()) {
    const seen = of(who);
    if (script.late !== undefined && /late|lanes/.test(who)) {
      const { watch } = script.late;
      const rest = live.filter(({ table }) => table === MARKER || watch.includes(table));
      assertEquals(seen, rest, who);
    } else {
      compare(who, seen, script, contents);
      assertEquals(coordinates(seen), coordinates(live), `${who}, and the stream that ran`);
    }
  }
  for (const { table, columns, rows } of await world.contents(script, true)) {
    const found = read.filter((each) => each.schema === world.schema && each.table === table)
      .map(({ row }) => row);
    assertEquals(sorted(found, columns), sorted(rows, columns), `the rows of ${table}, read again`);
  }
  return live;
}
