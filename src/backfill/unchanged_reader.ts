/**
 * Reads by key what the server did not send of rows: values that are stored out of line and were not touched.
 * As a backfill reads rows: as the publication has them, compared as the key's index does.
 *
 * A transaction may be handed out before snapshots show it, and one that does not could be read for a value
 * that its own transaction has set just before. It is waited for; a standby hands out only what it shows.
 */
import { pause } from "../backoff.ts";
import type { ChangeEvent } from "../change.ts";
import { keyText } from "../delivery/event_builder.ts";
import { DeliveryError } from "../delivery/errors.ts";
import type { LoadTypes, RowValues } from "../delivery/row_values.ts";
import type { UnchangedReader as Reader, UnreadEvent } from "../delivery/unchanged.ts";
import { PgStreamError } from "../errors.ts";
import { withDeadline } from "../replication/deadline.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { readCopyRow } from "../values/copy_text.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { isNoValue, type OpenTable, TableOpener } from "./open_table.ts";
import { planSignature } from "./plan_facts.ts";
import { connectForReading, explainReadError } from "./reading.ts";
import { keyParts, keysSql, type ReadPlan } from "./read_plan.ts";
import { isVisible, type ListedSnapshot, parseSnapshot } from "./snapshot.ts";
import { Turns } from "./turns.ts";

/** Keys of one query. */
const MOST_KEYS = 100;
/** Before it is known how large the values are. */
const FIRST_KEYS = 10;
/** How long the server may take: a connection can be dead without a word. */
const READ_MS = 60_000;
/** Between two looks whether a transaction is shown that was handed out. */
const NOT_SHOWN_MS = 5;

/** What a reader works with. */
export interface UnchangedReaderOptions {
  connector: Connector;
  publicationName: string;
  /** What the values of one read may be in bytes, roughly: they wait in memory for their handler. */
  maxBytes: number;
  /** The types of the run. */
  loadTypes: LoadTypes;
}

/** A transaction that is open, on a table that stays as it is until its end. */
interface Opened extends OpenTable {
  /** Null: a standby's, which shows all that it has sent. */
  snapshot: ListedSnapshot | null;
}

/** A row by the columns that were asked for. */
type TextRow = Record<string, string | null>;

/** Holds one connection while there is something to read, and later. */
export class UnchangedReader implements Reader {
  readonly #options: UnchangedReaderOptions;
  readonly #turns = new Turns();
  readonly #tables: TableOpener;
  #connection: Connection | null = null;
  /** How often it was closed. */
  #closes = 0;
  #limit = FIRST_KEYS;

  /** Connects when it is asked. */
  constructor(options: UnchangedReaderOptions) {
    this.#options = options;
    this.#tables = new TableOpener(options);
  }

  get limit(): number {
    return this.#limit;
  }

