/**
 * Reads rows of a table beside the stream, to be compared with what a store has: as the publication has them,
 * by the key's index, a bounded number at a time.
 */
import type { AnyRow } from "../change.ts";
import { RowEvents } from "../delivery/row_events.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import type { Lsn } from "../lsn.ts";
import { withDeadline } from "../replication/deadline.ts";
import { rowsOf } from "../replication/server.ts";
import { readReplayedLsn } from "../replication/standby.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { BackfillError, keyChanged, tableGone } from "./errors.ts";
import { type Look, lookSql, readLook } from "./look.ts";
import { isNoValue, type OpenTable, TableOpener } from "./open_table.ts";
import { chunkSql, keyParts, keysSql, type ReadPlan } from "./read_plan.ts";
import { connectForReading, explainReadError } from "./reading.ts";
import { waitForWriters } from "./writers.ts";

/** Before it is known how wide the rows are. */
const FIRST_ROWS = 500;
const MOST_ROWS = 2000;
/** Keys of one query. */
const MOST_KEYS = 200;
/** What the rows of one read are in bytes, roughly; one that has come to twice as much is cut short. */
const MAX_BYTES = 1024 * 1024;
/** How long the server may take: a connection can be dead without a word. */
const READ_MS = 300_000;
/** How long transactions are waited for that write to the table. Most take a few milliseconds. */
const WRITERS_MS = 250;
/** Of a row's version: no column of a table can have these names. */
const VERSION = ["xmin", "xmax"];

/** Rows in the order of their keys. */
export interface RowChunk {
  readonly rows: readonly { readonly key: string; readonly row: AnyRow }[];
  /** True where no row is behind it. */
  readonly end: boolean;
  /** All that is shown was committed before it. */
  readonly lsn: Lsn;
}

/** Rows that were asked for by key. */
export interface KeyedRows {
  /** Of the keys that were asked for the first ones: as many as memory has room for, one at least. */
  readonly keys: readonly string[];
  /** Those of them that are there. */
  readonly rows: ReadonlyMap<string, AnyRow>;
}

/** A row, and which version of it. */
export interface VersionedRow {
  readonly row: AnyRow;
  /** The same for the same version of the row. */
  readonly version: string;
  /** True where nobody has changed or locked it since: no transaction that is not shown yet, for one. */
  readonly untouched: boolean;
}

/** Rows, and which part of the source's history they show. */
export interface RowsAt {
  /** As `KeyedRows.keys`. */
  readonly keys: readonly string[];
  readonly rows: ReadonlyMap<string, VersionedRow>;
  /** All that was committed in the WAL before it is shown, where `complete`. */
  readonly shownLsn: Lsn;
  /** All that is shown was committed before it. */
  readonly lsn: Lsn;
  /**
   * False where transactions that write to the table stayed open: one of them may have its commit in the WAL, and so
   * in the stream, and not be shown yet, for as long as a synchronous standby takes to answer.
   */
  readonly complete: boolean;
  /** When the server was started, as it prints it: which server this is. */
  readonly startedAt: string;
}

/** A table whose rows are read. */
export interface SourceTable {
  /**
   * The rows behind a key, as `event.key` has it; null: from the first one on.
   *
   * @throws {BackfillError} `no-primary-key`, `table-missing`, `select-privilege`, …; `signal.reason`.
   */
  next(after: string | null, signal: AbortSignal): Promise<RowChunk>;
  /** Rows by key. Texts that no key of the table can be are keys without a row. @throws as `next` */
  byKeys(keys: readonly string[], signal: AbortSignal): Promise<KeyedRows>;
  /** The same, and what they show. @throws as `next` */
  at(keys: readonly string[], signal: AbortSignal): Promise<RowsAt>;
  /** Closes its connection; the next call makes another one. */
  close(): Promise<void>;
}

/** What a reader works with. */
export interface TableReaderOptions {
  connector: Connector;
  publicationName: string;
  name: TableName;
  /** The types of the run. */
  loadTypes: LoadTypes;
}

/** A transaction that is open on the table, and what it shows. */
interface OpenedTable extends OpenTable {
  look: Look;
}

interface KeyedVersions {
  keys: readonly string[];
  rows: Map<string, VersionedRow>;
}

