/** Decoded messages become queued events: each once, however often the connection is remade. */
import type { ChangeEvent } from "../change.ts";
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import type { Message, PgOutputMessage, Relation } from "../pgoutput/mod.ts";
import { formatTableName } from "../table_name.ts";
import { DeliveryError } from "./errors.ts";
import {
  type ChangeMessage,
  type Emit,
  EventBuilder,
  type EventTable,
  heldBytes,
  loneMessage,
} from "./event_builder.ts";
import type { EventQueue } from "./event_queue.ts";
import type { Frontier, TrackedTransaction } from "./frontier.ts";
import type { HandOut } from "./hand_out.ts";
import { tellsPrimaryKey } from "./lane_plan.ts";
import type { SchemaWatch } from "./schema_changes.ts";

/** The transaction that was begun last, as far as it has come. */
interface LastTransaction {
  /** LSN of its commit record, which orders transactions; of a message that belongs to none, within its own. */
  commitLsn: Lsn;
  /** Its first ordinals that are queued, or that belong to tables nobody watches. */
  taken: number;
  /** True once its Commit was read. */
  whole: boolean;
  tracked: TrackedTransaction;
}

/**
 * Outlives connections. What a new one sends again, which is everything behind the confirmed position,
 * is left out up to the last (commit LSN, ordinal) that was queued: what is queued is not handled
 * yet, but it will be.
 */
