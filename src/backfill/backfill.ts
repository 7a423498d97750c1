/** Hands out the rows that are there already, beside the changes: one table after the other. */
import { backoffMs, pause, type RetryLimits } from "../backoff.ts";
import type { EventQueue } from "../delivery/event_queue.ts";
import { heldRowBytes } from "../delivery/event_builder.ts";
import { TrackedTransaction } from "../delivery/frontier.ts";
import type { Intake } from "../delivery/intake.ts";
import { isRetryable } from "../errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../lsn.ts";
import { withDeadline } from "../replication/deadline.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import { type Chunk, ChunkReader, type Wanted } from "./chunk_reader.ts";
import { BackfillError } from "./errors.ts";
import type { HandOver, Window } from "./hand_over.ts";
import { type BackfillStatus, Job, type JobOptions } from "./job.ts";
import type { KnownServer, Progress } from "./progress.ts";
import type { ReadPlan } from "./read_plan.ts";
import { waitForWriters, type Writer } from "./writers.ts";

/** Keys that are read again at once. */
const KEYS_AT_ONCE = 200;
/** How long a chunk may take. The stream stands still meanwhile: a dead connection must not hold it. */
const CHUNK_MS = 300_000;
/** A fraction of a millisecond's work. */
const ROWS_OF_TURN = 250;
/** How often to ask how far the stream is, while a chunk waits for it. */
const ASK_MS = 20;
/** Why a job is cancelled that may be planned anew. */
const CANCELLED = new Error("The backfill begins anew");

/** The server that the stream comes from. */
export interface StreamedServer extends KnownServer {
  /** `pg_postmaster_start_time()` as text. */
  startedAt: string;
  /** The slot's position. */
  confirmedLsn: Lsn;
  /** The watched tables. */
  tables: readonly (TableName & { oid: number })[];
}

/** What a backfill works with. */
export interface BackfillOptions {
  connector: Connector;
  publicationName: string;
  /** True: what is not done of the watched tables is done now. */
  initial: boolean;
  progress: Progress;
  /** True where progress is to be known by the next process. */
  lasting: boolean;
  handOver: HandOver;
  intake: Intake;
  queue: EventQueue;
  limits: { maxRows: number; maxBytes: number };
  /** Null: what fails once fails. */
  retry: RetryLimits | null;
  /** Asks the server how far the stream is. */
  ask: () => void;
}

/** One for each run of a stream. */
export class Backfill {
  readonly #options: BackfillOptions;
  readonly #reader: ChunkReader;
  readonly #jobs: Job[] = [];
  /** Null while no stream runs. */
  #server: StreamedServer | null = null;
  /** Resolves when there may be something to do. */
  #change: PromiseWithResolvers<void> = Promise.withResolvers();
  /** Why nothing is played any more. */
  #over: { reason: unknown } | null = null;
  /** Who waits for the rows that were queued. */
  #waiting: { transaction: TrackedTransaction; handled: () => void } | null = null;

  /** Does nothing before `run()`. */
  constructor(options: BackfillOptions) {
    this.#options = options;
    this.#reader = new ChunkReader(options);
  }

  /** True where nothing is left to do. */
  get idle(): boolean {
    return this.#jobs.length === 0;
  }

  /** How far the table is that is read now; null where none is. */
  get status(): BackfillStatus | null {
    return this.#jobs[0]?.status(performance.now()) ?? null;
  }

  /** The server that an earlier process knew; null where none is known. */
  async load(): Promise<KnownServer | null> {
    const { progress, lasting } = this.#options;
    if (lasting) await progress.load();
    return progress.server;
  }

  /** The stream has its slot, and nothing of it was read yet. */
  async arrived(server: StreamedServer): Promise<void> {
    const { progress, initial, lasting } = this.#options;
    const { systemId, timeline, confirmedLsn } = server;
    if (progress.server !== null && progress.server.timeline !== timeline) {
      // What was read on the other timeline behind that point may never have happened on this one.
      progress.invalidate(({ lsn }) => lsn !== null && parseLsn(lsn) > confirmedLsn);
      this.#cancelInitial();
    }
    progress.server = { systemId, timeline };
    if (initial) this.#plan(server);
    if (lasting) await this.#unlessLost(progress.save());
    this.#server = server;
    this.#changed();
  }

  /** There is no stream. What is read and not queued yet may come too late. */
  lost(): void {
    this.#server = null;
    this.#options.handOver.lose();
  }

  /** Changes were missed. */
  missed(): void {
    this.#options.progress.invalidate();
    this.#cancelInitial();
  }

