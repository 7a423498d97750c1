/** A round: one seed, one world, some consumers, and something that goes wrong meanwhile. */

import type { PostgresServer } from "../../support/servers/postgres.ts";
import type { RuntimeName } from "../../support/run/runtimes.ts";
import { until } from "../../support/streams.ts";
import type { Verdict } from "./oracle.ts";
import { Subject, type SubjectOptions } from "./subject.ts";
import { World } from "./world.ts";

/** Where rounds are played. */
export interface Stage {
  server: PostgresServer;
  /** Its standby, where consumers are to read from one; only in backfills' rounds. */
  standby?: PostgresServer;
  /** What consumers run on. */
  runtimes: readonly RuntimeName[];
  /** How long a round's writers write. */
  writingMs: number;
  /** How many events a round of `faults` has. */
  faultyEvents: number;
  /** How much a round of `retention` writes that nobody watches, in MB. */
  unwatchedMb: number;
  /** How many rows a round of `sync` begins with. Default: 2,000. */
  syncedRows?: number;
}

/** What came of a round. */
export interface RoundResult {
  /** What was done to it, by name. */
  faults: Record<string, number>;
  /** Of each consumer. */
  verdicts: Verdict[];
  runtimes: RuntimeName[];
  /** What was measured, by name. */
  figures: Record<string, number[]>;
  /** What is wrong, in words; none: all is well. */
  complaints: string[];
}

/** What goes wrong in a round. */
export interface Script {
  subjects: number;
  /** What a consumer is to be like, beside what the seed says. */
  subject?(world: World, index: number): Promise<Partial<SubjectOptions>>;
  /** Breaks things until the signal is aborted; counts what it did. */
  harm(play: Play): Promise<void>;
  /** Looks at what came of it. */
  judge?(play: Play): void;
}

/** What a script works with. */
export interface Play {
  world: World;
  subjects: readonly Subject[];
  /** Aborted when the writers are done. */
  written: AbortSignal;
  result: RoundResult;
  count(fault: string): void;
  /** Adds a measurement. */
  measure(figure: string, value: number): void;
}

/**
 * Plays while the server has less patience with who is silent. Not by the connection's own options: up
 * to 11 it cannot choose.
 */
export async function withWalSenderTimeout<T>(
  { server }: Stage,
  timeoutMs: number,
  play: () => Promise<T>,
): Promise<T> {
  const set = async (sql: string) => {
    await server.query(sql);
    await server.query("SELECT pg_reload_conf()");
  };
  await set(`ALTER SYSTEM SET wal_sender_timeout = ${timeoutMs}`);
  await until("the setting to be known", async () => {
    const [row] = await server.query<{ setting: string }>(
      "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'",
    );
    return row!.setting === `${timeoutMs}`;
  });
  try {
    return await play();
  } finally {
    await set("ALTER SYSTEM RESET wal_sender_timeout");
  }
}

/** How often writing begins anew where nothing was broken meanwhile. */
const MOST_WRITINGS = 5;

/** Plays a round, and leaves nothing behind but the logs of one that failed. */
export async function playRound(stage: Stage, seed: number, script: Script): Promise<RoundResult> {
  const world = await World.create(stage.server, seed);
  const subjects: Subject[] = [];
  const result: RoundResult = {
    faults: {},
    verdicts: [],
    runtimes: [],
    figures: {},
    complaints: [],
  };
  try {
    for (let index = 0; index < script.subjects; index++) {
      const options = { runtimes: stage.runtimes, ...await script.subject?.(world, index) };
      subjects.push(await Subject.create(world, index, options));
    }
    const written = new AbortController();
    const play: Play = {
      world,
      subjects,
      written: written.signal,
      result,
      count: (fault) => result.faults[fault] = (result.faults[fault] ?? 0) + 1,
      measure: (figure, value) => (result.figures[figure] ??= []).push(value),
    };
    const write = async () => {
      // On a machine that is busy, a consumer may begin to stream only when all is written.
      for (let times = 0; times < MOST_WRITINGS; times++) {
        await world.write(stage.writingMs);
        if (Object.keys(result.faults).length > 0) break;
      }
    };
    await Promise.all([write().finally(() => written.abort()), script.harm(play)]);
    await Promise.all(subjects.map(async (subject) => {
      const verdict = await subject.finish(await world.truth());
      result.verdicts.push(verdict);
      result.runtimes.push(subject.runtime);
      result.complaints.push(...verdict.complaints.map((text) => subject.complaint(text)));
    }));
    script.judge?.(play);
  } catch (error) {
    result.complaints.push(error instanceof Error ? `${error.stack}` : String(error));
  } finally {
    const failed = result.complaints.length > 0;
    await Promise.all(subjects.map((subject) => subject.remove(failed)));
    await world.remove();
  }
  return result;
}
