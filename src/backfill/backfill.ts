/** Hands out the rows that are there already, beside the changes: one table after the other. */
import { backoffMs, pause, type RetryLimits } from "../backoff.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import { isRetryable } from "../errors.ts";
import { type Lsn, parseLsn } from "../lsn.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { ChunkReader } from "./chunk_reader.ts";
import { BackfillError } from "./errors.ts";
import { type BackfillStatus, CANCELLED, Job, type JobOptions, noCondition } from "./job.ts";
import { standbyKeepsNoState } from "./postgres_state_store.ts";
import type { KnownServer, Progress } from "./progress.ts";
import { keyParts } from "./read_plan.ts";
import { RowFeed, type RowFeedOptions } from "./row_feed.ts";
import { waitForWriters, type Writer } from "./writers.ts";

/** Keys that are read again at once. */
const KEYS_AT_ONCE = 200;

/** The server that the stream comes from. */
export interface StreamedServer {
  known: KnownServer;
  /** `pg_postmaster_start_time()` as text. */
  startedAt: string;
  /** What was read up to here happened on the server's timeline too, if it is another one; null: all of it. */
  validUntil: Lsn | null;
  /** The watched tables. */
  tables: readonly (TableName & { oid: number })[];
}

/** What a backfill works with. */
export interface BackfillOptions extends RowFeedOptions {
  publicationName: string;
  /** The types of the run. */
  loadTypes: LoadTypes;
  /** True for watched tables of which all that is not done is done now. */
  initial: (table: TableName) => boolean;
  /** Called when all rows of such a table were handed out, in this process or an earlier one. */
  onFilled: (table: TableName) => void;
  progress: Progress;
  /** True where progress is to be known by the next process. */
  lasting: boolean;
  /** True where it is kept in the source database. */
  inSource: boolean;
  limits: { maxRows: number; maxBytes: number };
  /** Null: what fails once fails. */
  retry: RetryLimits | null;
}

/** One for each run of a stream. */
export class Backfill {
  readonly #options: BackfillOptions;
  readonly #reader: ChunkReader;
  readonly #feed: RowFeed;
  readonly #jobs: Job[] = [];
  /** Null while no stream runs. */
  #server: StreamedServer | null = null;
  /** True before the first connection. */
  #first = true;
  /** Resolves when there may be something to do. */
  #change: PromiseWithResolvers<void> = Promise.withResolvers();
  /** Why nothing is played any more. */
  #over: { reason: unknown } | null = null;

  /** Does nothing before `run()`. */
  constructor(options: BackfillOptions) {
    this.#options = options;
    this.#reader = new ChunkReader(options);
    this.#feed = new RowFeed(this.#reader, options);
  }

  /** True where nothing is left to do. */
  get idle(): boolean {
    return this.#jobs.length === 0;
  }

