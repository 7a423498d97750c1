/**
 * The queue between the socket and the handlers, bounded in bytes, and the lanes that empty it. A little longer than
 * other files: its parts share one state, and the hot path goes through all of them.
 */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import { Attempts, type AttemptsOptions, type GoOn, type Settle } from "./attempts.ts";
import type { EventTable } from "./event_builder.ts";
import { DECODED_BYTES, EVENT_OVERHEAD_BYTES, type EventQueue } from "./event_queue.ts";
import type { Frontier, TrackedTransaction } from "./frontier.ts";
import { type BatchLimits, type HandlerContext, isThenable, type MessageCall } from "./handler.ts";
import { type Item, Lane, type Meeting, newPlace } from "./lane.ts";
import type { Lsn } from "../lsn.ts";
import type { LanePlan } from "./lane_plan.ts";
import { ReadingAhead, type UnchangedReader } from "./unchanged.ts";

/** Timers, status updates among them, run at least this often, however quick the handler is. */
const LONGEST_TURN_MS = 20;
/** Events that are handled between two looks at the clock while they are quick, which costs as much as some. */
const EVENTS_PER_LOOK = 8;
const QUICK_MS = 1;
/** What events that wait cost a process, as a multiple of their bytes: a collector's slack comes on top. */
const HEAP_COST = 4;
/** Events that a lane wants to choose from, however large they are: its share may come late. */
const EVENTS_PER_LANE = 16;
/** Transactions that wait for one before them to be finished, which hold memory though no event. */
const MOST_UNCONFIRMED = 50_000;

/** What a delivery works with. */
export interface DeliveryOptions extends AttemptsOptions {
  /** Learns of each handled event. */
  frontier: Frontier;
  /** By prefix: who is called for a message. Default: nobody. */
  messageHandlers?: ReadonlyMap<string, readonly MessageCall[]>;
  /** Reads columns again that were not sent, before the handlers are called. Default: nobody does. */
  unchanged?: UnchangedReader | null;
  /** Which events may be handled side by side. */
  lanes: LanePlan;
  /** How batches are gathered; null: each event alone. */
  batch: BatchLimits | null;
  /** The producer waits while more than this is held, or enough to go on with. */
  maxQueueBytes: number;
  /** Called for each event that is done. @param skipped true where it was given up */
  onSettled: (event: ChangeEvent, skipped: boolean) => void;
  /** The same for each message. Default: nobody is called. */
  onMessageSettled?: (message: LogicalMessage, skipped: boolean) => void;
  /** Called when the frontier may have moved. */
  onProgress: () => void;
  /** A clock in milliseconds. Default: `performance.now`. */
  now?: () => number;
}

/** Hands events to the handlers: those of one lane in the order in which they were offered. */
export class Delivery implements EventQueue {
  readonly #options: DeliveryOptions & { now: () => number };
  readonly #attempts: Attempts;
  readonly #lanes: readonly Lane[];
  /** Made ahead, beyond which more would not help. */
  readonly #enoughBytes: number;
  /** With fewer, batches would not get full, or lanes would have nothing to do. */
  readonly #wantedItems: number;
  /** Null where nobody reads what was not sent. */
  readonly #ahead: ReadingAhead | null;
  #bytes = 0;
  /** Items in all lanes; one that several lanes share counts once. */
  #items = 0;
  #room: PromiseWithResolvers<void> | null = null;
  #drained: PromiseWithResolvers<void> | null = null;
  /** Resolves when what is held may go on; null where nothing is. */
  #held: PromiseWithResolvers<void> | null = null;
  /** How often what was queued was given to somebody else. */
  #drops = 0;
  #ended = false;
  #abandoned = false;
  #turnBegan = 0;
  #looked = 0;
  /** Events until the clock is looked at again. */
  #untilLook = 1;
  /** One for all lanes: a turn of its own for each would add up. Null where nobody asks whether there was one. */
  #nextTurn: Promise<void> | null = null;
  #turnTimer: ReturnType<typeof setTimeout> | undefined;

