/**
 * A server as a client sees it: transactions that interleave in the WAL and come out in the order of
 * their commits, whole, from any position on, with relations announced anew on each connection.
 */
import type { Commit, PgOutputMessage, Relation, Truncate } from "../../../src/pgoutput/mod.ts";

/** What a connection brings. */
export type Arrival =
  | { type: "keepalive"; walEnd: bigint }
  | { type: "message"; message: PgOutputMessage };

/** A change in the log; the LSN is that of its record, which no client is to go by. */
interface LoggedChange {
  rowLsn: bigint;
  /** Of the relations that it is about, in order: all but TRUNCATE have one; a message's prefix. */
  tables: readonly string[];
  make: (relations: Relation[]) => PgOutputMessage;
}

/** A committed transaction. */
export interface LoggedTransaction {
  xid: number;
  changes: LoggedChange[];
  commitLsn: bigint;
  endLsn: bigint;
  /** True for a message that belongs to no transaction, which stands for one of its own. */
  lone?: boolean;
}

/** Watched, but for `noise`. `logs` has no primary key. */
export const TABLES = ["documents", "logs", "noise"] as const;
type Table = typeof TABLES[number];

/** What a client expects of an event. */
export interface ExpectedEvent {
  name: string;
  transaction: LoggedTransaction;
}

/** A table that is not watched, a prefix that nobody handles. */
const NOT_HANDED_OUT: ReadonlySet<string> = new Set(["noise", "others"]);

const OIDS: Record<string, number> = { documents: 1, logs: 2, noise: 3 };

/** Makes a log at random, and plays it. */
export class ModelServer {
  readonly transactions: LoggedTransaction[] = [];
  readonly #random: () => number;
  #position: bigint;

  /** @param start where the log begins */
  constructor(random: () => number, start = 0x1_0000_0000n) {
    this.#random = random;
    this.#position = start;
  }

  get walEnd(): bigint {
    return this.#position;
  }

