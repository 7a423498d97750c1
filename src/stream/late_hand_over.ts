/** Stands beside the intake where there may be a backfill one day: what it takes is loaded with the first one. */
import type { HandOver } from "../backfill/hand_over.ts";
import type { ChangeEvent } from "../change.ts";
import type { EventTable } from "../delivery/event_builder.ts";
import type { TrackedTransaction } from "../delivery/frontier.ts";
import type { HandOut } from "../delivery/hand_out.ts";
import { INVALID_LSN, type Lsn } from "../lsn.ts";

/** A `HandOver` from when it is there; until then it holds nothing back. */
export class LateHandOver implements HandOut {
  #handOver: HandOver | null = null;
  /** How far the stream has come. */
  #reached: Lsn = INVALID_LSN;
  /** The transaction at hand. */
  #begun: Parameters<HandOut["begin"]> | null = null;

  /** From now on it is this one, which learns where the stream is: in the middle of a transaction, it may be. */
  become(handOver: HandOver): HandOver {
    if (this.#begun !== null) handOver.begin(...this.#begun);
    handOver.reached(this.#reached);
    return this.#handOver = handOver;
  }

  /** There is no stream any more: the next one begins before what this one had reached, or is another server's. */
  lose(): void {
    this.#reached = INVALID_LSN;
  }

  gate(commitLsn: Lsn): Promise<void> | null {
    return this.#handOver?.gate(commitLsn) ?? null;
  }

  begin(transaction: TrackedTransaction, xid: number, commitLsn: Lsn): void {
    if (this.#handOver === null) this.#begun = [transaction, xid, commitLsn];
    else this.#handOver.begin(transaction, xid, commitLsn);
  }

  event(event: ChangeEvent, table: EventTable): void {
    this.#handOver?.event(event, table);
  }

  reached(lsn: Lsn): void {
    if (this.#handOver === null) this.#reached = lsn;
    else this.#handOver.reached(lsn);
  }
}
