/**
 * A store that is kept in step with two tables, while who does it is killed, and told to stop, and loses
 * its server: in the end the store is as the tables are, on the way no row goes back, and what is embedded
 * again is what was in hand at an interruption.
 */

import { compareSourcePositions } from "../../../src/sinks/positions.ts";
import { parseLsn } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import { startOpenAi } from "../../support/servers/open_ai.ts";
import { sleep, started, until, within } from "../../support/streams.ts";
import { verdictOf } from "./oracle.ts";
import { ConsumerProcess } from "./process.ts";
import { FaultyProxy } from "./proxy.ts";
import type { RoundResult, Stage } from "./round.ts";
import { DIMENSIONS, type SyncPlan, syncStream } from "./sync_plan.ts";
import { type ChaosStore, compare, startStore, type StoredRow } from "./sync_store.ts";
import { MOST_PIECES, PIECES_ON_AVERAGE, SyncWorld } from "./sync_world.ts";
import { pick } from "./writer.ts";

const PATIENCE_MS = 60_000;
const DEFAULT_ROWS = 2000;
/** Rows for which the writer takes a second, and for which the consumer is interrupted once more. */
const ROWS_PER_SECOND = 600;
const ROWS_PER_INTERRUPTION = 1500;
const LEAST_INTERRUPTIONS = 3;
/** Rows up to which the store is looked at all the time, and not only when nobody writes to it. */
const MOST_WATCHED_ROWS = 5000;
const BETWEEN_LOOKS_MS = 300;
/** Texts of rows that come and go within what is not confirmed, at most: of a second. */
const MOST_GONE = 200;

/** One round; the seed says into which store. */
export function sync(stage: Stage, seed: number): Promise<RoundResult> {
  return syncInto(seed % 2 === 0 ? "pgvector" : "qdrant", stage, seed);
}

/** One round. */
export async function syncInto(
  kind: "pgvector" | "qdrant",
  stage: Stage,
  seed: number,
): Promise<RoundResult> {
  const result: RoundResult = {
    faults: {},
    verdicts: [],
    runtimes: [stage.runtimes[seed % stage.runtimes.length]!],
    figures: {},
    complaints: [],
  };
  /** What is to be left behind, the last thing first. */
  const made: (() => PromiseLike<unknown>)[] = [];
  try {
    const store = await startStore(kind);
    made.push(() => store.stop());
    const embedding = await startOpenAi({ dimensions: DIMENSIONS });
    made.push(() => embedding[Symbol.asyncDispose]());
    const world = await SyncWorld.create(stage.server, seed, stage.syncedRows ?? DEFAULT_ROWS);
    made.push(() => world.remove());
    const proxy = await FaultyProxy.listen(stage.server.port, seededRandom(seed));
    made.push(() => proxy[Symbol.asyncDispose]());
    const round = new SyncRound(stage, world, store, proxy, embedding.url, result);
    made.push(() => round.end());
    const embedded = countTexts(embedding.requests);
    await round.play();
    await round.judge(embedded());
  } catch (error) {
    result.complaints.push(error instanceof Error ? `${error.stack}` : String(error));
  } finally {
    for (const leave of made.reverse()) await leave();
  }
  return result;
}

/** How often each text is asked for, until the function that it returns is called; lets go of the requests. */
function countTexts(requests: { input: string[] }[]): () => Map<string, number> {
  const times = new Map<string, number>();
  const count = () => {
    for (const text of requests.splice(0).flatMap(({ input }) => input)) {
      times.set(text, (times.get(text) ?? 0) + 1);
    }
  };
  const timer = setInterval(count, 500);
  return () => {
    clearInterval(timer);
    count();
    return times;
  };
}

class SyncRound {
  readonly #stage: Stage;
  readonly #world: SyncWorld;
  readonly #store: ChaosStore;
  readonly #proxy: FaultyProxy;
  readonly #plan: SyncPlan;
  readonly #result: RoundResult;
  /** True where what is stored of the stream keeps all out that is older, also of rows that are gone. */
  readonly #strict: boolean;
  #process: ConsumerProcess | null = null;
  #processes = 0;
  #rows = new Map<string, StoredRow>();
  #streamLsn: string | null = null;
  /** Rows that went back. */
  readonly #back = new Set<string>();
  #differences: ReturnType<typeof compare> = { missing: [], wrong: [] };
  /** Times when what was in hand was lost. */
  #interruptions = 0;

