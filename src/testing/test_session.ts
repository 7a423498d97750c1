/** One connection to a `TestServer`, in place of `Session`: what it brings goes into the same intake. */
import { TrackedTransaction } from "../delivery/frontier.ts";
import { heldBytes } from "../delivery/event_builder.ts";
import type { RowValues } from "../delivery/row_values.ts";
import { PgStreamError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import type { CatalogTable } from "../replication/tables.ts";
import { formatTableName } from "../table_name.ts";
import type { SessionOptions } from "../stream/session.ts";
import type { OpenSession } from "../stream/source.ts";
import { buildEvent, type Change, messageAt, type Shape } from "./change.ts";
import { lookUpNamed, typeNamed } from "./column_types.ts";
import { unclearText } from "./events.ts";
import type { Entry, Wal } from "./wal.ts";

/** What tells this server from others. */
const SYSTEM_ID = "7000000000000000001";
const STARTED_AT = "2026-01-01 00:00:00+00";

/** Hands out what is in the WAL behind the confirmed position, then what comes. */
export class TestSession implements OpenSession {
  /** Nothing waits undecoded. */
  readonly waitingBytes = 0;
  readonly #wal: Wal;
  readonly #options: SessionOptions;
  readonly #startLsn: Lsn;
  /** How much was there when it began. */
  readonly #length: number;
  /** The columns that are published of each table; null: all. */
  readonly #watched: ReadonlyMap<string, readonly string[] | null>;
  #receivedLsn: Lsn;

  private constructor(wal: Wal, options: SessionOptions, startLsn: Lsn) {
    this.#wal = wal;
    this.#options = options;
    this.#startLsn = startLsn;
    this.#receivedLsn = startLsn;
    this.#length = wal.entries.length;
    this.#watched = new Map(options.tables.map((table) => [formatTableName(table), table.columns]));
    options.intake.connected();
  }

  /** Starts where the slot is. */
  static async open(wal: Wal, options: SessionOptions): Promise<TestSession> {
    const { confirmedLsn, endLsn: walLsn } = wal;
    const tables = options.tables.map(catalogTable);
    const startLsn = await options.goOn(
      { tables, confirmedLsn, failover: false, startedAt: STARTED_AT, replayedLsn: null },
      { systemId: SYSTEM_ID, timeline: 1, walLsn, database: "test" },
      { processId: 1, startedAt: STARTED_AT },
      null,
    );
    return new TestSession(wal, options, startLsn);
  }

  get receivedLsn(): Lsn {
    return this.#receivedLsn;
  }

  get confirmedLsn(): Lsn {
    return this.#wal.confirmedLsn;
  }

  ask(): void {
    // All that there is was told already.
  }

  confirm(): void {
    this.#wal.confirm(this.#options.frontier.confirmed);
  }

  /** @throws {PgStreamError} of kind `not-watched` or `invalid-change`. */
  async follow(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) =>
      signal.addEventListener("abort", () => resolve())
    );
    for (let index = 0; !signal.aborted;) {
      const next = this.#wal.next(index, this.#startLsn);
      if (next !== null && (next.index < this.#length || !this.#options.catchUp)) {
        await (next.entry.backfill
          ? this.#rows(next.entry)
          : this.#transaction(next.entry, signal));
        this.confirm();
        index = next.index + 1;
      } else if (this.#options.catchUp) return;
      else await Promise.race([this.#wal.grown, stopped]);
    }
  }

  close(): Promise<void> {
    this.confirm();
    return Promise.resolve();
  }

  break(): void {
    // Only a promotion breaks a stream from outside, and this is no standby.
  }

  discard(): Promise<void> {
    return Promise.resolve();
  }

  async #transaction(entry: Entry, signal: AbortSignal): Promise<void> {
    const { intake, queue, messages } = this.#options;
    const { begin, commit, lone } = entry;
    if (lone !== null) {
      if (messages) intake.accept(messageAt(lone, entry), lone.content.length);
      this.#receivedLsn = commit.endLsn;
      return intake.keepalive(commit.endLsn);
    }
    intake.accept(begin, 0);
    for (const item of entry.changes) {
      const room = queue.room();
      if (room !== null) await room;
      if (signal.aborted) return;
      if ("written" in item) {
        const { written } = item;
        if (messages) intake.accept(messageAt(written, entry), written.content.length);
        continue;
      }
      const { change, shape } = item;
      this.#mustBeWatched(shape);
      const values = await this.#valuesOf(change);
      intake.declare(shape.relation, { ...shape, values });
      intake.accept(change.message(shape.relation), change.wireBytes);
    }
    this.#receivedLsn = commit.endLsn;
    intake.accept(commit, 0);
  }

  /** As `RowFeed` does it: they stand in no transaction, and nothing is confirmed by them. */
  async #rows(entry: Entry): Promise<void> {
    const { intake, queue } = this.#options;
    entry.rows = new TrackedTransaction(null);
    for (const item of entry.changes) {
      if ("written" in item) continue;
      const { change, shape } = item;
      this.#mustBeWatched(shape);
      const { name, primaryKey, relation } = shape;
      const offer = intake.beside({ name, primaryKey, keyed: primaryKey.length > 0 });
      const bytes = heldBytes(change.message(relation), change.wireBytes);
      const values = await this.#valuesOf(change);
      offer(buildEvent(change, entry, shape, values), bytes, entry.rows);
      const room = queue.room();
      if (room !== null) await room;
    }
    queue.commit(entry.rows);
    queue.flush();
  }

  /** @throws {PgStreamError} of kind `invalid-change` where a text is wanted, and would be a guess. */
  async #valuesOf(change: Change): Promise<RowValues | null> {
    const types = await this.#options.loadTypes(change.table);
    if (types === null) {
      if (change.unclear !== null) throw unclearText(change);
      return null;
    }
    const columns = [...change.types].map(([name, type]) => ({
      name,
      typeOid: typeNamed(type).oid,
    }));
    return await types.rowValues(change.table, columns, lookUpNamed);
  }

  #mustBeWatched({ name, relation }: Shape): void {
    const table = formatTableName(name);
    const columns = this.#watched.get(table);
    if (columns === undefined) {
      throw new PgStreamError(`An event of ${table} would never come: the table is not watched`, {
        kind: "not-watched",
        hint: `Call stream.watch(${
          JSON.stringify(table)
        }), or look at the names: they are literal.`,
      });
    }
    const others = columns === null
      ? []
      : relation.columns.map(({ name }) => name).filter((column) => !columns.includes(column));
    if (others.length === 0) return;
    throw new PgStreamError(`Columns of ${table} would never come: ${others.join(", ")}`, {
      kind: "invalid-change",
      hint: "watch() leaves them out: leave them out here, or name them there.",
    });
  }
}

/** All that anybody asks of it is its name. */
function catalogTable(name: SessionOptions["tables"][number], index: number): CatalogTable {
  return {
    ...name,
    oid: index + 1,
    partitioned: false,
    replicaIdentity: "default",
    primaryKey: [],
    deferrableKey: false,
    columns: [],
    identityIndex: [],
    generated: [],
    virtual: [],
    partitionsWithoutIdentity: [],
  };
}
