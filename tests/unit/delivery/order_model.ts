/**
 * The promises about order, word for word, for events of any history: what is called, when, and how
 * far that is confirmed. Knows nothing of lanes, nor of how keys are spread over them.
 */
import { assert, assertEquals } from "@std/assert";
import type { ChangeEvent, LogicalMessage } from "../../../src/change.ts";

/** What is ordered. */
type Ordered = ChangeEvent | LogicalMessage;

/** An event that was offered. */
interface Offered {
  event: Ordered;
  /** What it shares with others it has to keep its order with; null: everything. */
  keys: ReadonlySet<string> | null;
  /** Its transaction's place in the line. */
  transaction: number;
  /** Barriers before it. */
  epoch: number;
  /** Handlers that are done with it. */
  done: Set<number>;
  begun: boolean;
  settled: boolean;
}

/** Watches over one history; each breach fails with the seed in it. */
export class OrderModel {
  readonly #where: string;
  readonly #offered: Offered[] = [];
  readonly #byOrdinal = new Map<number, number>();
  readonly #running = new Set<readonly number[]>();
  readonly #line: { endLsn: bigint | null; open: number }[] = [];
  #epoch = 0;
  #held = false;

  constructor(where: string) {
    this.#where = where;
  }

  get settled(): number {
    return this.#offered.filter(({ settled }) => settled).length;
  }

  get count(): number {
    return this.#offered.length;
  }

  /** What may be confirmed: the end of the last transaction before which nothing is left to do. */
  get confirmed(): bigint {
    let confirmed = 0n;
    for (const { endLsn, open } of this.#line) {
      if (endLsn === null || open > 0) break;
      confirmed = endLsn;
    }
    return confirmed;
  }

  begin(): void {
    this.#line.push({ endLsn: null, open: 0 });
  }

  /** @param keys null: it waits for all before it, and all behind it wait. Its ordinal names the event. */
  offer(event: Ordered, keys: readonly string[] | null): void {
    this.#byOrdinal.set(event.ordinal, this.#offered.length);
    const transaction = this.#line.length - 1;
    this.#line[transaction]!.open++;
    this.#offered.push({
      event,
      keys: keys === null ? null : new Set(keys),
      transaction,
      epoch: this.#epoch,
      done: new Set(),
      begun: false,
      settled: false,
    });
  }

  barrier(): void {
    this.#epoch++;
  }

  commit(endLsn: bigint): void {
    this.#line.at(-1)!.endLsn = endLsn;
  }

  keepalive(endLsn: bigint): void {
    this.#line.push({ endLsn, open: 0 });
  }

  hold(held: boolean): void {
    this.#held = held;
  }

  /** A handler is called. @returns what to call when it ended. */
  called(handler: number, events: readonly Ordered[]): (ok: boolean) => void {
    const places = events.map((event) => this.#byOrdinal.get(event.ordinal)!);
    assert(!this.#held, `called while held: ${this.#where}`);
    places.forEach((place, at) => this.#checkCall(handler, place, places.slice(0, at)));
    for (const other of this.#running) {
      for (const place of places) {
        for (const theirs of other) {
          assert(!this.#mustKeepOrder(place, theirs), `${this.#say(place, theirs)} side by side`);
        }
      }
    }
    for (const place of places) this.#offered[place]!.begun = true;
    this.#running.add(places);
    return (ok) => {
      this.#running.delete(places);
      if (ok) { for (const place of places) this.#offered[place]!.done.add(handler); }
    };
  }

  /** An event is done. @param handlers how many there are: each is done with it, unless it was skipped. */
  settle(event: Ordered, skipped: boolean, handlers: number): void {
    const place = this.#byOrdinal.get(event.ordinal)!;
    const offered = this.#offered[place]!;
    assertEquals(offered.settled, false, `settled twice: ${this.#say(place)}`);
    if (!skipped) assertEquals(offered.done.size, handlers, `not handled: ${this.#say(place)}`);
    offered.settled = true;
    this.#line[offered.transaction]!.open--;
  }

  #checkCall(handler: number, place: number, sameCall: readonly number[]): void {
    const offered = this.#offered[place]!;
    assert(!offered.settled, `called again though settled: ${this.#say(place)}`);
    assert(!offered.done.has(handler), `called again though done: ${this.#say(place)}`);
    for (let before = 0; before < place; before++) {
      const earlier = this.#offered[before]!;
      if (earlier.settled) continue;
      const meets = earlier.keys === null || offered.keys === null;
      assert(!meets && earlier.epoch === offered.epoch, `${this.#say(before, place)}: no waiting`);
      if (!this.#mustKeepOrder(before, place)) continue;
      assert(
        earlier.done.has(handler) || sameCall.includes(before),
        `${this.#say(before, place)}: overtaken`,
      );
    }
    for (let behind = place + 1; behind < this.#offered.length; behind++) {
      if (!this.#mustKeepOrder(place, behind) || !this.#offered[behind]!.begun) continue;
      // Both were in one call that failed as a whole, or the one behind would have had to wait.
      assert(!this.#offered[behind]!.done.has(handler), `${this.#say(place, behind)}: reversed`);
    }
  }

  #mustKeepOrder(one: number, other: number): boolean {
    const [a, b] = [this.#offered[one]!, this.#offered[other]!];
    if (a.epoch !== b.epoch || a.keys === null || b.keys === null) return true;
    for (const key of a.keys) if (b.keys.has(key)) return true;
    return false;
  }

  #say(...places: number[]): string {
    const names = places.map((place) => {
      const { event, keys } = this.#offered[place]!;
      return `${event.operation} ${place} [${keys === null ? "*" : [...keys].join(" ")}]`;
    });
    return `${names.join(" and ")}: ${this.#where}`;
  }
}
