/**
 * Whole transactions from parts of them.
 * https://www.postgresql.org/docs/current/protocol-logical-replication.html
 */
import { AssemblyError } from "./errors.ts";
import type { PgOutputMessage } from "./messages.ts";
import type { StreamPrepare } from "./stream_messages.ts";

/** What a `StreamAssembler` may do. */
export interface StreamAssemblerOptions {
  /**
   * Messages that may be kept, of all transactions together: they are in memory until their
   * transaction ends. Default: 1,000,000.
   */
  maxMessages?: number;
}

/** Messages of one (sub)transaction that followed each other. */
interface Run {
  xid: number;
  messages: PgOutputMessage[];
}

/** A transaction that is under way. */
interface Streamed {
  /** In the order in which they came. */
  runs: Set<Run>;
  last: Run | null;
  bySubXid: Map<number, Run[]>;
}

/**
 * Makes of the streams of protocols 2 to 4 what protocol 1 would have sent: transactions one by one, in
 * the order of their commits, without the rows that were rolled back. What waits for its commit is kept
 * in memory.
 *
 * Two things only protocol 1 has. A logical message of a subtransaction that was rolled back stays,
 * for the server does not say that it was of one. And an `Origin` tells no LSN, which is not known
 * before the commit.
 *
 * @example
 * ```ts
 * import { PgOutputDecoder, StreamAssembler } from "@pgstream/pgstream/pgoutput";
 *
 * const decoder = new PgOutputDecoder(); // both one for each connection
 * const assembler = new StreamAssembler();
 *
 * function onData(data: Uint8Array): void {
 *   for (const message of assembler.accept(decoder.decode(data))) {
 *     if (message.type === "insert") console.log(message.relation.name, message.row);
 *   }
 * }
 * ```
 */
export class StreamAssembler {
  readonly #maxMessages: number;
  readonly #transactions = new Map<number, Streamed>();
  /** Whose part is being received, and its id. */
  #open: Streamed | null = null;
  #openXid = 0;
  #kept = 0;
  #failed: AssemblyError | null = null;

  /** Begins with no transaction under way. @throws {AssemblyError} of kind `invalid-option`. */
  constructor({ maxMessages = 1_000_000 }: StreamAssemblerOptions = {}) {
    if (!(typeof maxMessages === "number" && maxMessages >= 1)) {
      throw new AssemblyError(`maxMessages is no count: ${maxMessages}`, {
        kind: "invalid-option",
        hint: "A number from 1 up; Infinity: as many as come.",
      });
    }
    this.#maxMessages = maxMessages;
  }

  /** How many messages are kept: those of transactions that have not ended yet. */
  get messages(): number {
    return this.#kept;
  }