  /** Another consumer has had the slot: how far it came, the store knows. */
  async overtaken(): Promise<void> {
    this.#cancelInitial();
    // Where that fails, what this process knows is older: some of it is handed out again.
    await this.#unlessLost(this.load());
  }

  /** Reads rows of a table, all or some, whatever was read of it before. Resolves when they are handled. */
  add(options: JobOptions): Promise<void> {
    const job = new Job(options);
    if (this.#over !== null) {
      job.end(this.#over.reason);
      return job.finished;
    }
    this.#jobs.push(job);
    this.#options.handOver.follow(job.name);
    this.#changed();
    return job.finished;
  }

  /** Events were handled. */
  progressed(): void {
    if (this.#waiting?.transaction.pending === 0) this.#waiting.handled();
  }

  /**
   * Plays jobs until the signal is aborted.
   *
   * @throws what an initial backfill failed by
   */
  async run(signal: AbortSignal): Promise<void> {
    const stop = () => {
      for (const job of this.#jobs) job.cancel(signal.reason);
      this.#changed();
    };
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop);
    try {
      while (!signal.aborted) {
        if (this.idle || this.#server === null) await this.#change.promise;
        else await this.#play(this.#jobs[0]!);
      }
    } finally {
      signal.removeEventListener("abort", stop);
      this.#over = { reason: signal.reason };
      this.#options.handOver.abandon();
      for (const job of this.#jobs.splice(0)) job.end(signal.reason);
      await this.#reader.close();
    }
  }

  /** What is not done yet. */
  #plan({ tables }: StreamedServer): void {
    const { progress: all, handOver, connector } = this.#options;
    for (const { oid, schema, table } of tables) {
      const name = { schema, table };
      const progress = all.of(oid, name);
      if (progress.done || this.#jobs.some((job) => job.progress === progress)) continue;
      handOver.follow(name);
      this.#jobs.push(new Job({ name, progress, initial: true }));
      const from = progress.after === null ? "begins" : `goes on behind row ${progress.rows}`;
      connector.logger.info(`The backfill of ${progress.table} ${from}`);
    }
  }

  #cancelInitial(): void {
    for (const job of this.#jobs.filter(({ initial }) => initial)) {
      job.cancel(CANCELLED);
      this.#jobs.splice(this.#jobs.indexOf(job), 1);
    }
    this.#options.handOver.abandon();
  }

  async #play(job: Job): Promise<void> {
    const { connector, handOver } = this.#options;
    const { progress, name, signal } = job;
    let failure: { error: unknown } | null = null;
    job.begin(performance.now());
    try {
      const startOver = () => this.#reader.close();
      await this.#trying(job, (server) => this.#awaitWriters(job, server), startOver);
      while (!await this.#step(job));
      connector.logger.info(`The backfill of ${progress.table} is done: ${progress.rows} rows`);
    } catch (error) {
      failure = { error: signal.aborted ? signal.reason : error };
    }
    await this.#dropAhead(job);
    await job.saved.catch(() => {});
    job.end(failure?.error);
    const place = this.#jobs.indexOf(job);
    // One that was cancelled may have been planned anew, and is followed on.
    if (place !== -1) this.#jobs.splice(place, 1);
    const table = formatTableName(name);
    if (!this.#jobs.some((other) => formatTableName(other.name) === table)) handOver.unfollow(name);
    if (failure !== null && job.initial && !signal.aborted) throw failure.error;
  }

  /**
   * Does what may fail with the connection until it succeeds.
   *
   * @throws what does not pass, or the reason of the job's signal
   */
  async #trying<T>(
    job: Job,
    work: (server: StreamedServer) => Promise<T>,
    cleanUp: () => Promise<void> = () => Promise.resolve(),
  ): Promise<T> {
    const { retry, connector } = this.#options;
    const { signal } = job;
    for (let failures = 1;; failures++) {
      while (this.#server === null && !signal.aborted) await this.#change.promise;
      signal.throwIfAborted();
      try {
        return await work(this.#server!);
      } catch (error) {
        await cleanUp();
        signal.throwIfAborted();
        if (error instanceof BackfillError && error.kind === "key-changed") job.restart();
        if (retry === null || failures > retry.attempts || !isRetryable(error)) throw error;
        const waitMs = backoffMs(failures, retry);
        connector.logger.warn(
          `The backfill of ${job.progress.table} failed, trying again in ${
            Math.round(waitMs)
          } ms: ` +
            (error as Error).message,
        );
        await pause(waitMs, signal);
      }
    }
  }

  /** Nothing of what is read, or was read ahead, is of use any more. */
  async #startOver(job: Job): Promise<void> {
    await this.#dropAhead(job);
    await this.#reader.close();
  }

  /** Changes that open transactions made before the table was published are never streamed. */
  async #awaitWriters({ name, progress, signal }: Job, server: StreamedServer): Promise<void> {
    const connection = await this.#reader.connection(signal);
    await waitForWriters(connection, oidOf(name, server), {
      signal,
      onWaiting: (writers) =>
        this.#options.connector.logger.warn(
          `The backfill of ${progress.table} waits for transactions that have changed the table and ` +
            `are open: ${writers.map(formatWriter).join(", ")}`,
        ),
    });
  }

  /** Hands out the next rows. @returns true where the job is done. */
  async #step(job: Job): Promise<boolean> {
    const { handOver } = this.#options;
    // What was read ahead has its place before anything that is read now.
    const most = job.ahead === null ? Math.min(KEYS_AT_ONCE, this.#reader.limit) : 0;
    const rereads = handOver.take(job.name, most);
    const named = rereads.length > 0 ? [] : job.nextKeys(most);
    const keys = rereads.length > 0 ? rereads.map(([key]) => key) : named;
    if (keys.length === 0 && job.progress.done) {
      await job.saved;
      return true;
    }
    let handled = false;
    try {
      handled = await this.#trying(job, async (server) => {
        const wanted = job.wanted(oidOf(job.name, server));
        const plan = await this.#reader.plan(wanted, job.signal);
        job.estimate(plan.estimatedRows);
        if (plan.primaryKey.length === 0) return await this.#whole(job, wanted, server);
        if (keys.length > 0) wanted.keys = keys.map((key) => keyValues(key, plan));
        return await this.#chunk(job, wanted, server);
      }, () => this.#startOver(job));
    } finally {
      if (handled) handOver.done(rereads);
      else handOver.putBack(job.name, rereads);
      if (!handled) job.putBack(named);
    }
    if (handled) this.#save(job);
    return false;
  }

  /** While the next rows are handed out: not those behind them. */
  #save(job: Job): void {
    const { progress, lasting } = this.#options;
    if (!job.initial || !lasting) return;
    // At once, though the stream may be told to stop by now: what is handled is handled.
    job.saved = progress.save().catch(() => this.#trying(job, () => progress.save()));
    job.saved.catch(() => {});
  }

  /** A chunk of rows behind the last one, or of keys. @returns false where it has to be read again. */
  async #chunk(job: Job, wanted: Wanted, server: StreamedServer): Promise<boolean> {
    const { progress, signal } = job;
    const { handOver, queue } = this.#options;
    const reading = job.ahead ?? this.#read(wanted, server, signal);
    job.ahead = null;
    try {
      const chunk = await reading;
      if (!await this.#arrives(chunk.window, signal)) return false;
      const saved = job.saved;
      const more = wanted.keys === undefined && !chunk.end && !handOver.wants(job.name);
      if (more) job.ahead = this.#readAhead({ ...wanted, after: chunk.last }, server, signal);
      const transaction = new TrackedTransaction(null);
      await this.#offer(job, chunk, transaction, progress.void);
      queue.commit(transaction);
      handOver.close(chunk.window);
      if (!await this.#handled(transaction, signal)) return false;
      // A process that is killed repeats two of what is read at once: a chunk.
      await saved;
      progress.lsn = formatLsn(chunk.window.lsn);
      progress.void = false;
      if (wanted.keys !== undefined) return true;
      progress.after = chunk.last ?? progress.after;
      progress.rows += chunk.count;
      progress.done = chunk.end;
      return true;
    } finally {
      if (signal.aborted || job.ahead === null) handOver.abandon();
    }
  }

  async #read(wanted: Wanted, server: StreamedServer, signal: AbortSignal): Promise<Chunk> {
    return await withDeadline(
      `reading rows of ${formatTableName(wanted.name)}`,
      CHUNK_MS,
      signal,
      (signal) => this.#reader.read(wanted, server.startedAt, signal),
    );
  }

  /** The server reads while rows are handed out. What it meets comes to light when its turn comes. */
  #readAhead(wanted: Wanted, server: StreamedServer, signal: AbortSignal): Promise<Chunk> {
    const reading = this.#read(wanted, server, signal);
    // So that it need not be asked for later.
    reading.then(() => this.#options.ask(), () => {});
    return reading;
  }

  /** What was read ahead is of no use any more. */
  async #dropAhead(job: Job): Promise<void> {
    const { ahead } = job;
    job.ahead = null;
    await ahead?.catch(() => {});
    this.#options.handOver.abandon();
  }

