/** What waits for its turn with one key, or one group of keys: strictly one after the other. */
import { LONGEST_TIMER_MS } from "../backoff.ts";
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import type { TrackedTransaction } from "./frontier.ts";

/** A place in one lane, or in several at once. */
export interface Item {
  /** Null: no event is handed out, the lanes wait for each other. */
  event: ChangeEvent | null;
  /** Where it counts. */
  transaction: TrackedTransaction | null;
  /** What it holds in memory. */
  bytes: number;
  /** When it was placed, by the delivery's clock. */
  placedMs: number;
  /** True where it is not to be handed out any more. */
  dropped: boolean;
  /** Where it stands in several lanes: it is handed out once all of them have come to it. */
  meeting: Meeting | null;
}

/** Several lanes that wait for each other. */
export interface Meeting {
  lanes: readonly Lane[];
  /** How many have come to it. */
  arrived: number;
  /** True once they may go on. */
  over: boolean;
  /** What is handled, in place of an event, once all have come. */
  message: LogicalMessage | null;
  /** What is called, once all have come, before they go on. */
  call: (() => Promise<unknown>) | null;
}

/** A place of no event, where lanes wait for each other. */
export function newPlace(bytes: number, transaction: TrackedTransaction | null): Item {
  return { event: null, transaction, bytes, placedMs: 0, dropped: false, meeting: null };
}

/** A queue that one loop empties. */
export class Lane {
  #items: (Item | undefined)[] = [];
  /** The first `#head` are gone. */
  #head = 0;
  #bytes = 0;
  #meetings = 0;
  /** So many of the first items wait for no others. */
  #hurried = 0;
  #wake: (() => void) | null = null;

  /** Items that are not gone yet. */
  get length(): number {
    return this.#items.length - this.#head;
  }

  /** What they hold. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Places among them where this lane waits for others. */
  get meetings(): number {
    return this.#meetings;
  }

  /** True where the first item waits for no others. */
  get hurried(): boolean {
    return this.#hurried > 0;
  }

  /** What is here waits for nothing that comes later. */
  hurry(): void {
    this.#hurried = this.length;
    this.wake();
  }

  /** Puts an item behind all others. */
  push(item: Item): void {
    this.#items.push(item);
    this.#bytes += item.bytes;
    if (item.meeting !== null) this.#meetings++;
    this.wake();
  }

  /** The item so many places behind the first; undefined where there are not so many. */
  peek(offset = 0): Item | undefined {
    return this.#items[this.#head + offset];
  }

  /** Nothing of what is here is handed out any more. */
  drop(): void {
    for (let at = this.#head; at < this.#items.length; at++) this.#items[at]!.dropped = true;
    this.wake();
  }

  /** Takes the first item out. */
  shift(): Item {
    const item = this.#items[this.#head]!;
    // Let go of it now: the array itself is trimmed later.
    this.#items[this.#head++] = undefined;
    this.#bytes -= item.bytes;
    if (item.meeting !== null) this.#meetings--;
    if (this.#hurried > 0) this.#hurried--;
    if (this.#head === this.#items.length) {
      this.#items.length = 0;
      this.#head = 0;
    } else if (this.#head > 1024 && this.#head * 2 > this.#items.length) {
      // Forgetting in halves keeps each step's cost constant.
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Resolves at the next `wake()`, or after `timeoutMs`. One caller at a time. */
  wait(timeoutMs?: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined
        ? undefined
        : setTimeout(() => this.wake(), Math.min(timeoutMs, LONGEST_TIMER_MS));
      this.#wake = () => {
        clearTimeout(timer);
        this.#wake = null;
        resolve();
      };
    });
  }

  /** Something may have changed for who waits. */
  wake(): void {
    this.#wake?.();
  }
}
