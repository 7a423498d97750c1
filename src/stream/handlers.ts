/** The handlers of a stream, as the delivery calls them. */
import type { ChangeEvent } from "../change.ts";
import type { BatchLimits, Handler, HandlerContext } from "../delivery/handler.ts";
import type { Sink } from "../sinks/sink.ts";

/** Inside, events are not typed by table: the types are the caller's. */
export type EventHandler = (event: ChangeEvent, sink: Sink, context: HandlerContext) => unknown;
/** A handler of several events. */
export type BatchHandler = (events: ChangeEvent[], sink: Sink, context: HandlerContext) => unknown;

/** Handlers in the order in which they were added, which is the order in which each event meets them. */
export class Handlers {
  readonly #bound: ((sink: Sink) => Handler)[] = [];
  #batch: BatchLimits | null = null;

  /** How many there are. */
  get count(): number {
    return this.#bound.length;
  }

  /** The smallest of each limit that a batch handler gave; null where there is none. */
  get batch(): BatchLimits | null {
    return this.#batch;
  }

  /** Adds a handler of single events. */
  add(handler: EventHandler): void {
    this.#bound.push((sink) => ({
      batch: false,
      call: (event, context) => handler(event, sink, context),
    }));
  }

  /** Adds a handler of batches. */
  addBatch(handler: BatchHandler, limits: BatchLimits): void {
    this.#bound.push((sink) => ({
      batch: true,
      call: (events, context) => handler(events, sink, context),
    }));
    const others = this.#batch ?? limits;
    this.#batch = {
      maxEvents: Math.min(others.maxEvents, limits.maxEvents),
      maxBytes: Math.min(others.maxBytes, limits.maxBytes),
      maxDelayMs: Math.min(others.maxDelayMs, limits.maxDelayMs),
    };
  }

  /** All, with the sink that they get. */
  bind(sink: Sink): Handler[] {
    return this.#bound.map((handler) => handler(sink));
  }
}
