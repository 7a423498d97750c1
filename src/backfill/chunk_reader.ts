/** Reads rows in chunks, each in a snapshot whose place in the stream is known. */
import { pause } from "../backoff.ts";
import { type ReadAt, RowEvents } from "../delivery/row_events.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import { readReplayedLsn } from "../replication/standby.ts";
import type { TableName } from "../table_name.ts";
import { splitCopyRow } from "../values/copy_text.ts";
import type { Connection } from "../wire/connection.ts";
import { Backlog, type Block } from "../wire/backlog.ts";
import type { Connector } from "../wire/connector.ts";
import type { Span } from "../wire/frames.ts";
import { keyChanged, otherServer, tableGone } from "./errors.ts";
import type { HandOver, Window } from "./hand_over.ts";
import { look, lookSql } from "./look.ts";
import { planValues } from "./plan_values.ts";
import { chunkSql, keysSql, lockSql, type ReadPlan, readPlan, tableSql } from "./read_plan.ts";
import { connectForReading, explainReadError } from "./reading.ts";

/** How long hand-out stands still for a snapshot that shows all that was handed out. */
const STAND_STILL_MS = 200;
const BETWEEN_SNAPSHOTS_MS = 5;
/** Rows of a table's first chunk, when nobody knows how wide they are. */
const FIRST_ROWS = 1000;
/** How long it then goes on, before the next try. */
const BETWEEN_TRIES_MS = 100;

/** What a reader works with. */
export interface ChunkReaderOptions {
  connector: Connector;
  publicationName: string;
  handOver: HandOver;
  /** The types of the run. */
  loadTypes: LoadTypes;
  /** The rows that are read at once at most, and about what they hold in memory. */
  limits: { maxRows: number; maxBytes: number };
}

/** Which rows are read. */
export interface Wanted {
  oid: number;
  name: TableName;
  /** Those behind this key, in the key's order; null: from the first one on. */
  after: readonly string[] | null;
  /** Those of these keys, in place of those behind one. */
  keys?: readonly (readonly string[])[];
  /** Those for which this SQL condition holds. */
  where?: string;
}

/** Rows as they came, before it is known which of them are stale. */
export interface Chunk {
  window: Window;
  plan: ReadPlan;
  /** Makes events of them. */
  rows: RowEvents;
  at: ReadAt;
  /** The rows. As bytes, since what waits as objects costs a process several times as much. */
  waiting: Backlog;
  count: number;
  /** The key of the last row; null where there is none. */
  last: readonly string[] | null;
  /** True where no row is behind it. */
  end: boolean;
  /** False for a further part of what was read in the same snapshot. */
  first: boolean;
}

/** A snapshot that is open on the reader's connection, and its place in the stream. */
interface Opened {
  window: Window;
  plan: ReadPlan;
  rows: RowEvents;
  at: ReadAt;
}

/** Holds one connection, and a transaction on it for as long as a chunk is read. */
export class ChunkReader {
  readonly #options: ChunkReaderOptions;
  #connection: Connection | null = null;
  /** True where it is one to a standby, which may be promoted. */
  #standby = false;
  /** Where `look` is prepared, and for which table. */
  #prepared: { connection: Connection; oid: number } | null = null;
  #plan: ReadPlan | null = null;
  #rows: RowEvents | null = null;
  /** Chunks come one after the other. */
  readonly #spare: Block[] = [];
  /** True while a chunk is being read. */
  #reading = false;
  /** Tells who waits for it that more of the chunk has come. */
  #onMore: () => void = () => {};
  /** Rows of the next chunk: fewer than the most where they turn out to be wide. */
  #limit: number;

  /** Connects when it is asked. */
  constructor(options: ChunkReaderOptions) {
    this.#options = options;
    this.#limit = Math.min(options.limits.maxRows, FIRST_ROWS);
  }

  /** How many rows the next chunk has at most. */
  get limit(): number {
    return this.#limit;
  }

  /** The connection that rows are read on. */
  async connection(signal: AbortSignal): Promise<Connection> {
    if (this.#connection === null || this.#connection.closed) {
      const connection = await connectForReading(this.#options.connector, signal);
      this.#connection = connection;
      this.#standby = await readReplayedLsn(connection, signal) !== null;
    }
    return this.#connection;
  }

  /** Closes the connection: the next chunk makes another one. */
  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    await connection?.close();
  }

