/** Events by transaction, for a consumer that pulls them and says itself when they are handled. */
import type { ChangeEvent } from "../change.ts";
import { DECODED_BYTES, EVENT_OVERHEAD_BYTES, type EventQueue } from "./event_queue.ts";
import type { Frontier, TrackedTransaction } from "./frontier.ts";

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
  bytes: number;
  transaction: TrackedTransaction;
  /** To be called before it is handed over. */
  calls: (() => Promise<unknown>)[];
}

/** What a queue of transactions works with. */
export interface TransactionQueueOptions {
  /** Learns of what is acknowledged. */
  frontier: Frontier;
  /** The producer waits while more than this is queued, or enough to go on with. What is handed over does not count any more. */
  maxQueueBytes: number;
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
  #ended = false;
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

  offer(event: ChangeEvent, bytes: number, transaction: TrackedTransaction): void {
    const { frontier, maxQueueBytes } = this.#options;
    this.#forgetOthers(transaction);
    const full = this.#open !== null && this.#open.bytes >= maxQueueBytes * PART_SHARE;
    if (this.#open !== null && (full || this.#calls.length > 0)) this.#close(false);
    this.#open ??= { events: [], bytes: 0, transaction, calls: this.#calls.splice(0) };
    const cost = bytes + EVENT_OVERHEAD_BYTES;
    this.#open.events.push(event);
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
        this.#ended = true;
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

  /** The next part; null once the queue has ended. */
  async next(): Promise<TransactionPart | null> {
    this.done();
    while ((this.#closed.length === 0 || this.#held) && !this.#ended) {
      await new Promise<void>((resolve) => {
        this.#wake = () => {
          this.#wake = null;
          resolve();
        };
      });
    }
    if (this.#ended) return null;
    const { events, bytes, transaction, last, calls } = this.#closed.shift()!;
    this.#inHand = true;
    for (const call of calls) await call();
    this.#bytes -= bytes;
    if (this.#hasRoom) this.#giveRoom();
    return { events, lsn: events[0]!.lsn, last, ack: this.#acknowledger(events, transaction) };
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