  /** Hands out nothing before `run`. */
  constructor(options: DeliveryOptions) {
    this.#options = { now: () => performance.now(), ...options };
    this.#attempts = new Attempts(options);
    this.#ahead = options.unchanged == null ? null : new ReadingAhead(options.unchanged);
    this.#lanes = Array.from({ length: options.lanes.count }, () => new Lane());
    const { maxQueueBytes, lanes } = options;
    // One lane that is slow must not stop the others: what they look for may be far behind what it holds.
    const farAhead = lanes.count === 1 ? 0 : maxQueueBytes / HEAP_COST;
    this.#enoughBytes = Math.max(Math.min(DECODED_BYTES, maxQueueBytes), farAhead);
    // A batch in hand, and the next one.
    this.#wantedItems = options.lanes.count *
      Math.max(EVENTS_PER_LANE, 2 * (options.batch?.maxEvents ?? 0));
  }

  get queueBytes(): number {
    return this.#bytes;
  }

  offer(
    event: ChangeEvent,
    bytes: number,
    transaction: TrackedTransaction,
    table: EventTable,
  ): void {
    const { frontier, lanes, batch, now } = this.#options;
    const place = lanes.place(event, table);
    const item: Item = {
      event,
      transaction,
      bytes: bytes + EVENT_OVERHEAD_BYTES,
      placedMs: batch === null ? 0 : now(),
      dropped: false,
      meeting: null,
    };
    if (this.#ahead !== null && event.unchanged.length > 0) this.#ahead.expect(event, table);
    this.#bytes += item.bytes;
    frontier.expect(transaction);
    if (typeof place === "number") {
      this.#items++;
      this.#lanes[place]!.push(item);
    } else {
      this.#meet(item, place === null ? this.#lanes : place.map((lane) => this.#lanes[lane]!));
    }
  }

  offerMessage(message: LogicalMessage, bytes: number, transaction: TrackedTransaction): void {
    const held = bytes + EVENT_OVERHEAD_BYTES;
    this.#bytes += held;
    this.#options.frontier.expect(transaction);
    this.#meet(newPlace(held, transaction), this.#lanes, { message });
  }

  commit(): void {
    // Events are handed out as they come.
  }

  barrier(call: (() => Promise<unknown>) | null = null): void {
    if (this.#lanes.length > 1 || call !== null) {
      this.#meet(newPlace(0, null), this.#lanes, { call });
    }
  }

  flush(): void {
    for (const lane of this.#lanes) lane.hurry();
  }

  room(): Promise<void> | null {
    if (this.#hasRoom) return null;
    if (this.#room === null) {
      this.#room = Promise.withResolvers();
      // Nothing more can come: a batch that waits to be filled waits for nothing.
      this.#wakeAll();
    }
    return this.#room.promise;
  }

  drained(): Promise<void> {
    if (this.#items === 0 || this.#ended) return Promise.resolve();
    this.#drained ??= Promise.withResolvers();
    this.#wakeAll();
    return this.#drained.promise;
  }

  hold(): void {
    if (!this.#ended) this.#held ??= Promise.withResolvers();
  }

  release(): void {
    this.#held?.resolve();
    this.#held = null;
    this.#wakeAll();
  }

  drop(): void {
    this.#drops++;
    for (const lane of this.#lanes) lane.drop();
  }

  /**
   * What the frontier comes to once the events that the handlers have in hand are handled. With several lanes
   * nobody knows: what it is now.
   */
  frontierAfter(events: number): Lsn {
    const { frontier } = this.#options;
    const handled = new Map<TrackedTransaction, number>();
    const [lane] = this.#lanes;
    for (let at = 0; this.#lanes.length === 1 && at < events; at++) {
      const transaction = lane!.peek(at)?.transaction;
      if (transaction) handled.set(transaction, (handled.get(transaction) ?? 0) + 1);
    }
    return frontier.after(handled);
  }

  /**
   * Events behind those that the handlers have in hand, no more than a batch has: what comes next, where nothing
   * comes between. With several lanes nobody knows: none.
   */
  upcoming(inHand: number): ChangeEvent[] {
    const found: ChangeEvent[] = [];
    const [lane] = this.#lanes;
    const most = this.#lanes.length > 1 ? 0 : this.#options.batch?.maxEvents ?? 0;
    while (found.length < most) {
      const item = lane!.peek(inHand + found.length);
      if (item === undefined || item.meeting !== null || item.dropped) break;
      found.push(item.event!);
    }
    return found;
  }

  /** @throws {HandlerError} once the handler has failed for good, when what other lanes have in hand is finished. */
  async run(stop: AbortController): Promise<void> {
    const { signal } = stop;
    const end = () => {
      this.#ended = true;
      this.release();
      this.#giveRoom();
      this.#drained?.resolve();
    };
    if (signal.aborted) end();
    signal.addEventListener("abort", end);
    this.#turnBegan = this.#options.now();
    try {
      const lanes = await Promise.allSettled(this.#lanes.map(async (lane) => {
        try {
          await this.#empty(lane, signal);
        } catch (error) {
          // A second one that fails after the first has nothing to add: its event comes again too.
          if (signal.aborted) return;
          stop.abort(error);
          throw error;
        }
      }));
      for (const lane of lanes) if (lane.status === "rejected") throw lane.reason;
    } finally {
      signal.removeEventListener("abort", end);
      clearTimeout(this.#turnTimer);
      end();
    }
  }

  abandon(): void {
    this.#abandoned = true;
  }

  get #hasRoom(): boolean {
    const { maxQueueBytes, frontier } = this.#options;
    return this.#ended ||
      (this.#bytes <= maxQueueBytes &&
        (this.#bytes <= this.#enoughBytes || this.#items < this.#wantedItems) &&
        // With nothing in the lanes, what is unfinished waits for the server.
        (frontier.unfinished < MOST_UNCONFIRMED || this.#items === 0));
  }

  /** False where the producer, woken now, would be stopped again at once, event after event. */
  get #runsLow(): boolean {
    const slack = this.#enoughBytes < DECODED_BYTES ? 0 : DECODED_BYTES / 2;
    return this.#bytes <= this.#enoughBytes - slack || this.#items < this.#wantedItems;
  }

  #meet(
    item: Item,
    lanes: readonly Lane[],
    { message = null, call = null }: Partial<Pick<Meeting, "message" | "call">> = {},
  ): void {
    item.meeting = { lanes, arrived: 0, over: false, message, call };
    this.#items++;
    for (const lane of lanes) lane.push(item);
  }

  async #empty(lane: Lane, signal: AbortSignal): Promise<void> {
    const { handlers, batch } = this.#options;
    const only = handlers.length === 1 && !handlers[0]!.batch ? handlers[0]! : null;
    const firstTry: HandlerContext = { signal, attempt: 1 };
    const settle: Settle = (count, skipped) => this.#settle(lane, count, skipped);
    while (!signal.aborted) {
      const item = lane.peek();
      if (item === undefined || this.#held !== null) {
        // The turn goes on: a producer may have more without the event loop turning either.
        await lane.wait();
        continue;
      }
      if (item.dropped && item.meeting === null) {
        settle(1, false);
      } else if (item.meeting !== null) {
        await this.#together(lane, item, signal);
      } else if (only !== null && !this.#ahead?.expects(item.event!)) {
        let failed: { error: unknown } | undefined;
        const drops = this.#drops;
        try {
          const result = only.call(item.event!, firstTry);
          // Awaiting costs a tick, which a handler that returns nothing need not pay.
          if (isThenable(result)) await result;
        } catch (error) {
          failed = { error };
        }
        if (failed === undefined) settle(1, false);
        else await this.#attempts.handle([item.event!], signal, this.#goOn(drops), settle, failed);
      } else {
        const count = batch === null ? 1 : await this.#gather(lane, batch, signal);
        if (count === 0) continue;
        const events = Array.from({ length: count }, (_, offset) => lane.peek(offset)!.event!);
        await this.#handle(events, lane, signal, settle);
      }
      if (this.#turnIsLong()) await this.#nextTurn;
    }
  }

  #handle(events: ChangeEvent[], lane: Lane, signal: AbortSignal, settle: Settle) {
    const { handlers } = this.#options;
    const all = this.#ahead?.before(handlers, events, lane) ?? handlers;
    return this.#attempts.handle(events, signal, this.#goOn(), settle, undefined, all);
  }

  /** True where no timer has run for long: `#nextTurn` is to be waited for. */
  #turnIsLong(): boolean {
    if (--this.#untilLook > 0) return false;
    const now = this.#options.now();
    this.#untilLook = now - this.#looked < QUICK_MS ? EVENTS_PER_LOOK : 1;
    this.#looked = now;
    if (now - this.#turnBegan <= LONGEST_TURN_MS / 2) return false;
    if (this.#nextTurn !== null) return true;
    // Perhaps the event loop turned meanwhile, between two events. A timer will tell: to wait for it each time
    // would hold up what comes in that millisecond.
    this.#turnBegan = now;
    this.#nextTurn = new Promise((resolve) => {
      this.#turnTimer = setTimeout(() => {
        this.#nextTurn = null;
        this.#turnBegan = this.#options.now();
        resolve();
      }, 0);
    });
    return false;
  }

  /** Waits for the other lanes of the item. The last one that comes to it hands it out. */
  async #together(lane: Lane, item: Item, signal: AbortSignal): Promise<void> {
    const meeting = item.meeting!;
    if (++meeting.arrived < meeting.lanes.length) {
      while (!meeting.over && !signal.aborted) await lane.wait();
      if (meeting.over) lane.shift();
      return;
    }
    const settle: Settle = (_, skipped) => {
      meeting.over = true;
      this.#settle(lane, 1, skipped);
      for (const other of meeting.lanes) other.wake();
    };
    const { message, call } = meeting;
    // Also where it was dropped: what comes next has the new shape.
    if (call !== null) await call();
    if ((item.event === null && message === null) || item.dropped) return settle(1, false);
    const done = message === null
      ? await this.#handle([item.event!], lane, signal, settle)
      : await this.#attempts.handleMessage(
        message,
        this.#callsOf(message),
        signal,
        this.#goOn(),
        settle,
      );
    // Its lanes wait for it, whoever handles it now.
    if (!done && item.dropped) settle(1, false);
  }