/** Holds one connection, and a transaction on it for as long as a call takes. */
export class TableReader implements SourceTable {
  readonly #options: TableReaderOptions;
  readonly #tables: TableOpener;
  #connection: Connection | null = null;
  /** What the rows were read by last. */
  #plan: ReadPlan | null = null;
  /** Of the rows that were read last. */
  #rowBytes: number | null = null;

  /** Connects when it is asked. */
  constructor(options: TableReaderOptions) {
    this.#options = options;
    this.#tables = new TableOpener(options);
  }

  async next(after: string | null, signal: AbortSignal): Promise<RowChunk> {
    return await this.#reading(signal, async (connection, signal) => {
      const before = this.#plan;
      const opened = await this.#open(connection, signal);
      const { plan } = opened;
      if (after !== null && !sameKey(before!, plan)) throw keyChanged(this.#options.name);
      const limit = this.#room(MOST_ROWS, FIRST_ROWS);
      const from = after === null ? null : keyParts(plan, after);
      const events = this.#events(opened, plan.columns);
      const rows: { key: string; row: AnyRow }[] = [];
      const whole = await this.#copy(
        connection,
        chunkSql(plan, { after: from, limit }),
        signal,
        (bytes, start, end) => {
          const { key, row } = events.insert(bytes, start, end, opened.look.at);
          rows.push({ key, row });
        },
      );
      return { rows, end: whole && rows.length < limit, lsn: opened.look.lsn };
    });
  }

  async byKeys(keys: readonly string[], signal: AbortSignal): Promise<KeyedRows> {
    return await this.#reading(signal, async (connection, signal) => {
      const read = await this.#byKeys(connection, keys, signal);
      return { keys: read.keys, rows: new Map([...read.rows].map(([key, { row }]) => [key, row])) };
    });
  }

  async at(keys: readonly string[], signal: AbortSignal): Promise<RowsAt> {
    return await this.#reading(signal, async (connection, signal) => {
      const planned = await this.#tables.plan(connection, this.#options.name, signal);
      if (planned === null) throw tableGone(this.#options.name);
      const { oid } = planned.plan;
      const replayed = await readReplayedLsn(connection, signal);
      const { lsn: inserted } = await this.#look(connection, oid, signal);
      // A standby streams nothing that it does not show.
      const over = replayed !== null || await waitForWriters(connection, oid, {
        signal,
        onWaiting: () => {},
        limitMs: WRITERS_MS,
      });
      const { keys: read, rows, look, plan } = await this.#byKeys(connection, keys, signal);
      // One that was taken while the standby was promoted is neither.
      const same = plan.oid === oid && look.standby === (replayed !== null);
      const { lsn, startedAt } = look;
      const shownLsn = replayed ?? inserted;
      return { keys: read, rows, shownLsn, lsn, complete: over && same, startedAt };
    });
  }

  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    await connection?.close();
  }

  /** Rows by key in one snapshot; fewer of them where they are larger than thought. */
  async #byKeys(
    connection: Connection,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<KeyedVersions & OpenedTable> {
    for (let most = this.#room(MOST_KEYS, MOST_KEYS);;) {
      const part = keys.slice(0, most);
      const opened = await this.#open(connection, signal);
      const rows = new Map<string, VersionedRow>();
      try {
        if (await this.#rows(connection, opened, part, rows, signal)) {
          return { ...opened, keys: part, rows };
        }
      } catch (error) {
        if (!isNoValue(error)) throw error;
        // A text that is no value of the key's type is no row's that is there. Which one it is, is not told.
        await connection.query("ROLLBACK", { signal });
        if (part.length === 1) return { ...opened, keys: part, rows };
      }
      most = part.length >> 1;
    }
  }

  /** @returns false where they were too many, and not all of them are there */
  async #rows(
    connection: Connection,
    opened: OpenedTable,
    keys: readonly string[],
    rows: Map<string, VersionedRow>,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { plan } = opened;
    const known = keys.flatMap((key) => {
      const parts = partsOf(plan, key);
      return parts === null ? [] : [parts];
    });
    if (known.length === 0) {
      await connection.query("COMMIT", { signal });
      return true;
    }
    const columns = [...plan.columns, ...VERSION];
    const events = this.#events(opened, columns);
    const take = (bytes: Uint8Array, start: number, end: number) => {
      const { key, row } = events.insert(bytes, start, end, opened.look.at);
      const { xmin, xmax } = row as AnyRow;
      for (const name of VERSION) delete (row as AnyRow)[name];
      rows.set(key, { row, version: xmin, untouched: xmax === "0" });
    };
    const sql = keysSql({ ...plan, columns }, known);
    return await this.#copy(connection, sql, signal, take, keys.length > 1);
  }

  /** Rows, and the end of the transaction. @returns false where they were too many: it was cut short */
  async #copy(
    connection: Connection,
    sql: string,
    signal: AbortSignal,
    take: (bytes: Uint8Array, start: number, end: number) => void,
    mayCut = true,
  ): Promise<boolean> {
    let bytes = 0;
    let count = 0;
    let whole = true;
    for await (const rows of connection.copyOut(`${sql}; COMMIT`, { signal })) {
      while (rows.advance()) {
        take(rows.bytes, rows.start, rows.end);
        bytes += rows.end - rows.start;
        count++;
      }
      if (!mayCut || bytes < MAX_BYTES * 2) continue;
      whole = false;
      break;
    }
    if (!whole) await connection.query("ROLLBACK", { signal });
    if (count > 0) this.#rowBytes = bytes / count;
    return whole;
  }

  /** How many rows are read at once: the wider they are, the fewer. */
  #room(most: number, first: number): number {
    if (this.#rowBytes === null) return first;
    return Math.max(1, Math.min(most, Math.floor(MAX_BYTES / this.#rowBytes)));
  }

  async #open(connection: Connection, signal: AbortSignal): Promise<OpenedTable> {
    const { name, publicationName } = this.#options;
    const select = ({ oid }: ReadPlan) => lookSql(oid, publicationName, connection.serverVersion);
    const opened = await this.#tables.open(connection, name, select, signal);
    if (opened === null) throw tableGone(name);
    if (opened.plan.primaryKey.length === 0) throw keyless(name);
    this.#plan = opened.plan;
    return { ...opened, look: readLook(opened.answer) };
  }

  async #look(connection: Connection, oid: number, signal: AbortSignal): Promise<Look> {
    const sql = lookSql(oid, this.#options.publicationName, connection.serverVersion);
    return readLook(rowsOf(await connection.query(sql, { signal }))[0]);
  }

  #events({ plan, values }: OpenTable, columns: readonly string[]): RowEvents {
    const { primaryKey, keyed, identity } = plan;
    return new RowEvents(
      { name: this.#options.name, primaryKey, keyed, values },
      columns,
      identity,
    );
  }

  async #reading<T>(
    signal: AbortSignal,
    work: (connection: Connection, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { connector, name } = this.#options;
    try {
      const what = `reading rows of ${formatTableName(name)}`;
      return await withDeadline(what, READ_MS, signal, async (signal) => {
        if (this.#connection === null || this.#connection.closed) {
          this.#connection = await connectForReading(connector, signal);
        }
        return await work(this.#connection, signal);
      });
    } catch (error) {
      // Whatever state it is in: a new one costs a few milliseconds.
      await this.close();
      throw explainReadError(error, name, connector.options.user);
    }
  }
}

/** The values of the key's columns; null where the text is no key of this table. */
function partsOf(plan: ReadPlan, key: string): readonly string[] | null {
  if (key.includes("\0")) return null;
  try {
    const parts: unknown = keyParts(plan, key);
    const fits = Array.isArray(parts) && parts.length === plan.primaryKey.length &&
      parts.every((part) => typeof part === "string" && !part.includes("\0"));
    return fits ? parts : null;
  } catch {
    return null;
  }
}

function sameKey(a: ReadPlan, b: ReadPlan): boolean {
  return JSON.stringify(a.primaryKey) === JSON.stringify(b.primaryKey);
}

function keyless(name: TableName): BackfillError {
  return new BackfillError(
    `Table "${formatTableName(name)}" has no primary key that is published`,
    {
      kind: "no-primary-key",
      hint: "Nothing tells which row a point belongs to: add one, or publish all of its columns.",
    },
  );
}