  /**
   * While a chunk is being read, lets the event loop turn until more of it has come, or for a
   * millisecond or so. A turn by `setImmediate` would not do: on Deno, sockets are looked at in one
   * such turn of 61.
   */
  more(): Promise<void> | null {
    if (!this.#reading) return null;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 0);
      this.#onMore = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /**
   * Reads a chunk, and opens its window: the stream stands still at its place until that is closed.
   *
   * @param startedAt when the server was started that the stream comes from
   * @throws {BackfillError} `table-missing`, `select-privilege`, `other-server`; nothing stays open then.
   */
  async read(wanted: Wanted, startedAt: string, signal: AbortSignal): Promise<Chunk> {
    this.#reading = true;
    try {
      return await this.#read(wanted, startedAt, signal);
    } finally {
      this.#reading = false;
      this.#onMore();
    }
  }

  async #read(wanted: Wanted, startedAt: string, signal: AbortSignal): Promise<Chunk> {
    return await this.#inSnapshot(wanted, startedAt, signal, async (connection, opened) => {
      const limit = this.#limit;
      const sql = wanted.keys === undefined
        ? chunkSql(opened.plan, { ...wanted, limit })
        : keysSql(opened.plan, wanted.keys, wanted.where);
      const chunk = newChunk(opened, true, this.#spare);
      const { maxBytes } = this.#options.limits;
      let tooMuch = false;
      let last: Uint8Array | null = null;
      let start = 0;
      let end = 0;
      for await (const rows of connection.copyOut(`${sql}; COMMIT`, { signal })) {
        while (rows.advance()) {
          add(chunk, rows);
          last = rows.bytes;
          start = rows.start;
          end = rows.end;
        }
        this.#onMore();
        // Of keys that were asked for, none may be left out.
        if (chunk.waiting.waitingBytes < maxBytes * 2 || wanted.keys !== undefined) continue;
        tooMuch = true;
        break;
      }
      // What was cut short is not committed.
      if (tooMuch) await connection.query("ROLLBACK", { signal });
      if (last !== null) {
        const values = splitCopyRow(last, start, end);
        chunk.last = opened.plan.keyPlaces.map((place) => values[place]!);
      }
      const { count, waiting } = chunk;
      chunk.end = count < limit && !tooMuch;
      if (wanted.keys === undefined && count > 0) this.#adapt(waiting.waitingBytes / count);
      return chunk;
    });
  }

  /**
   * Reads all of a table that has no key to go on by, in one snapshot. The stream stands still until
   * all is handed out.
   *
   * @param on.arrives waits until the stream has come to the window; false: to no avail
   * @param on.take is given the rows that have come, and waited for
   * @returns false where it was to no avail
   */
  async readWhole(
    wanted: Wanted,
    startedAt: string,
    signal: AbortSignal,
    on: { arrives: (window: Window) => Promise<boolean>; take: (chunk: Chunk) => Promise<void> },
  ): Promise<boolean> {
    const { handOver, limits } = this.#options;
    return await this.#inSnapshot(wanted, startedAt, signal, async (connection, opened) => {
      try {
        if (!await on.arrives(opened.window)) {
          await connection.query("ROLLBACK", { signal });
          return false;
        }
        const sql = tableSql(opened.plan, wanted.where);
        let chunk = newChunk(opened, true, this.#spare);
        for await (const rows of connection.copyOut(sql, { signal })) {
          while (rows.advance()) add(chunk, rows);
          if (chunk.waiting.waitingBytes < limits.maxBytes) continue;
          await on.take(chunk);
          chunk = newChunk(opened, false, this.#spare);
        }
        await connection.query("COMMIT", { signal });
        await on.take(chunk);
        return true;
      } finally {
        handOver.close(opened.window);
      }
    });
  }