export class Intake {
  readonly #queue: EventQueue;
  readonly #frontier: Frontier;
  readonly #handOut: HandOut | null;
  readonly #prefixes: ReadonlySet<string>;
  /** The shape of each watched table, as it was seen last. */
  readonly #shapes = new Map<string, string>();
  /** What a row of each table was known by when it was queued last. */
  readonly #places = new Map<string, string>();
  /** Tells of tables that get another shape; null: nobody is told. Set before the first relation comes. */
  schemas: SchemaWatch | null = null;
  #builder = new EventBuilder();
  #last: LastTransaction | null = null;
  /** Between Begin and Commit on this connection. */
  #inside = false;
  /** The transaction at hand was taken whole from a connection before this one. */
  #again = false;
  /** What the message at hand is counted for. */
  #bytes = 0;
  readonly #emit: Emit = (event, table) => {
    this.#queue.offer(event, this.#bytes, this.#last!.tracked, table);
    this.#handOut?.event(event, table);
  };
  /** In its place while a table may have got another shape. */
  readonly #emitFirst: Emit = (event, table) => {
    const tell = this.schemas!.before(table, event.lsn);
    if (tell !== null) this.#queue.barrier(tell);
    this.#emit(event, table);
  };

  /**
   * Feeds the queue, and tells the frontier of transactions and positions.
   *
   * @param handOut is told of all that is queued
   * @param prefixes the prefixes of messages that somebody handles
   */
  constructor(
    queue: EventQueue,
    frontier: Frontier,
    handOut: HandOut | null = null,
    prefixes: ReadonlySet<string> = new Set(),
  ) {
    this.#queue = queue;
    this.#frontier = frontier;
    this.#handOut = handOut;
    this.#prefixes = prefixes;
  }

  /** True where all that was queued of a transaction is handled, and its Commit has not been read. */
  get waitsForCommit(): boolean {
    const last = this.#last;
    return this.#inside && !this.#again && last !== null && last.tracked.events > 0 &&
      last.tracked.pending === 0;
  }

  /** The last transaction that was begun; `0n` before the first. */
  get commitLsn(): Lsn {
    return this.#last?.commitLsn ?? INVALID_LSN;
  }

  /** True between Begin and Commit. */
  get insideTransaction(): boolean {
    return this.#inside;
  }

  /** A new connection: the server tells its relations again, and begins with a Begin. */
  connected(): void {
    this.#builder = new EventBuilder();
    this.schemas?.connected();
    this.#inside = false;
    this.#again = false;
  }

  /** What comes next has nothing to do with what was taken: other positions, another server. */
  restart(position: Lsn): void {
    this.#last = null;
    this.#frontier.restart(position);
  }

  /** A relation as it is from here on. @param table null where it is not watched. */
  declare(
    relation: Relation,
    table: Omit<EventTable, "keyed"> | null,
  ): void {
    if (table === null) return this.#builder.declare(relation, null);
    const { name, primaryKey, values = null } = table;
    const keyed = tellsPrimaryKey(relation, primaryKey);
    const eventTable: EventTable = { name, primaryKey, keyed, values };
    this.#builder.declare(relation, eventTable);
    this.schemas?.declare(relation, eventTable);
    const shape = JSON.stringify([
      relation.columns.map((column) => [column.name, column.typeOid, column.key]),
      relation.replicaIdentity,
      primaryKey,
    ]);
    const known = this.#shapes.get(formatTableName(name));
    this.#shapes.set(formatTableName(name), shape);
    this.#place(eventTable, known !== undefined && known !== shape);
  }

  /**
   * A way into the queue for rows that do not come from the stream, behind all that was queued of it. To be
   * used before the next transaction begins.
   *
   * @returns takes an event, what it holds in memory, and a transaction that is not in the frontier's line,
   * which counts what is handled
   */
  beside(
    table: EventTable,
  ): (event: ChangeEvent, bytes: number, transaction: TrackedTransaction) => void {
    this.#place(table, false);
    return (event, bytes, transaction) => this.#queue.offer(event, bytes, transaction, table);
  }

  /** A row's lane is found by its key: where that may be another one now, what is queued goes first. */
  #place({ name, primaryKey, keyed }: EventTable, changed: boolean): void {
    const table = formatTableName(name);
    const place = JSON.stringify([keyed, primaryKey]);
    const known = this.#places.get(table);
    if (known !== place) this.#places.set(table, place);
    if (changed || (known !== undefined && known !== place)) this.#queue.barrier();
  }

  /** The server has sent everything before `walEnd`. */
  keepalive(walEnd: Lsn): void {
    this.#frontier.keepalive(walEnd);
  }

  /**
   * Takes a message; a Relation goes to `declare`.
   *
   * @throws {DeliveryError} of kind `transaction-order` or `key-missing`; with values that are no text,
   * `parser-failed` or `malformed-value`.
   */
  accept(message: PgOutputMessage, bytes: number): void {
    switch (message.type) {
      case "begin": {
        if (this.#inside) throw outOfPlace("begin", "inside");
        this.#inside = true;
        const commitTime = this.#builder.begin(message);
        this.#again = this.#isKnown(message.finalLsn);
        if (this.#again) break;
        if (this.#last?.commitLsn !== message.finalLsn) {
          this.#last = {
            commitLsn: message.finalLsn,
            taken: 0,
            whole: false,
            tracked: this.#frontier.begin(commitTime.getTime()),
          };
        }
        this.#handOut?.begin(this.#last.tracked, message.xid, message.finalLsn);
        break;
      }
      case "insert":
      case "update":
      case "delete":
      case "truncate":
        this.#change(message, bytes);
        break;
      case "commit":
        if (!this.#inside) throw outOfPlace("commit", "outside");
        this.#inside = false;
        if (this.#again) break;
        this.#last!.whole = true;
        this.#frontier.commit(this.#last!.tracked, message.endLsn);
        this.#queue.commit(this.#last!.tracked);
        break;
      case "message":
        if (message.transactional) this.#message(message, bytes);
        else this.#loneMessage(message, bytes);
        break;
      default:
        // Origin, Type: nothing that a handler is told.
        break;
    }
  }

  #message(message: Message, bytes: number): void {
    if (!this.#inside) throw outOfPlace("message", "outside");
    if (this.#again) return;
    const last = this.#last!;
    const built = this.#builder.message(message);
    if (built.ordinal < last.taken) return;
    last.taken = this.#builder.ordinal;
    if (this.#prefixes.has(built.prefix)) this.#queue.offerMessage(built, bytes, last.tracked);
  }

  /**
   * A message that belongs to no transaction is as good as one of its own, whose commit record it is. Its LSN
   * is the end of its record, where a commit record may begin: that one is behind it, and must come again.
   */
  #loneMessage(message: Message, bytes: number): void {
    if (this.#inside) throw outOfPlace("message of no transaction", "inside");
    const { messageLsn } = message;
    // Within the record, in which no other begins.
    const commitLsn = messageLsn - 1n;
    if (this.#isKnown(commitLsn)) return;
    const tracked = this.#frontier.begin();
    this.#last = { commitLsn, taken: 0, whole: true, tracked };
    if (this.#prefixes.has(message.prefix)) {
      this.#queue.offerMessage(loneMessage(message), bytes, tracked);
    }
    this.#frontier.commit(tracked, messageLsn);
    this.#queue.commit(tracked);
  }

  #change(message: ChangeMessage, bytes: number): void {
    if (!this.#inside) throw outOfPlace(message.type, "outside");
    if (this.#again) return;
    const last = this.#last!;
    this.#bytes = heldBytes(message, bytes);
    const emit = this.schemas?.expecting ? this.#emitFirst : this.#emit;
    this.#builder.build(message, emit, last.taken);
    if (this.#builder.ordinal > last.taken) last.taken = this.#builder.ordinal;
  }

  #isKnown(commitLsn: Lsn): boolean {
    const last = this.#last;
    return last !== null &&
      (commitLsn < last.commitLsn || (commitLsn === last.commitLsn && last.whole));
  }
}

function outOfPlace(type: string, where: "inside" | "outside"): DeliveryError {
  return new DeliveryError(`The server sent ${type} ${where} of a transaction`, {
    kind: "transaction-order",
    hint: "Start again: what is not confirmed comes once more.",
  });
}
