/** The queue between the socket and the handler, bounded in bytes, and the loop that empties it. */
import type { ChangeEvent } from "../change.ts";
import { HandlerError } from "./errors.ts";
import type { Frontier, TrackedTransaction } from "./frontier.ts";

/** What an event's objects take beside its text, roughly. */
const EVENT_OVERHEAD_BYTES = 256;

/** Timers, status updates among them, run at least this often, however quick the handler is. */
const LONGEST_TURN_MS = 20;

/** Called for each event, one after the other. A promise is waited for. */
export type Handle = (event: ChangeEvent, signal: AbortSignal) => unknown;

/** What a delivery works with. */
export interface DeliveryOptions {
  handle: Handle;
  /** Learns of each handled event. */
  frontier: Frontier;
  /** Called after each handled event, when the frontier may have moved. */
  onHandled: (event: ChangeEvent) => void;
  /** The producer waits while more than this is queued. */
  maxQueueBytes: number;
  /** A clock in milliseconds. Default: `performance.now`. */
  now?: () => number;
}

interface QueuedEvent {
  event: ChangeEvent;
  transaction: TrackedTransaction;
  bytes: number;
}

/** Hands events to the handler in the order in which they were offered. */
export class Delivery {
  readonly #options: Required<DeliveryOptions>;
  /** The first `#head` are handled. */
  #queue: (QueuedEvent | undefined)[] = [];
  #head = 0;
  #bytes = 0;
  #wakeConsumer: (() => void) | null = null;
  #room: PromiseWithResolvers<void> | null = null;
  #ended = false;
  #abandoned = false;

  constructor(options: DeliveryOptions) {
    this.#options = { now: () => performance.now(), ...options };
  }

  /** Bytes that are queued or in the handler's hands. */
  get queueBytes(): number {
    return this.#bytes;
  }

  /** Queues an event. Look at `room()` before the next one. @param bytes what it holds in memory. */
  offer(event: ChangeEvent, bytes: number, transaction: TrackedTransaction): void {
    const cost = bytes + EVENT_OVERHEAD_BYTES;
    this.#queue.push({ event, transaction, bytes: cost });
    this.#bytes += cost;
    this.#options.frontier.expect(transaction);
    this.#wakeConsumer?.();
  }

  /**
   * Null where there is room for one more event, of any size; else a promise of it. Once `run` is told
   * to stop, or has failed, nobody waits any more: look at the signal after waiting.
   */
  room(): Promise<void> | null {
    if (this.#ended || this.#bytes <= this.#options.maxQueueBytes) return null;
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  /**
   * Hands out events until `signal` is aborted; then the one in hand is finished, the rest are not
   * begun. The handler gets the same signal.
   *
   * @throws {HandlerError} as soon as the handler fails.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { handle, frontier, onHandled, now } = this.#options;
    const end = () => {
      this.#ended = true;
      this.#wakeConsumer?.();
      this.#giveRoom();
    };
    signal.addEventListener("abort", end);
    try {
      let turnBegan = now();
      while (!signal.aborted) {
        const next = this.#queue[this.#head];
        if (next === undefined) {
          // The turn goes on: a producer may have more without the event loop turning either.
          await this.#filled();
          continue;
        }
        try {
          const result = handle(next.event, signal);
          // Awaiting costs a tick, which a handler that returns nothing need not pay.
          if (isThenable(result)) await result;
        } catch (cause) {
          // A handler that gives up because it was told to stop has not failed: its event comes again.
          if (signal.aborted) return;
          throw new HandlerError(next.event, cause);
        }
        if (this.#abandoned) return;
        this.#shift(next);
        frontier.handled(next.transaction);
        onHandled(next.event);
        if (now() - turnBegan > LONGEST_TURN_MS) {
          await new Promise((resolve) => setTimeout(resolve, 0));
          turnBegan = now();
        }
      }
    } finally {
      signal.removeEventListener("abort", end);
      end();
    }
  }

  /** Nobody waits for the event in hand any more: when it is finished, that counts for nothing. */
  abandon(): void {
    this.#abandoned = true;
  }

  #filled(): Promise<void> {
    return new Promise((resolve) => {
      this.#wakeConsumer = () => {
        this.#wakeConsumer = null;
        resolve();
      };
    });
  }

  #shift(item: QueuedEvent): void {
    // Let go of it now: the array itself is trimmed later.
    this.#queue[this.#head++] = undefined;
    this.#bytes -= item.bytes;
    if (this.#head === this.#queue.length) {
      this.#queue.length = 0;
      this.#head = 0;
    } else if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      // Forgetting in halves keeps each step's cost constant.
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    if (this.#bytes <= this.#options.maxQueueBytes) this.#giveRoom();
  }

  #giveRoom(): void {
    this.#room?.resolve();
    this.#room = null;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}
