/** What stands beside the stream's way into the queue, for rows that do not come from the stream. */
import type { ChangeEvent } from "../change.ts";
import type { Lsn } from "../lsn.ts";
import type { EventTable } from "./event_builder.ts";
import type { TrackedTransaction } from "./frontier.ts";

/** Watches what is handed out, and may hold it back between two transactions. */
export interface HandOut {
  /**
   * Null where a transaction may be handed out whose commit record is there; else what to wait for
   * before asking again.
   */
  gate(commitLsn: Lsn): Promise<void> | null;
  /** The transaction's events follow. @param commitLsn where its commit record begins */
  begin(transaction: TrackedTransaction, xid: number, commitLsn: Lsn): void;
  /** An event of it was queued. */
  event(event: ChangeEvent, table: EventTable): void;
  /** Every transaction before this position was handed out. */
  reached(lsn: Lsn): void;
}