  /**
   * Transactions of several sessions at once: their records interleave, and some are rolled back.
   *
   * @param messages true: and messages, in them and beside them, of a prefix that is handled and of another
   */
  write(count: number, messages = false): this {
    const open: LoggedTransaction[] = [];
    for (let begun = 0; begun < count || open.length > 0;) {
      if (messages && this.#random() < 0.1) {
        const commitLsn = this.#record(20);
        const endLsn = this.#position;
        const changes = [this.#messageAt(endLsn, false)];
        this.transactions.push({ xid: 0, changes, lone: true, commitLsn, endLsn });
      }
      if (messages && open.length > 0 && this.#random() < 0.15) {
        open[this.#below(open.length)]!.changes.push(this.#messageAt(this.#record(20), true));
      }
      const choice = this.#random();
      if (begun < count && open.length < 3 && choice < 0.3) {
        open.push({ xid: 700 + begun++, changes: [], commitLsn: 0n, endLsn: 0n });
      } else if (open.length > 0 && choice < 0.75) {
        this.#change(open[this.#below(open.length)]!);
      } else if (open.length > 0) {
        const [transaction] = open.splice(this.#below(open.length), 1);
        transaction!.commitLsn = this.#record(30);
        // The next record begins where this one ends: a row's LSN, or a commit's, is this very one.
        transaction!.endLsn = this.#position;
        if (this.#random() < 0.9) this.transactions.push(transaction!);
      }
    }
    return this;
  }

  /** The watched events of all transactions, in the order in which they have to come. */
  get expected(): ExpectedEvent[] {
    return this.transactions.flatMap((transaction) => {
      let ordinal = 0;
      return transaction.changes.flatMap(({ tables }) =>
        tables.flatMap((table) => {
          const { lone, commitLsn, endLsn } = transaction;
          const name = lone ? `message ${endLsn}` : `${commitLsn}/${ordinal++}`;
          return NOT_HANDED_OUT.has(table) ? [] : [{ name, transaction }];
        })
      );
    });
  }

  /** What a connection brings that starts at a confirmed position. */
  *connect(confirmed: bigint): Generator<Arrival, void> {
    const announced = new Map<string, Relation>();
    let sent = confirmed - BigInt(this.#below(200));
    const keepalive = (): Arrival => ({ type: "keepalive", walEnd: sent });
    yield keepalive();
    for (const { xid, changes, commitLsn, endLsn, lone } of this.transactions) {
      // What a transaction needs to come again is that its commit record begins at the position, or later.
      if (commitLsn < confirmed) continue;
      if (this.#random() < 0.3) {
        sent = commitLsn;
        yield keepalive();
      }
      if (lone) {
        yield message(changes[0]!.make([]));
        sent = endLsn;
        continue;
      }
      yield message({ type: "begin", finalLsn: commitLsn, commitTimeUs: BigInt(xid), xid });
      for (const { tables, make } of changes) {
        for (const table of tables) {
          // Now and then once more, as after a DDL that has changed nothing.
          if (OIDS[table] === undefined) continue;
          if (announced.has(table) && this.#random() > 0.02) continue;
          announced.set(table, relationOf(table as Table));
          yield message(announced.get(table)!);
        }
        yield message(make(tables.map((table) => announced.get(table)!)));
        if (this.#random() < 0.1) yield keepalive();
      }
      const commit: Commit = {
        type: "commit",
        flags: 0,
        commitLsn,
        endLsn,
        commitTimeUs: BigInt(xid),
      };
      yield message(commit);
      sent = endLsn;
      if (this.#random() < 0.3) yield keepalive();
    }
    sent = this.#position;
    yield keepalive();
  }

  /** @param rowLsn the end of its record */
  #messageAt(rowLsn: bigint, transactional: boolean): LoggedChange {
    const prefix = this.#random() < 0.6 ? "outbox" : "others";
    const content = new Uint8Array();
    const make = (): PgOutputMessage => ({
      type: "message",
      xid: null,
      prefix,
      content,
      transactional,
      messageLsn: rowLsn,
    });
    return { rowLsn, tables: [prefix], make };
  }

  #change(transaction: LoggedTransaction): void {
    const rowLsn = this.#record(8 + this.#below(100));
    const key = `${this.#below(6)}`;
    const row = (id: string) => rowOf({ id, rowLsn: `${rowLsn}` });
    const table = TABLES[this.#below(3)]!;
    const choice = this.#random();
    if (choice < 0.08) {
      const tables = Array.from({ length: 1 + this.#below(4) }, () => TABLES[this.#below(3)]!);
      transaction.changes.push({ rowLsn, tables, make: truncateOf });
    } else if (choice < 0.5) {
      const make = ([relation]: Relation[]): PgOutputMessage => ({
        type: "insert",
        xid: null,
        relation: relation!,
        row: row(key),
        unchanged: [],
      });
      transaction.changes.push({ rowLsn, tables: [table], make });
    } else if (choice < 0.8) {
      const oldKey = this.#random() < 0.5 ? null : `${this.#below(6)}`;
      const make = ([relation]: Relation[]): PgOutputMessage => ({
        type: "update",
        xid: null,
        relation: relation!,
        row: row(key),
        unchanged: [],
        oldRow: oldKey === null ? null : row(oldKey),
        oldKind: oldKey === null ? null : "key",
      });
      transaction.changes.push({ rowLsn, tables: [table], make });
    } else {
      const make = ([relation]: Relation[]): PgOutputMessage => ({
        type: "delete",
        xid: null,
        relation: relation!,
        oldRow: row(key),
        oldKind: "key",
      });
      transaction.changes.push({ rowLsn, tables: [table], make });
    }
  }

  #record(length: number): bigint {
    const lsn = this.#position;
    this.#position += BigInt(length);
    return lsn;
  }

  #below(n: number): number {
    return Math.floor(this.#random() * n);
  }
}

function message(message: PgOutputMessage): Arrival {
  return { type: "message", message };
}

/** A new object at each call, as each connection has its own. */
export function relationOf(table: Table): Relation {
  const keyed = table !== "logs";
  return {
    type: "relation",
    xid: null,
    oid: OIDS[table]!,
    schema: "public",
    name: table,
    replicaIdentity: keyed ? "default" : "full",
    columns: ["id", "rowLsn"].map((name) => ({
      name,
      typeOid: 25,
      typeModifier: -1,
      key: !keyed || name === "id",
    })),
  };
}

/** What is watched of it: null for `noise`. */
export function watchedAs(
  { schema, name }: Relation,
): { name: { schema: string; table: string }; primaryKey: string[] } | null {
  if (name === "noise") return null;
  return { name: { schema, table: name }, primaryKey: name === "logs" ? [] : ["id"] };
}

function truncateOf(relations: Relation[]): Truncate {
  return { type: "truncate", xid: null, relations, cascade: false, restartIdentity: false };
}

function rowOf(values: Record<string, string>): Record<string, string> {
  return Object.assign(Object.create(null), values);
}