  /** True while the initial backfill of a table is under way, or is to come. */
  isFilling(table: TableName): boolean {
    const name = formatTableName(table);
    return this.#jobs.some((job) => job.initial && formatTableName(job.name) === name);
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

  /**
   * The stream has its slot, and nothing of it was read yet.
   *
   * @throws {BackfillError} of kind `state-store` where the progress cannot be kept.
   */
  async arrived(server: StreamedServer): Promise<void> {
    const { progress, lasting, inSource } = this.#options;
    const { known, validUntil } = server;
    if (inSource && known.standbyStartedAt !== undefined) throw standbyKeepsNoState();
    // Whoever stood by for the slot did so while another consumer went on.
    if (this.#first) await this.#unlessLost(this.load());
    this.#first = false;
    const elsewhere = progress.server !== null && progress.server.timeline !== known.timeline;
    if (elsewhere && validUntil !== null) {
      // What was read on the other timeline behind that point may never have happened on this one.
      progress.invalidate(({ lsn }) => lsn !== null && parseLsn(lsn) > validUntil);
      this.#cancelInitial();
    }
    // What changes of the others is confirmed from now on, and handed to nobody.
    const watched = new Set(server.tables.map(formatTableName));
    progress.invalidate(({ table }) => !watched.has(table));
    progress.server = known;
    this.#plan(server);
    if (lasting) await this.#unlessLost(progress.save());
    this.#server = server;
    this.#changed();
  }

  /** The stream goes on, and its standby is none any more. */
  async promoted(known: KnownServer): Promise<void> {
    const { progress, lasting } = this.#options;
    progress.server = known;
    // What a job has handled is about to be stored anyway: the store is called once at a time.
    if (lasting && this.idle) await this.#unlessLost(progress.save());
  }

  /** There is no stream. What is read and not queued yet may come too late. */
  lost(): void {
    this.#server = null;
    this.#options.handOver.lose();
  }

  /** Changes are about to be missed. Stored before they are: who is killed then must not look complete. */
  async beforeGap(): Promise<void> {
    const { progress, lasting } = this.#options;
    // What the store holds is older than that.
    this.#first = false;
    progress.invalidate();
    this.#cancelInitial();
    if (lasting) await progress.save();
  }

  /** Changes were missed. */
  async missed(): Promise<void> {
    await this.#unlessLost(this.beforeGap());
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
    const refused = this.#over?.reason ?? noCondition(options);
    if (this.#over !== null || refused !== null) {
      job.end(refused);
      return job.finished;
    }
    this.#jobs.push(job);
    this.#options.handOver.follow(job.name);
    this.#changed();
    return job.finished;
  }

  /** All of a table is handed out again. Nothing is taken back: who asks for it has nothing of it. */
  async again({ schema, table }: TableName): Promise<void> {
    const { progress, lasting } = this.#options;
    const name = formatTableName({ schema, table });
    progress.invalidate((other) => other.table === name);
    for (const other of progress.tables) if (other.table === name) other.void = false;
    if (lasting) await progress.save();
    if (this.#server !== null) this.#plan(this.#server);
    this.#changed();
  }

  /** Events were handled. */
  progressed(): void {
    this.#feed.progressed();
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
    const { progress: all, handOver, connector, initial, onFilled } = this.#options;
    for (const { oid, schema, table } of tables) {
      const name = { schema, table };
      if (!initial(name)) continue;
      const progress = all.of(oid, name);
      if (progress.done) onFilled(name);
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
    const { connector, handOver, onFilled } = this.#options;
    const { progress, name, signal } = job;
    let failure: { error: unknown } | null = null;
    job.begin(performance.now());
    try {
      const startOver = () => this.#reader.close();
      await this.#trying(job, (server) => this.#awaitWriters(job, server), startOver);
      while (!await this.#step(job));
      connector.logger.info(`The backfill of ${progress.table} is done: ${progress.rows} rows`);
      if (job.initial) onFilled(name);
    } catch (error) {
      failure = { error: signal.aborted ? signal.reason : error };
    }
    await this.#feed.dropAhead(job);
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
    await this.#feed.dropAhead(job);
    await this.#reader.close();
  }

  /** Changes that open transactions made before the table was published are never streamed. */
  async #awaitWriters({ name, progress, signal }: Job, server: StreamedServer): Promise<void> {
    const connection = await this.#reader.connection(signal);
    await waitForWriters(connection, oidOf(name, server), {
      signal,
      onWaiting: (writers) =>
        this.#options.connector.logger.warn(
          `The backfill of ${progress.table} waits for transactions that ` + (writers === null
            ? "were open on the primary when it began. Which, a standby does not tell; on the primary: " +
              "SELECT pid, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL; " +
              "SELECT gid FROM pg_prepared_xacts;"
            : `have changed the table and are open: ${writers.map(formatWriter).join(", ")}`),
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
        if (plan.primaryKey.length === 0) return await this.#feed.whole(job, wanted, server);
        if (keys.length > 0) wanted.keys = keys.map((key) => keyParts(plan, key));
        return await this.#feed.chunk(job, wanted, server);
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

function oidOf({ schema, table }: TableName, { tables }: StreamedServer): number {
  return tables.find((other) => other.schema === schema && other.table === table)!.oid;
}

function formatWriter({ pid, gid }: Writer): string {
  return pid === null ? `prepared transaction ${JSON.stringify(gid)}` : `PID ${pid}`;
}