  /** Takes a snapshot, and what it is to be read by. Who reads ends the transaction; failures do, too. */
  async #inSnapshot<T>(
    wanted: Wanted,
    startedAt: string,
    signal: AbortSignal,
    read: (connection: Connection, opened: Opened) => Promise<T>,
  ): Promise<T> {
    const { handOver } = this.#options;
    try {
      const connection = await this.connection(signal);
      const opened = await this.#open(connection, wanted, startedAt, signal);
      return await read(connection, opened);
    } catch (error) {
      handOver.abandon();
      // Whatever state it is in: a new one costs a few milliseconds.
      await this.close();
      throw explainReadError(error, wanted.name, this.#options.connector.options.user);
    }
  }

  /** What a table is read by. @throws {BackfillError} of kind `table-missing`. */
  async plan({ oid, name }: Pick<Wanted, "oid" | "name">, signal: AbortSignal): Promise<ReadPlan> {
    if (this.#plan?.oid === oid) return this.#plan;
    return await this.#readPlan(await this.connection(signal), oid, name, signal);
  }

  /** Takes snapshots until one shows all that was handed out, and opens the window there. */
  async #open(
    connection: Connection,
    wanted: Wanted,
    startedAt: string,
    signal: AbortSignal,
  ): Promise<Opened> {
    const { handOver } = this.#options;
    const { oid, name } = wanted;
    for (let standStillUntil: number | null = null;;) {
      const plan = await this.plan(wanted, signal);
      await this.#prepareLook(connection, oid, signal);
      const replayed = this.#standby ? await readReplayedLsn(connection, signal) : null;
      this.#standby = replayed !== null;
      await connection.query(
        // Locked before the snapshot is taken: one that is older than a rewritten table reads nothing.
        `BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; ${lockSql(plan)}`,
        { signal },
      );
      this.#onMore();
      handOver.pause();
      standStillUntil ??= performance.now() + STAND_STILL_MS;
      const { listed, lsn, at, ...found } = await look(connection, signal);
      this.#onMore();
      if (found.startedAt !== startedAt) throw otherServer();
      // One that was taken while the standby was promoted is neither.
      const window = found.standby === this.#standby
        ? handOver.open(name, replayed === null ? listed : { replayed }, lsn)
        : null;
      if (window !== null) {
        const current = found.signature === plan.signature
          ? plan
          : await this.#readPlan(connection, oid, name, signal);
        if (wanted.after !== null && !sameKey(plan, current)) throw keyChanged(name);
        return { window, plan: current, rows: this.#rows!, at };
      }
      await connection.query("ROLLBACK", { signal });
      if (performance.now() < standStillUntil) {
        await pause(BETWEEN_SNAPSHOTS_MS, signal);
      } else {
        // A committer that waits for a synchronous standby may do so for long.
        handOver.abandon();
        await pause(BETWEEN_TRIES_MS, signal);
        standStillUntil = null;
      }
      signal.throwIfAborted();
    }
  }

  /** To plan that query anew for each chunk takes the server as long as to read a tenth of the rows. */
  async #prepareLook(connection: Connection, oid: number, signal: AbortSignal): Promise<void> {
    if (this.#prepared?.connection === connection && this.#prepared.oid === oid) return;
    const sql = lookSql(oid, this.#options.publicationName, connection.serverVersion);
    await connection.query(`DEALLOCATE ALL; PREPARE look AS ${sql}`, { signal });
    this.#prepared = { connection, oid };
  }

  async #readPlan(
    connection: Connection,
    oid: number,
    name: TableName,
    signal: AbortSignal,
  ): Promise<ReadPlan> {
    const { publicationName, limits, loadTypes } = this.#options;
    const plan = await readPlan(connection, oid, publicationName, signal);
    if (plan === null) throw tableGone(name);
    const values = await planValues(plan, loadTypes, connection, signal);
    this.#plan = plan;
    this.#rows = new RowEvents(
      { name, primaryKey: plan.primaryKey, keyed: plan.keyed, values },
      plan.columns,
      plan.identity,
    );
    this.#limit = Math.min(limits.maxRows, FIRST_ROWS);
    return plan;
  }

  /** Wide rows make small chunks. */
  #adapt(rowBytes: number): void {
    const { maxRows, maxBytes } = this.#options.limits;
    this.#limit = Math.max(1, Math.min(maxRows, Math.floor(maxBytes / rowBytes)));
  }
}

function newChunk(opened: Opened, first: boolean, spare: Block[]): Chunk {
  return { ...opened, waiting: new Backlog(spare), count: 0, last: null, end: false, first };
}

function add(chunk: Chunk, row: Span): void {
  chunk.waiting.push(row);
  chunk.count++;
}

function sameKey(a: ReadPlan, b: ReadPlan): boolean {
  return JSON.stringify(a.primaryKey) === JSON.stringify(b.primaryKey);
}