  #callsOf({ prefix }: LogicalMessage): readonly MessageCall[] {
    return this.#options.messageHandlers?.get(prefix) ?? [];
  }

  /** What is in hand may be tried again as long as the stream has its slot. */
  #goOn(drops = this.#drops): GoOn {
    return async () => {
      while (this.#held !== null) await this.#held.promise;
      return drops === this.#drops;
    };
  }

  /** How many of the first items make the next batch; 0 where the signal was aborted meanwhile. */
  async #gather(lane: Lane, limits: BatchLimits, signal: AbortSignal): Promise<number> {
    const { maxEvents, maxBytes, maxDelayMs } = limits;
    while (!signal.aborted) {
      const full = lane.length >= maxEvents || lane.bytes >= maxBytes || lane.meetings > 0 ||
        lane.hurried ||
        this.#room !== null || this.#drained !== null;
      if (this.#held !== null || lane.peek()!.dropped) return 0;
      const waitMs = full ? 0 : lane.peek()!.placedMs + maxDelayMs - this.#options.now();
      if (waitMs <= 0) {
        let bytes = 0;
        let count = 0;
        for (let item = lane.peek(); item?.meeting === null; item = lane.peek(count)) {
          if (item.dropped) break;
          bytes += item.bytes;
          if (count > 0 && bytes > maxBytes) break;
          if (++count === maxEvents) break;
        }
        return count;
      }
      await lane.wait(waitMs);
    }
    return 0;
  }

  #settle(lane: Lane, count: number, skipped: boolean): void {
    if (this.#abandoned) return;
    const { frontier, onSettled, onMessageSettled, onProgress } = this.#options;
    for (let i = 0; i < count; i++) {
      const { event, bytes, transaction, dropped, meeting } = lane.shift();
      this.#items--;
      this.#bytes -= bytes;
      if (transaction === null || dropped) continue;
      frontier.handled(transaction);
      if (event !== null) onSettled(event, skipped);
      else onMessageSettled?.(meeting!.message!, skipped);
    }
    onProgress();
    if (this.#room !== null && this.#hasRoom && this.#runsLow) this.#giveRoom();
    if (this.#items === 0) {
      this.#drained?.resolve();
      this.#drained = null;
    }
  }

  #wakeAll(): void {
    for (const lane of this.#lanes) lane.wake();
  }

  #giveRoom(): void {
    this.#room?.resolve();
    this.#room = null;
  }
}
