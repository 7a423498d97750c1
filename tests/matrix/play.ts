/**
 * Plays shapes on a server, and looks at each in three ways: a stream that runs meanwhile, one that
 * comes late, and the bytes. Each has to tell exactly what is expected, and to leave what SELECT says.
 */

import { assertEquals, assertInstanceOf, assertNotEquals } from "@std/assert";
import { PgStream, PgStreamError } from "../../mod.ts";
import { formatTableName } from "../../src/table_name.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { started, until, within } from "../support/streams.ts";
import { compare, coordinates } from "./compare.ts";
import { byteLevel, type Seen, seenOf } from "./seen.ts";
import type { Script, Shape } from "./shape.ts";
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

/** A shape that is being played. */
interface Part {
  script: Script;
  world: SqlWorld;
}

const PATIENCE_MS = 60_000;
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
async function refuse(kind: string, { script, world }: Part, name: string): Promise<Seen[]> {
  const error = await streamOf([{ watch: script.watch, world }], world.dsn, name, name, []).setup()
    .then(() => null, (error) => error);
  assertRefused(error, kind);
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

function streamOf(
  parts: { watch: string[]; world: SqlWorld }[],
  dsn: string,
  publicationName: string,
  slotName: string,
  seen: Seen[],
): PgStream {
  const tables = parts.flatMap(({ watch, world: { schema } }) =>
    [...watch, MARKER].map((table) => formatTableName({ schema, table }))
  );
  return new PgStream({ dsn, slotName, publicationName, logger: false })
    .watch(...tables).onChange((event) => void seen.push(seenOf(event)));
}

/** @throws where a stream cannot go on, so that nothing can be said of any part. */
async function follow(parts: Part[], dsn: string, name: string): Promise<Outcome[]> {
  const { schema, query } = parts.at(-1)!.world;
  const live: Seen[] = [];
  const watched = parts.map(({ script: { watch }, world }) => ({ watch, world }));
  const alongside = streamOf(watched, dsn, name, name, live);
  await alongside.setup();
  for (const slot of [`${name}_late`, `${name}_bytes`]) {
    await query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`);
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
  const late = await comeLate(parts, dsn, name);
  const options = { dsn, slotName: `${name}_bytes`, publicationName: name };
  const read = await within(
    "the bytes",
    byteLevel(options, { schema, table: MARKER }),
    PATIENCE_MS,
  );
  const outcomes: Outcome[] = [];
  for (const [index, part] of parts.entries()) {
    const of = (seen: Seen[]) => seen.filter(({ schema }) => schema === part.world.schema);
    outcomes.push(
      index in failed
        ? { error: failed[index] }
        : await outcomeOf(() => check(part, of(live), of(late), of(read))),
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

/** A stream that begins when all is over. */
async function comeLate(parts: Part[], dsn: string, name: string): Promise<Seen[]> {
  const seen: Seen[] = [];
  const catchUp = (watched: { watch: string[]; world: SqlWorld }[]) => {
    const stream = streamOf(watched, dsn, name, `${name}_late`, seen);
    return within("what comes late", stream.catchUp(), PATIENCE_MS);
  };
  const all = parts.map(({ script: { watch }, world }) => ({ watch, world }));
  const late = parts[0]!.script.late;
  if (late !== undefined) {
    assertRefused(await catchUp(all).then(() => null, (error) => error), late.kind);
  }
  await catchUp(late === undefined ? all : [{ ...all[0]!, watch: late.watch }]);
  return seen;
}

async function check(
  { script, world }: Part,
  live: Seen[],
  late: Seen[],
  read: Seen[],
): Promise<Seen[]> {
  const contents = await world.contents(script);
  compare("the stream that ran", live, script, contents);
  compare("the bytes", read, script, contents);
  assertEquals(coordinates(read), coordinates(live), "the bytes and the stream that ran");
  if (script.late === undefined) {
    compare("the stream that came late", late, script, contents);
    assertEquals(coordinates(late), coordinates(live), "the streams that ran and that came late");
  } else {
    const { watch } = script.late;
    const rest = live.filter(({ table }) => table === MARKER || watch.includes(table));
    assertEquals(late, rest, "the stream that came late");
  }
  return live;
}