  async read(unread: readonly UnreadEvent[], signal: AbortSignal): Promise<void> {
    await this.#turns.take(async () => {
      for (const [, events] of Map.groupBy(unread, ({ table }) => formatTableName(table.name))) {
        for (let at = 0; at < events.length; at += MOST_KEYS) {
          signal.throwIfAborted();
          await this.#readTable(events.slice(at, at + MOST_KEYS), signal);
        }
      }
    });
  }

  /** Closes the connection: the next read makes another one, with the server that the stream has by then. */
  async close(): Promise<void> {
    const connection = this.#connection;
    this.#connection = null;
    this.#closes++;
    await connection?.close();
  }

  async #readTable(unread: readonly UnreadEvent[], signal: AbortSignal): Promise<void> {
    const { name } = unread[0]!.table;
    const closes = this.#closes;
    try {
      const what = `what is unchanged in ${formatTableName(name)}`;
      const fill = (signal: AbortSignal) => this.#fill(name, unread, signal);
      while (!await withDeadline(what, READ_MS, signal, fill)) await pause(NOT_SHOWN_MS, signal);
    } catch (error) {
      // By somebody else, since the stream has lost its server.
      const interrupted = closes !== this.#closes;
      // Whatever state it is in: a new one costs a few milliseconds.
      if (!interrupted) await this.close();
      signal.throwIfAborted();
      const { user } = this.#options.connector.options;
      throw readFailed(name, explainReadError(error, name, user), interrupted);
    }
  }

  /** @returns false where an event's transaction is not shown yet: nothing was read */
  async #fill(
    name: TableName,
    unread: readonly UnreadEvent[],
    signal: AbortSignal,
  ): Promise<boolean> {
    if (this.#connection === null || this.#connection.closed) {
      this.#connection = await connectForReading(this.#options.connector, signal);
    }
    const connection = this.#connection;
    const opened = await this.#begin(connection, name, signal);
    if (opened === null) return true;
    const { plan, values, snapshot } = opened;
    const shown = snapshot === null || unread.every(({ event }) => isVisible(snapshot, event.xid));
    // A key of other columns than the table's is now could be another row's.
    const known = unread.filter(({ table }) => sameKey(plan, table.primaryKey));
    const columns = columnsOf(plan, known);
    if (!shown || known.length === 0 || columns === null) {
      await connection.query("COMMIT", { signal });
      return shown;
    }
    const keys = new Set(known.map(({ event }) => event.key!));
    let rows: Map<string, TextRow>;
    try {
      rows = await this.#rows(connection, { ...plan, columns }, [...keys], signal);
    } catch (error) {
      if (!isNoValue(error)) throw error;
      // A key from before its column got another type is no row's that is there, and is not to be told of.
      await connection.query("ROLLBACK", { signal });
      if (known.length > 1) { for (const one of known) await this.#fill(name, [one], signal); }
      return true;
    }
    for (const { event } of known) {
      const row = rows.get(event.key!);
      if (row !== undefined) put(event, row, values);
    }
    return true;
  }

  /** @returns null where the table is not there */
  async #begin(
    connection: Connection,
    name: TableName,
    signal: AbortSignal,
  ): Promise<Opened | null> {
    const { serverVersion } = connection;
    const { publicationName } = this.#options;
    const current = serverVersion >= 130000 ? "pg_current_snapshot" : "txid_current_snapshot";
    const select = ({ oid }: ReadPlan) =>
      `SELECT ${planSignature(oid, publicationName, serverVersion)} AS signature,
        CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.${current}()::text END AS snapshot`;
    const opened = await this.#tables.open(connection, name, select, signal);
    if (opened === null) return null;
    const { snapshot } = opened.answer;
    return { ...opened, snapshot: snapshot == null ? null : parseSnapshot(snapshot) };
  }

  /** Rows by key, and the end of the transaction. */
  async #rows(
    connection: Connection,
    plan: ReadPlan,
    keys: readonly string[],
    signal: AbortSignal,
  ): Promise<Map<string, TextRow>> {
    const rows = new Map<string, TextRow>();
    let bytes = 0;
    const sql = keysSql(plan, keys.map((key) => keyParts(plan, key)));
    for await (const copied of connection.copyOut(`${sql}; COMMIT`, { signal })) {
      while (copied.advance()) {
        const row: TextRow = Object.create(null);
        readCopyRow(row, plan.columns, copied.bytes, copied.start, copied.end);
        bytes += copied.end - copied.start;
        rows.set(keyText(plan.primaryKey, row), row);
      }
    }
    this.#adapt(rows.size, bytes);
    return rows;
  }

  /** Large values make small reads; how large they are is found out little by little. */
  #adapt(rows: number, bytes: number): void {
    if (rows === 0) return;
    const most = Math.min(MOST_KEYS, this.#limit * 4);
    this.#limit = Math.max(1, Math.min(most, Math.floor(this.#options.maxBytes * rows / bytes)));
  }
}

/** Each event has values of its own, whoever else was read with the same row. */
function put(event: ChangeEvent, row: TextRow, values: RowValues | null): void {
  const sent = event.unchanged.filter((column) => row[column] !== undefined);
  const read: TextRow = Object.create(null);
  for (const column of sent) read[column] = row[column]!;
  values?.read(read);
  for (const column of sent) (event.row as Record<string, unknown>)[column] = read[column]!;
  event.unchanged = event.unchanged.filter((column) => !sent.includes(column));
}

/** What reading is rejected with. @param retryable where the cause does not tell */
export function readFailed(name: TableName, cause: unknown, retryable = false): DeliveryError {
  return new DeliveryError(
    `Unchanged columns of ${formatTableName(name)} cannot be read again`,
    {
      kind: "read-unchanged",
      retryable: retryable || !(cause instanceof PgStreamError) || cause.retryable,
      hint: "Its cause says why. Nothing of that transaction is confirmed: it comes again.",
      cause,
    },
  );
}

function sameKey({ primaryKey }: ReadPlan, other: readonly string[]): boolean {
  return primaryKey.length > 0 && JSON.stringify(primaryKey) === JSON.stringify(other);
}

/** Those of the plan that are asked for, and the key's; null where none of them is there. */
function columnsOf(plan: ReadPlan, unread: readonly UnreadEvent[]): string[] | null {
  const wanted = new Set(unread.flatMap(({ event }) => event.unchanged));
  if (!plan.columns.some((column) => wanted.has(column))) return null;
  return plan.columns.filter((column) => wanted.has(column) || plan.primaryKey.includes(column));
}