  /** All rows of a table that has no key to go on by. @returns false where that has to begin anew. */
  async #whole(job: Job, wanted: Wanted, { startedAt }: StreamedServer): Promise<boolean> {
    const { connector, queue } = this.#options;
    const { progress, signal } = job;
    if (job.partial) throw rowsAlike(progress.table);
    connector.logger.warn(
      `Table ${progress.table} has no primary key: it is read in one snapshot, behind a truncate event, ` +
        "and changes wait until all of it is handed out. Should that be interrupted, it begins anew.",
    );
    const transaction = new TrackedTransaction(null);
    let rows = 0;
    const done = await this.#reader.readWhole(wanted, startedAt, signal, {
      arrives: (window) => this.#arrives(window, signal),
      take: async (chunk) => {
        // Nothing tells a row that was handed out before from one that is handed out again.
        await this.#offer(job, chunk, transaction, chunk.first);
        rows += chunk.count;
      },
    });
    queue.commit(transaction);
    if (!done || !await this.#handled(transaction, signal)) return false;
    Object.assign(progress, { rows, done: true, void: false });
    return true;
  }

  /** Waits until the stream has come to the window. @returns false where it has to be opened anew. */
  async #arrives(window: Window, signal: AbortSignal): Promise<boolean> {
    const { ask, handOver } = this.#options;
    // A stream that is told to stop comes nowhere.
    const giveUp = () => handOver.abandon();
    if (signal.aborted) giveUp();
    signal.addEventListener("abort", giveUp);
    ask();
    const asking = setInterval(ask, ASK_MS);
    try {
      return await window.arrived && !window.spoilt;
    } finally {
      clearInterval(asking);
      signal.removeEventListener("abort", giveUp);
    }
  }

  /** Queues what is current of the rows. @param takeBack what was handed out of the table before is void */
  async #offer(
    { signal }: Job,
    { window, rows, waiting, at, plan }: Chunk,
    transaction: TrackedTransaction,
    takeBack: boolean,
  ): Promise<void> {
    const { intake, queue } = this.#options;
    const offer = intake.beside(rows.table);
    if (takeBack) offer(rows.truncate(at), 0, transaction);
    for (let row = 1; !signal.aborted && waiting.advance(); row++) {
      // Handlers that are quick never let the event loop turn, by which the next rows come.
      if (row % ROWS_OF_TURN === 0) await this.#reader.more();
      const { bytes, start, end } = waiting;
      const event = rows.insert(bytes, start, end, at);
      if (!window.isCurrent(event.key)) continue;
      offer(event, heldRowBytes(end - start, plan.columns.length), transaction);
      const room = queue.room();
      if (room !== null) await room;
    }
    queue.flush();
  }

  /** Waits until what was queued is handled. @returns false where the job was cancelled before. */
  async #handled(transaction: TrackedTransaction, signal: AbortSignal): Promise<boolean> {
    if (transaction.pending > 0 && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const stop = () => resolve();
      signal.addEventListener("abort", stop);
      this.#waiting = { transaction, handled: resolve };
      await promise;
      this.#waiting = null;
      signal.removeEventListener("abort", stop);
    }
    return transaction.pending === 0 && signal.reason !== CANCELLED;
  }

  /** The connection of the store is not the stream's: should it fail, the next chunk tries again. */
  async #unlessLost(work: Promise<unknown>): Promise<void> {
    try {
      await work;
    } catch (error) {
      if (!isRetryable(error)) throw error;
      this.#options.connector.logger.warn("The progress of the backfill was not stored", error);
    }
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}

function rowsAlike(table: string): BackfillError {
  return new BackfillError(`Table ${table} has no primary key: a part of it cannot be read again`, {
    kind: "no-primary-key",
    hint:
      "Nothing tells its rows from those that were handed out. Leave out where and keys: all of it " +
      "is handed out then, behind a truncate event.",
  });
}

/** An event's key as the values of the key's columns. */
function keyValues(key: string, { primaryKey }: ReadPlan): readonly string[] {
  return primaryKey.length === 1 ? [key] : JSON.parse(key);
}

function oidOf({ schema, table }: TableName, { tables }: StreamedServer): number {
  return tables.find((other) => other.schema === schema && other.table === table)!.oid;
}

function formatWriter({ pid, gid }: Writer): string {
  return pid === null ? `prepared transaction ${JSON.stringify(gid)}` : `PID ${pid}`;
}
