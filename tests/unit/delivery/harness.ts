/** A delivery with a frontier and no stream around it, and the events to feed it. */
import type {
  ChangeEvent,
  DeleteEvent,
  InsertEvent,
  LogicalMessage,
  TruncateEvent,
  UpdateEvent,
} from "../../../src/change.ts";
import { Delivery, type DeliveryOptions } from "../../../src/delivery/delivery.ts";
import type { EventTable } from "../../../src/delivery/event_builder.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import type { Handler, HandlerContext } from "../../../src/delivery/handler.ts";
import { LanePlan } from "../../../src/delivery/lane_plan.ts";
import { silentLogger } from "../../../src/logger.ts";

/** A handler of single events. */
export type Handle = (event: ChangeEvent, context: HandlerContext) => unknown;
/** A handler of batches. */
export type HandleBatch = (events: ChangeEvent[], context: HandlerContext) => unknown;

/** The table of events that name no other. */
export const DOCUMENTS: EventTable = {
  name: { schema: "public", table: "documents" },
  primaryKey: ["id"],
  keyed: true,
};

const BASE = {
  schema: "public",
  table: "documents",
  lsn: "0/1A3F28",
  ordinal: 0,
  commitTime: new Date(0),
  xid: 700,
  unchanged: [],
  backfill: false,
} as const;

export function insertOf(key: string, fields: Partial<InsertEvent> = {}): InsertEvent {
  return {
    ...BASE,
    operation: "insert",
    row: { id: key },
    oldRow: null,
    key,
    oldKey: null,
    ...fields,
  };
}

/** @param oldKey null where the update does not change the key */
export function updateOf(
  key: string,
  oldKey: string | null = null,
  fields: Partial<UpdateEvent> = {},
): UpdateEvent {
  return { ...BASE, operation: "update", row: { id: key }, oldRow: null, key, oldKey, ...fields };
}

export function deleteOf(key: string, fields: Partial<DeleteEvent> = {}): DeleteEvent {
  const row = { id: key };
  return { ...BASE, operation: "delete", row, oldRow: row, key, oldKey: null, ...fields };
}

export function truncateOf(fields: Partial<TruncateEvent> = {}): TruncateEvent {
  return {
    ...BASE,
    operation: "truncate",
    row: {},
    oldRow: null,
    key: null,
    oldKey: null,
    ...fields,
  };
}

export function messageOf(
  prefix: string,
  fields: Partial<LogicalMessage> = {},
): LogicalMessage {
  return {
    operation: "message",
    prefix,
    content: new Uint8Array(),
    transactional: true,
    lsn: "0/1A3F28",
    ordinal: 0,
    commitTime: new Date(0),
    xid: 700,
    ...fields,
  };
}

export function single(call: Handle): Handler {
  return { batch: false, call };
}

export function batch(call: HandleBatch): Handler {
  return { batch: true, call };
}

/** Tried once, without a wait, unless a test says otherwise. */
export const ONCE = { attempts: 1, minDelayMs: 0, maxDelayMs: 0 };

/** Each event that is offered is a transaction that ends at its number, unless a test says otherwise. */
export class Harness {
  readonly frontier = new Frontier(0n);
  readonly delivery: Delivery;
  readonly stopping = new AbortController();
  #offered = 0;

  constructor(handle: Handle | Handler[], options: Partial<DeliveryOptions> = {}) {
    this.delivery = new Delivery({
      handlers: typeof handle === "function" ? [single(handle)] : handle,
      frontier: this.frontier,
      lanes: new LanePlan(1),
      batch: null,
      maxQueueBytes: 1_000_000,
      retry: ONCE,
      onFailure: "stop",
      logger: silentLogger,
      onRetry: () => {},
      onSettled: () => {},
      onProgress: () => {},
      random: () => 0.5,
      ...options,
    });
  }

  offer(count = 1, bytes = 100): this {
    for (let i = 0; i < count; i++) this.offerEvent(insertOf(`${this.#offered + 1}`), { bytes });
    return this;
  }

  offerEvent(event: ChangeEvent, { bytes = 100, table = DOCUMENTS } = {}): this {
    const transaction = this.frontier.begin();
    this.delivery.offer(event, bytes, transaction, table);
    this.frontier.commit(transaction, BigInt(++this.#offered));
    return this;
  }

  /** A transaction of its own, as an event is. */
  offerMessage(message: LogicalMessage, bytes = 100): this {
    const transaction = this.frontier.begin();
    this.delivery.offerMessage(message, bytes, transaction);
    this.frontier.commit(transaction, BigInt(++this.#offered));
    return this;
  }

  /** The next event is the one after the next. */
  skipNumber(): void {
    this.#offered++;
  }

  /** These events, and no others, are one transaction. */
  offerTransaction(events: readonly ChangeEvent[], bytes = 100): this {
    const transaction = this.frontier.begin();
    for (const event of events) this.delivery.offer(event, bytes, transaction, DOCUMENTS);
    this.#offered += events.length;
    this.frontier.commit(transaction, BigInt(this.#offered));
    return this;
  }

  run(): Promise<void> {
    return this.delivery.run(this.stopping);
  }

  stop(reason?: unknown): void {
    this.stopping.abort(reason);
  }

  /** Runs until everything that was offered is handled, or a handler fails for good. */
  async drain(): Promise<void> {
    const running = this.run();
    await this.delivery.drained();
    this.stop();
    await running;
  }

  /** As `drain`, but batches are not hurried. */
  async pass(): Promise<void> {
    const running = this.run();
    while (this.delivery.queueBytes > 0 && !this.stopping.signal.aborted) await turn();
    this.stop();
    await running;
  }
}

/** What one event takes beside its bytes on the wire. */
export const OVERHEAD = new Harness(() => {}).offer(1, 0).delivery.queueBytes;

/** One turn of the event loop: timers run, and all that follows from promises. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Looks, without waiting for it, whether a promise is settled after a few turns. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const done = () => settled = true;
  promise.then(done, done);
  for (let i = 0; i < 3; i++) await turn();
  return settled;
}

/** A promise that a test settles. */
export class Gate {
  readonly #opened = Promise.withResolvers<void>();

  get passed(): Promise<void> {
    return this.#opened.promise;
  }

  open(): void {
    this.#opened.resolve();
  }
}

/** The promise, which must settle: a delivery that waits in a circle would never end. */
export async function inTime<T>(what: string, promise: Promise<T>, timeoutMs = 15_000): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Not within ${timeoutMs} ms: ${what}`)), timeoutMs);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
