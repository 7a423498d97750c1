/** What stands between the intake of events and who takes them. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import type { EventTable } from "./event_builder.ts";
import type { TrackedTransaction } from "./frontier.ts";

/** What an event's objects take beside its text, roughly. */
export const EVENT_OVERHEAD_BYTES = 256;

/**
 * How far ahead of one handler events are made, in bytes. More would gain nothing, and cost a multiple:
 * V8 grows its young generation by what stays in it, up to 64 MB on Deno, and lets go of what is older
 * only with a collection of all. What waits beyond this waits as the bytes that came.
 */
export const DECODED_BYTES = 64 * 1024;

/** Takes events in commit order, and is bounded in bytes. */
export interface EventQueue {
  /** Bytes that are held: queued, or in the hands of a handler. */
  readonly queueBytes: number;
  /** Queues an event. Look at `room()` before the next one. @param bytes what it holds in memory. */
  offer(
    event: ChangeEvent,
    bytes: number,
    transaction: TrackedTransaction,
    table: EventTable,
  ): void;
  /** Queues a message, behind all that was offered before and before all that is offered after. */
  offerMessage(message: LogicalMessage, bytes: number, transaction: TrackedTransaction): void;
  /** No more events of this transaction come. */
  commit(transaction: TrackedTransaction): void;
  /**
   * What was offered before is handled before what is offered after.
   *
   * @param call called in between, and waited for; never rejected
   */
  barrier(call?: () => Promise<unknown>): void;
  /** Nothing that was offered waits for a batch to be filled. */
  flush(): void;
  /**
   * Null where there is room for one more event, of any size; else a promise of it. Once the queue has
   * ended, nobody waits any more.
   */
  room(): Promise<void> | null;
  /** Resolves once nothing is held any more, or the queue has ended. Meanwhile no batch waits to be filled. */
  drained(): Promise<void>;
  /** Begins nothing more until `release()`: somebody else may have taken this consumer's place. */
  hold(): void;
  /** Goes on after `hold()`. */
  release(): void;
  /** Forgets what is queued: somebody else has handled it. */
  drop(): void;
  /**
   * Hands out events until the signal is aborted; then what is in hand is finished, the rest is not
   * begun. Aborts the controller itself where it fails.
   */
  run(stop: AbortController): Promise<void>;
  /** Nobody waits for what is in hand any more: when it is finished, that counts for nothing. */
  abandon(): void;
}