  /**
   * Takes the next message of the connection.
   *
   * Outside of streams a message comes back at once, and alone. What is inside is kept. Stream Commit
   * gives Begin, all that was kept of the transaction and not rolled back, even if that is nothing, and
   * Commit; Stream Prepare the same between Begin Prepare and Prepare. Of subtransactions that were
   * rolled back Relation and Type stay: rows that come later may be of them.
   *
   * @param message as the decoder gave it. One of a stream is kept, and its `xid` becomes null when it
   * is given back.
   * @returns what there is to handle now, in its order; often nothing.
   * @throws {AssemblyError} of kind `stream-too-large`, then again and again up to `reset()`; of kind
   * `stream-order`.
   */
  accept(message: PgOutputMessage): readonly PgOutputMessage[] {
    if (this.#failed !== null) throw this.#failed;
    switch (message.type) {
      case "stream-start":
        return this.#start(message.xid, message.firstSegment);
      case "stream-stop":
        this.#open = null;
        return [];
      case "stream-abort":
        this.#abort(message.xid, message.subXid);
        return [];
      case "stream-commit": {
        const { xid, flags, commitLsn, endLsn, commitTimeUs } = message;
        return [
          { type: "begin", finalLsn: commitLsn, commitTimeUs, xid },
          ...this.#take(xid),
          { type: "commit", flags, commitLsn, endLsn, commitTimeUs },
        ];
      }
      case "stream-prepare":
        return this.#prepare(message);
      default:
        if (this.#open === null) return [message];
        this.#keep(this.#open, message);
        return [];
    }
  }

  /** Forgets every transaction that is under way: a new connection sends all of them again. */
  reset(): void {
    this.#transactions.clear();
    this.#open = null;
    this.#kept = 0;
    this.#failed = null;
  }

  #start(xid: number, firstSegment: boolean): readonly PgOutputMessage[] {
    if (firstSegment) {
      this.#forget(xid);
      this.#transactions.set(xid, { runs: new Set(), last: null, bySubXid: new Map() });
    }
    this.#open = this.#transactionOf(xid);
    this.#openXid = xid;
    return [];
  }

  #keep(transaction: Streamed, message: PgOutputMessage): void {
    if (this.#kept >= this.#maxMessages) throw this.#failed = tooLarge(this.#maxMessages);
    // Origin has none.
    const xid = ("xid" in message ? message.xid : null) ?? this.#openXid;
    if (transaction.last?.xid !== xid) {
      const run: Run = { xid, messages: [] };
      transaction.last = run;
      transaction.runs.add(run);
      const runs = transaction.bySubXid.get(xid);
      if (runs === undefined) transaction.bySubXid.set(xid, [run]);
      else runs.push(run);
    }
    transaction.last!.messages.push(message);
    this.#kept++;
  }

  #abort(xid: number, subXid: number): void {
    if (xid === subXid) return this.#forget(xid);
    const transaction = this.#transactions.get(xid);
    if (transaction === undefined) return;
    for (const run of transaction.bySubXid.get(subXid) ?? []) {
      const stays = run.messages.filter(({ type }) => type === "relation" || type === "type");
      this.#kept -= run.messages.length - stays.length;
      run.messages = stays;
      if (stays.length === 0) transaction.runs.delete(run);
    }
    transaction.bySubXid.delete(subXid);
    transaction.last = null;
  }

  #prepare({ flags, prepareLsn, endLsn, prepareTimeUs, xid, gid }: StreamPrepare) {
    const prepared = { prepareLsn, endLsn, prepareTimeUs, xid, gid };
    return [
      { type: "begin-prepare" as const, ...prepared },
      ...this.#take(xid),
      { type: "prepare" as const, flags, ...prepared },
    ];
  }

  /** All that was kept of a transaction, which is over with it. */
  #take(xid: number): PgOutputMessage[] {
    const { runs } = this.#transactionOf(xid);
    const messages: PgOutputMessage[] = [];
    for (const run of runs) {
      for (const message of run.messages) {
        if ("xid" in message) (message as { xid: number | null }).xid = null;
        messages.push(message);
      }
    }
    this.#forget(xid);
    return messages;
  }

  #forget(xid: number): void {
    for (const { messages } of this.#transactions.get(xid)?.runs ?? []) {
      this.#kept -= messages.length;
    }
    this.#transactions.delete(xid);
  }

  #transactionOf(xid: number): Streamed {
    const transaction = this.#transactions.get(xid);
    if (transaction !== undefined) return transaction;
    throw new AssemblyError(`Of transaction ${xid} the first part is missing`, {
      kind: "stream-order",
      hint: "Pass every message of a connection from its start; call reset() for a new connection.",
    });
  }
}

function tooLarge(maxMessages: number): AssemblyError {
  return new AssemblyError(
    `Transactions that are under way have sent more than ${maxMessages} messages`,
    {
      kind: "stream-too-large",
      hint:
        "Raise maxMessages, or open the stream without `streaming`: the server then keeps them, " +
        "on its disk, until they are committed.",
    },
  );
}
