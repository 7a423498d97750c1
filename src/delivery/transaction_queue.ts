/** Events by transaction, for a consumer that pulls them and says itself when they are handled. */
import { backoffMs, pause, type RetryLimits } from "../backoff.ts";
import type { ChangeEvent } from "../change.ts";
import { isRetryable } from "../errors.ts";
import type { EventTable } from "./event_builder.ts";
import { DECODED_BYTES, EVENT_OVERHEAD_BYTES, type EventQueue } from "./event_queue.ts";
import type { Frontier, TrackedTransaction } from "./frontier.ts";
import type { UnchangedReader, UnreadEvent } from "./unchanged.ts";

/** What a part holds before another one is begun, as a share of what the queue may hold. */
const PART_SHARE = 1 / 4;

/** Events of one transaction, all or some. */
export interface TransactionPart {
  events: ChangeEvent[];
  /** LSN of the commit record. */
  lsn: string;
  /** False where more of the transaction follows. */
  last: boolean;
  /** These events are handled. A second call has no effect. */
  ack: () => void;
}

interface OpenPart {
  events: ChangeEvent[];
  /** Those of them whose columns are to be read. */
  unread: UnreadEvent[];
  bytes: number;
  transaction: TrackedTransaction;
  /** To be called before it is handed over. */
  calls: (() => Promise<unknown>)[];
}

/** Reads columns again that were not sent, before a part is handed over; tries again where that fails. */
export interface PulledReader {
  reader: UnchangedReader;
  retry: RetryLimits;
}

/** What a queue of transactions works with. */
export interface TransactionQueueOptions {
  /** Learns of what is acknowledged. */
  frontier: Frontier;
  /** The producer waits while more than this is queued, or enough to go on with. What is handed over does not count any more. */
  maxQueueBytes: number;
  /** Default: nobody reads what was not sent. */
  unchanged?: PulledReader | null;
  /** Called for each event that is acknowledged. */
  onSettled: (event: ChangeEvent) => void;
  /** Called when the frontier may have moved. */
  onProgress: () => void;
}

/** Gathers events until their transaction is whole, or large enough to come in parts. */
export class TransactionQueue implements EventQueue {
  readonly #options: TransactionQueueOptions;
  readonly #closed: (OpenPart & { last: boolean })[] = [];
  #open: OpenPart | null = null;
  /** Of the part that is begun next. */
  #calls: (() => Promise<unknown>)[] = [];
  #bytes = 0;
  readonly #over = new AbortController();
  #room: PromiseWithResolvers<void> | null = null;
  #wake: (() => void) | null = null;
  #inHand = false;
  #held = false;
  #released: (() => void) | null = null;

  /** Empty. */
  constructor(options: TransactionQueueOptions) {
    this.#options = options;
  }

  get queueBytes(): number {
    return this.#bytes;
  }

