/** Puts the rows of a job into the queue, at their place in the stream. */
import { heldRowBytes } from "../delivery/event_builder.ts";
import type { EventQueue } from "../delivery/event_queue.ts";
import { TrackedTransaction } from "../delivery/frontier.ts";
import type { Intake } from "../delivery/intake.ts";
import { formatLsn } from "../lsn.ts";
import { withDeadline } from "../replication/deadline.ts";
import { formatTableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import type { Chunk, ChunkReader, Wanted } from "./chunk_reader.ts";
import { BackfillError } from "./errors.ts";
import type { HandOver, Window } from "./hand_over.ts";
import { CANCELLED, type Job } from "./job.ts";

/** How long a chunk may take. The stream stands still meanwhile: a dead connection must not hold it. */
const CHUNK_MS = 300_000;
/** A fraction of a millisecond's work. */
const ROWS_OF_TURN = 250;
/** How often to ask how far the stream is, while a chunk waits for it. */
const ASK_MS = 20;

/** What a feed works with. */
export interface RowFeedOptions {
  connector: Connector;
  handOver: HandOver;
  intake: Intake;
  queue: EventQueue;
  /** Asks the server how far the stream is. */
  ask: () => void;
}

/** The server that rows are read from, as `pg_postmaster_start_time()` names it. */
type Server = { startedAt: string };

/** Feeds the rows of one job at a time. */
export class RowFeed {
  readonly #reader: ChunkReader;
  readonly #options: RowFeedOptions;
  /** Who waits for the rows that were queued. */
  #waiting: { transaction: TrackedTransaction; handled: () => void } | null = null;

  /** Reads nothing yet. */
  constructor(reader: ChunkReader, options: RowFeedOptions) {
    this.#reader = reader;
    this.#options = options;
  }

  /** Events were handled. */
  progressed(): void {
    if (this.#waiting?.transaction.pending === 0) this.#waiting.handled();
  }

  /** A chunk of rows behind the last one, or of keys. @returns false where it has to be read again. */
  async chunk(job: Job, wanted: Wanted, server: Server): Promise<boolean> {
    const { progress, signal } = job;
    const { handOver, queue } = this.#options;
    const reading = job.ahead ?? this.#read(wanted, server, signal);
    job.ahead = null;
    try {
      const chunk = await reading;
      if (!await this.#arrives(chunk.window, signal)) return false;
      // What was handed out and is left out here would be taken back, and be nowhere.
      if (progress.void && chunk.window.isTouched) return false;
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

  async #read(wanted: Wanted, server: Server, signal: AbortSignal): Promise<Chunk> {
    return await withDeadline(
      `reading rows of ${formatTableName(wanted.name)}`,
      CHUNK_MS,
      signal,
      (signal) => this.#reader.read(wanted, server.startedAt, signal),
    );
  }

  /** The server reads while rows are handed out. What it meets comes to light when its turn comes. */
  #readAhead(wanted: Wanted, server: Server, signal: AbortSignal): Promise<Chunk> {
    const reading = this.#read(wanted, server, signal);
    // So that it need not be asked for later.
    reading.then(() => this.#options.ask(), () => {});
    return reading;
  }

  /** What was read ahead is of no use any more. */
  async dropAhead(job: Job): Promise<void> {
    const { ahead } = job;
    job.ahead = null;
    await ahead?.catch(() => {});
    this.#options.handOver.abandon();
  }

  /** All rows of a table that has no key to go on by. @returns false where that has to begin anew. */
  async whole(job: Job, wanted: Wanted, { startedAt }: Server): Promise<boolean> {
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
      arrives: (window) =>
        // The open snapshot may keep a standby from replaying what brings the stream here.
        this.#arrives(window, signal, "replayed" in window.snapshot ? CHUNK_MS : undefined),
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
  async #arrives(window: Window, signal: AbortSignal, withinMs?: number): Promise<boolean> {
    const { ask, handOver } = this.#options;
    // A stream that is told to stop comes nowhere.
    const giveUp = () => handOver.abandon();
    if (signal.aborted) giveUp();
    signal.addEventListener("abort", giveUp);
    ask();
    const asking = setInterval(ask, ASK_MS);
    const late = withinMs === undefined ? undefined : setTimeout(giveUp, withinMs);
    try {
      return await window.arrived && !window.spoilt;
    } finally {
      clearInterval(asking);
      clearTimeout(late);
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
}

function rowsAlike(table: string): BackfillError {
  return new BackfillError(`Table ${table} has no primary key: a part of it cannot be read again`, {
    kind: "no-primary-key",
    hint:
      "Nothing tells its rows from those that were handed out. Leave out where and keys: all of it " +
      "is handed out then, behind a truncate event.",
  });
}