  constructor(
    stage: Stage,
    world: SyncWorld,
    store: ChaosStore,
    proxy: FaultyProxy,
    embedUrl: string,
    result: RoundResult,
  ) {
    this.#stage = stage;
    this.#world = world;
    this.#store = store;
    this.#proxy = proxy;
    this.#result = result;
    const { seed } = world;
    const random = seededRandom(seed + 0x90000000);
    const concurrency = pick([1, 1, 4, 8], random);
    this.#strict = store.place.kind === "pgvector" && concurrency === 1;
    this.#plan = {
      options: {
        dsn: proxy.dsn(stage.server.dsn),
        slotName: `chaos_sync_${seed}`,
        concurrency,
        maxQueueBytes: pick([20_000, 8 * 1024 * 1024], random),
        backfillChunk: { maxRows: pick([50, 500, 5000], random), maxBytes: 1024 * 1024 },
        reconnect: { minDelayMs: 20, maxDelayMs: 500 },
      },
      tables: world.tables,
      store: store.place,
      embedUrl,
      maxEvents: pick([5, 20, world.rows > 5000 ? 1000 : 50], random),
      restartMs: pick([null, 1500], random),
      seed,
    };
  }

  /** Until nobody writes any more, and all of it was handled. */
  async play(): Promise<void> {
    const { rows } = this.#world;
    const { stream, end } = this.#stream();
    await stream.setup();
    await stream.stop();
    await end();
    const over = new AbortController();
    const writing = this.#world.write(
      rows / ROWS_PER_SECOND * 1000,
      over.signal,
      () => this.#count("TRUNCATE"),
    );
    const written = writing.finally(() => over.abort());
    written.catch(() => {});
    try {
      const least = LEAST_INTERRUPTIONS + rows / ROWS_PER_INTERRUPTION;
      while (!over.signal.aborted || this.#interruptions < least) await this.#live();
    } finally {
      over.abort();
      await written;
    }
    await this.#finish();
  }

  /** One process, and what is done to it. */
  async #live(): Promise<void> {
    const plan: SyncPlan = { ...this.#plan, seed: this.#plan.seed * 1000 + this.#processes++ };
    const process = await ConsumerProcess.start(this.#result.runtimes[0]!, "sync_consumer.ts", [
      JSON.stringify(plan),
    ]);
    this.#process = process;
    const gone = new AbortController();
    const watching = this.#watch(gone.signal);
    try {
      await this.#break(process);
    } finally {
      gone.abort();
      await watching;
    }
    for (const { word } of process.said) if (word === "again") this.#interrupted("stop and start");
    const { code } = process.exit!;
    if (code === 4) this.#interrupted("connection lost while it began");
    else if (code !== null && code !== 0) {
      throw new Error(`It ended with ${code}: ${process.errors.slice(0, 3000)}`);
    }
    await this.#look();
  }

  async #break(process: ConsumerProcess): Promise<void> {
    const { random } = this.#world;
    if (random() < 0.9) {
      const word = pick(["started", "streaming", "handling", "handling"], random);
      await Promise.race([process.heard(word), sleep(5000)]);
    }
    await sleep(random() ** 2 * 1500);
    for (let faults = random(); faults > 0.4; faults -= 0.2) await this.#disturb(process);
    if (process.exit === null && random() < 0.15) {
      process.signal("SIGTERM");
      await within("the consumer to stop", process.exited, 20_000);
      this.#interrupted("SIGTERM");
    } else {
      await process.kill();
      if (process.exit!.signal === "SIGKILL") this.#interrupted("kill -9");
    }
  }

  async #disturb(process: ConsumerProcess): Promise<void> {
    const { random } = this.#world;
    if (random() < 0.3) {
      // Before it has streamed once, a server that is not there is an error.
      if (await Promise.race([process.heard("streaming"), sleep(3000)]) === undefined) return;
      this.#count("fast restart");
      // One that has more to send than the consumer reads ahead waits for it, and is ended at once then.
      await this.#stage.server.shutdown("fast").catch(() =>
        this.#count("fast stop that took long")
      );
      await this.#stage.server.start();
    } else if (this.#proxy.cut(pick(["RST", "FIN"], random)) > 0) {
      this.#count("cut");
    }
    await sleep(random() * 700);
  }

  #interrupted(fault: string): void {
    this.#count(fault);
    this.#interruptions++;
  }

  #count(fault: string): void {
    const { faults } = this.#result;
    faults[fault] = (faults[fault] ?? 0) + 1;
  }

  /**
   * Until the signal is aborted. Not where it is PGlite, whose one backend would lose what a sink has begun:
   * statements without a name.
   */
  async #watch(signal: AbortSignal): Promise<void> {
    const isWatched = this.#world.rows <= MOST_WATCHED_ROWS &&
      this.#store.place.kind !== "pgvector";
    while (isWatched && !signal.aborted) {
      await this.#lookAtRows();
      await sleep(BETWEEN_LOOKS_MS);
    }
  }

  /** How they are, and how they were, must go together. */
  async #lookAtRows(): Promise<void> {
    const rows = await this.#store.rows();
    for (const [name, row] of rows) {
      const before = this.#rows.get(name);
      if (before && compareSourcePositions(row.position, before.position)! < 0) {
        this.#back.add(name);
      }
      if (!row.whole && this.#store.place.kind === "pgvector") this.#complain(`${name} is in part`);
    }
    this.#rows = rows;
  }

  #complain(text: string): void {
    this.#result.complaints.push(text);
  }

  /** Nobody writes to the store. */
  async #look(): Promise<void> {
    const { slotName } = this.#plan.options;
    const confirmed = await until("the slot to be free", async () => {
      const [slot] = await this.#world.query<{ lsn: string; pid: number | null }>(
        `SELECT confirmed_flush_lsn::text AS lsn, active_pid AS pid
        FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return slot!.pid === null ? slot!.lsn : null;
    }, PATIENCE_MS);
    await this.#lookAtRows();
    const streamLsn = await this.#store.streamLsn(slotName!);
    if (this.#streamLsn !== null && parseLsn(streamLsn!) < parseLsn(this.#streamLsn)) {
      this.#complain(`The stream's position went back from ${this.#streamLsn} to ${streamLsn}`);
    }
    this.#streamLsn = streamLsn;
    if (streamLsn !== null && parseLsn(streamLsn) < parseLsn(confirmed)) {
      this.#complain(`${confirmed} was confirmed, and ${streamLsn} is stored`);
    }
  }

  #stream() {
    const options = { ...this.#plan.options, dsn: this.#stage.server.dsn };
    return syncStream({ ...this.#plan, options }, () => {});
  }

  /** The last one, in this process. */
  async #finish(): Promise<void> {
    const { slotName } = this.#plan.options;
    const { stream, end } = this.#stream();
    const { docs } = this.#world.tables;
    try {
      const running = await started(stream);
      const [wal] = await this.#world.query<{ lsn: string }>(
        "SELECT pg_current_wal_lsn()::text AS lsn",
      );
      // A store learns of the position behind the last change when something changes, or in time.
      await this.#world.query(`INSERT INTO ${docs} VALUES (-2, 'the last', 'the last')`);
      const isFilled = () => (stream.status().backfill ?? null) === null;
      await until("all to be confirmed", async () => {
        const { state } = stream.status();
        if (state !== "streaming") throw await Promise.race([running.ended, state]);
        const [slot] = await this.#world.query<{ done: boolean }>(
          `SELECT confirmed_flush_lsn > '${wal!.lsn}'::pg_lsn AS done
          FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
        );
        return isFilled() && slot!.done;
      }, PATIENCE_MS + this.#world.rows * 5);
      // Before anything is mended.
      const wanted = await this.#world.wanted();
      this.#differences = compare(wanted, await this.#store.points());
      for (const table of Object.values(this.#world.tables)) {
        const report = await stream.verify(table, { repair: true });
        const { missing, stale, orphaned, unsettled, differences } = report;
        if (missing + stale + orphaned + unsettled === 0) continue;
        const found = JSON.stringify({ missing, stale, orphaned, unsettled, differences });
        this.#complain(`verify() says of ${table}: ${found.slice(0, 2000)}`);
      }
      await running.stop();
    } finally {
      await stream.stop();
      await end();
    }
    await this.#look();
  }

  /** @param embedded how often each text was asked for */
  async judge(embedded: ReadonlyMap<string, number>): Promise<void> {
    const { complaints, figures, verdicts } = this.#result;
    const { concurrency } = this.#plan.options;
    const { missing, wrong } = this.#differences;
    const { made, gone, changes, unsent } = await this.#world.history();
    const back = [...this.#back].filter((name) => this.#strict || !gone.has(name));
    let again = 0;
    let asked = 0;
    for (const [text, times] of embedded) {
      asked += times;
      again += Math.max(0, times - (made.get(text) ?? 0));
    }
    // At an interruption each lane has one batch in hand. Where no position of the stream is stored with the rows,
    // what was not confirmed comes again, too, and of it the rows that are gone by now are embedded.
    const inHand = concurrency! * this.#plan.maxEvents * PIECES_ON_AVERAGE;
    const most = this.#interruptions * (inHand + (this.#strict ? 0 : MOST_GONE)) +
      10 * MOST_PIECES + unsent;
    complaints.push(
      ...missing.slice(0, 5).map((name) => `missing: ${name}`),
      ...wrong.slice(0, 5),
      ...back.slice(0, 5).map((name) => `${name} went back`),
    );
    if (again > most) complaints.push(`${again} texts were embedded again, and ${most} may be`);
    verdicts.push(verdictOf({
      committed: changes,
      lost: missing.length,
      wrong: wrong.length,
      misordered: back.length,
      duplicates: again,
      unexplained: Math.max(0, again - most),
    }));
    figures["texts embedded again at an interruption"] = [again / this.#interruptions];
    figures["texts embedded for each that was written"] = [
      asked / [...made.values()].reduce((sum, times) => sum + times, 0),
    ];
    if (complaints.length > 0) {
      const { options, maxEvents, restartMs } = this.#plan;
      const { dsn: _, ...others } = options;
      const what = { ...others, maxEvents, restartMs, store: this.#store.place.kind };
      complaints.unshift(
        `seed ${this.#world.seed} on ${this.#stage.server.major}, by ${this.#result.runtimes[0]} ${
          JSON.stringify(what)
        }`,
      );
    }
  }

  /** Kills what still runs, and drops the slot. */
  async end(): Promise<void> {
    await this.#process?.kill();
    const { stream, end } = this.#stream();
    await until("the slot to be dropped", async () => {
      return await stream.teardown().then(() => true, () => sleep(100));
    }, PATIENCE_MS);
    await stream.stop();
    await end();
  }
}