  offer(
    event: ChangeEvent,
    bytes: number,
    transaction: TrackedTransaction,
    table?: EventTable,
  ): void {
    const { frontier, maxQueueBytes, unchanged } = this.#options;
    this.#forgetOthers(transaction);
    const full = this.#open !== null && this.#open.bytes >= maxQueueBytes * PART_SHARE;
    if (this.#open !== null && (full || this.#calls.length > 0)) this.#close(false);
    this.#open ??= { events: [], unread: [], bytes: 0, transaction, calls: this.#calls.splice(0) };
    const cost = bytes + EVENT_OVERHEAD_BYTES;
    this.#open.events.push(event);
    if (unchanged != null && event.unchanged.length > 0) {
      this.#open.unread.push({ event, table: table! });
    }
    this.#open.bytes += cost;
    this.#bytes += cost;
    frontier.expect(transaction);
  }

  offerMessage(): void {
    // Whoever pulls has no handlers, and nobody asks the server for messages.
  }

  commit(transaction: TrackedTransaction): void {
    this.#forgetOthers(transaction);
    // A part is only closed where an event of its transaction follows: the last one is never empty.
    if (this.#open !== null) this.#close(true);
  }

  /** Whoever pulls gets everything in order. */
  barrier(call?: () => Promise<unknown>): void {
    if (call !== undefined) this.#calls.push(call);
  }

  flush(): void {
    // Nothing is gathered for longer than a transaction lasts.
  }

  room(): Promise<void> | null {
    if (this.#hasRoom) return null;
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  drained(): Promise<void> {
    return Promise.resolve();
  }

  hold(): void {
    this.#held = true;
  }

  release(): void {
    this.#held = false;
    this.#wake?.();
  }

  drop(): void {
    this.#forgetOpen();
    // What comes next has the shapes that these tell of.
    this.#calls.unshift(...this.#closed.splice(0).flatMap(({ calls }) => calls));
    this.#bytes = 0;
    this.#giveRoom();
  }

  /** Hands out nothing by itself: lasts until it is told to stop, and the part in hand is done with. */
  run({ signal }: AbortController): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.#over.abort(signal.reason);
        this.#wake?.();
        this.#giveRoom();
        if (this.#inHand) this.#released = resolve;
        else resolve();
      };
      if (signal.aborted) end();
      else signal.addEventListener("abort", end, { once: true });
    });
  }

  abandon(): void {
    // What is in the consumer's hands is the consumer's.
  }

  /** The consumer is done with the part that was handed over, whether it acknowledged it or not. */
  done(): void {
    this.#inHand = false;
    this.#released?.();
  }

  /**
   * The next part; null once the queue has ended.
   *
   * @throws {DeliveryError} of kind `read-unchanged`
   */
  async next(): Promise<TransactionPart | null> {
    this.done();
    while ((this.#closed.length === 0 || this.#held) && !this.#ended) await this.#woken();
    if (this.#ended) return null;
    const part = this.#closed.shift()!;
    this.#cut(part);
    this.#inHand = true;
    for (const call of part.calls) await call();
    if (part.unread.length > 0 && !await this.#read(part.unread)) return null;
    const { events, bytes, transaction, last } = part;
    this.#bytes -= bytes;
    if (this.#hasRoom) this.#giveRoom();
    return { events, lsn: events[0]!.lsn, last, ack: this.#acknowledger(events, transaction) };
  }

  get #ended(): boolean {
    return this.#over.signal.aborted;
  }

  #woken(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = null;
        resolve();
      };
    });
  }

  /** Values that are read may be large, and are no part of what the queue is bounded by: some at a time. */
  #cut(part: OpenPart & { last: boolean }): void {
    const next = part.unread[this.#options.unchanged?.reader.limit ?? 0];
    if (next === undefined) return;
    const at = part.events.indexOf(next.event);
    const bytes = Math.floor(part.bytes * at / part.events.length);
    this.#closed.unshift({
      ...part,
      events: part.events.splice(at),
      unread: part.unread.splice(part.unread.indexOf(next)),
      bytes: part.bytes - bytes,
      calls: [],
    });
    part.bytes = bytes;
    part.last = false;
  }

  /** @returns false where the queue has ended before it could be done */
  async #read(unread: readonly UnreadEvent[]): Promise<boolean> {
    const { reader, retry } = this.#options.unchanged!;
    const { signal } = this.#over;
    for (let attempt = 1;; attempt++) {
      try {
        await reader.read(unread, signal);
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        if (attempt >= retry.attempts || !isRetryable(error)) throw error;
        await pause(backoffMs(attempt, retry), signal);
        // There is no server to ask.
        while (this.#held && !this.#ended) await this.#woken();
      }
    }
  }

  /** The first event after a part that was closed is let in, or nobody would ever see that it is the next. */
  get #hasRoom(): boolean {
    return this.#ended || this.#closed.length === 0 ||
      this.#bytes <= Math.min(DECODED_BYTES, this.#options.maxQueueBytes);
  }

  #acknowledger(events: readonly ChangeEvent[], transaction: TrackedTransaction): () => void {
    const { frontier, onSettled, onProgress } = this.#options;
    let done = false;
    return () => {
      if (done) return;
      done = true;
      frontier.handled(transaction, events.length);
      for (const event of events) onSettled(event);
      onProgress();
    };
  }

  /** The rest of another transaction was missed with its slot: a part that never ends is of no use. */
  #forgetOthers(transaction: TrackedTransaction): void {
    if (this.#open !== null && this.#open.transaction !== transaction) this.#forgetOpen();
  }

  #forgetOpen(): void {
    if (this.#open === null) return;
    this.#bytes -= this.#open.bytes;
    this.#calls.unshift(...this.#open.calls);
    this.#open = null;
  }

  #close(last: boolean): void {
    this.#closed.push({ ...this.#open!, last });
    this.#open = null;
    this.#wake?.();
  }

  #giveRoom(): void {
    this.#room?.resolve();
    this.#room = null;
  }
}
