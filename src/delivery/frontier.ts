/**
 * The acknowledgement frontier: the one source of the position that is confirmed to the server.
 *
 * Transactions enter in commit order and may finish in any order; the frontier moves to the end LSN
 * of the last one before which nothing is unfinished. A keepalive's position takes its place in the
 * same line, so that it is confirmed only when all that came before it is done.
 */
import type { Lsn } from "../lsn.ts";

/** A transaction that is on its way through delivery. */
export class TrackedTransaction {
  /** Events that were handed over. */
  events = 0;
  /** Those of them that are not handled yet. */
  pending = 0;
  /** The commit record's end; unknown until the Commit message is read. */
  endLsn: Lsn | null = null;
  /** When it was committed, in milliseconds since the Unix epoch; null for a keepalive's position. */
  readonly commitTimeMs: number | null;

  /** Made by `Frontier.begin()`. */
  constructor(commitTimeMs: number | null) {
    this.commitTimeMs = commitTimeMs;
  }

  /** True when it was received whole and each of its events is handled. */
  get finished(): boolean {
    return this.endLsn !== null && this.pending === 0;
  }
}

/** Holds what is unfinished and tells what may be confirmed. It never goes back. */
export class Frontier {
  /** In commit order; the first `#head` entries are finished and forgotten. */
  #line: TrackedTransaction[] = [];
  #head = 0;
  #confirmed: Lsn;
  #transactions = 0;

  /** @param start the position that the server has already: the slot's confirmed one. */
  constructor(start: Lsn) {
    this.#confirmed = start;
  }

  /** All transactions that end at or before this LSN are handled: it may be confirmed. */
  get confirmed(): Lsn {
    return this.#confirmed;
  }

  /** Entries of the line from the first unfinished one on; finished ones without events share one. */
  get unfinished(): number {
    return this.#line.length - this.#head;
  }

  /** Transactions with events that are handled, as is all before them. */
  get transactions(): number {
    return this.#transactions;
  }

  /** When the first transaction was committed of which something is left to do; null where there is none. */
  get oldestCommitTimeMs(): number | null {
    return this.#line[this.#head]?.commitTimeMs ?? null;
  }

  /** What would be confirmed once so many more events of these transactions are handled. */
  after(handled: ReadonlyMap<TrackedTransaction, number>): Lsn {
    let confirmed = this.#confirmed;
    for (let at = this.#head; at < this.#line.length; at++) {
      const { endLsn, pending } = this.#line[at]!;
      if (endLsn === null || pending > (handled.get(this.#line[at]!) ?? 0)) break;
      if (endLsn > confirmed) confirmed = endLsn;
    }
    return confirmed;
  }

  /** Forgets what is unfinished and goes on at a position that has nothing to do with those before. */
  restart(position: Lsn): void {
    this.#line = [];
    this.#head = 0;
    this.#confirmed = position;
  }

  /** A transaction begins: nothing behind it is confirmed before it. */
  begin(commitTimeMs: number | null = null): TrackedTransaction {
    const transaction = new TrackedTransaction(commitTimeMs);
    this.#line.push(transaction);
    return transaction;
  }

  /** One more event of the transaction is to be handled. */
  expect(transaction: TrackedTransaction): void {
    transaction.events++;
    transaction.pending++;
  }

  /** Some events of the transaction were handled. */
  handled(transaction: TrackedTransaction, events = 1): void {
    transaction.pending -= events;
    this.#advance();
  }

  /** The transaction's Commit was read. @param endLsn the end of its commit record. */
  commit(transaction: TrackedTransaction, endLsn: Lsn): void {
    transaction.endLsn = endLsn;
    if (transaction.events === 0) this.#join(transaction);
    this.#advance();
  }

  /**
   * The server has sent everything before `walEnd`. Without this, a slot whose tables are quiet would
   * hold back the WAL that all other tables write.
   */
  keepalive(walEnd: Lsn): void {
    this.commit(this.begin(), walEnd);
  }

  /**
   * With no events it is a position and no more, which a finished one before it in the line can carry:
   * a handler that hangs must not gather keepalives, or transactions of tables that nobody watches.
   */
  #join(transaction: TrackedTransaction): void {
    const before = this.#line.at(-2);
    if (this.unfinished < 2 || this.#line.at(-1) !== transaction || !before!.finished) return;
    this.#line.pop();
    if (transaction.endLsn! > before!.endLsn!) before!.endLsn = transaction.endLsn;
  }

  #advance(): void {
    while (this.#head < this.#line.length) {
      const first = this.#line[this.#head]!;
      if (!first.finished) break;
      if (first.endLsn! > this.#confirmed) this.#confirmed = first.endLsn!;
      if (first.events > 0) this.#transactions++;
      this.#head++;
    }
    // Forgetting in halves keeps each step's cost constant.
    if (this.#head > 32 && this.#head * 2 > this.#line.length) {
      this.#line = this.#line.slice(this.#head);
      this.#head = 0;
    }
  }
}
