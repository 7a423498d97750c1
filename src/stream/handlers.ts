/** The handlers of a stream, as the delivery calls them. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import type { BatchLimits, Handler, HandlerContext, MessageCall } from "../delivery/handler.ts";
import type { Sink } from "../sinks/sink.ts";

/** Inside, events are not typed by table: the types are the caller's. */
export type EventHandler = (event: ChangeEvent, sink: Sink, context: HandlerContext) => unknown;
/** A handler of several events. */
export type BatchHandler = (events: ChangeEvent[], sink: Sink, context: HandlerContext) => unknown;

/** A handler of the messages of one prefix. */
export type MessageHandler = (
  message: LogicalMessage,
  sink: Sink,
  context: HandlerContext,
) => unknown;

/** Handlers in the order in which they were added, which is the order in which each event meets them. */
export class Handlers {
  readonly #bound: ((sink: Sink) => Handler)[] = [];
  readonly #messages = new Map<string, MessageHandler[]>();
  #batch: BatchLimits | null = null;

  /** The prefixes that have a handler of messages. */
  get prefixes(): ReadonlySet<string> {
    return new Set(this.#messages.keys());
  }

  /** How many handlers of events there are. */
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

  /** Adds a handler of messages with exactly this prefix. */
  addMessage(prefix: string, handler: MessageHandler): void {
    const others = this.#messages.get(prefix);
    if (others === undefined) this.#messages.set(prefix, [handler]);
    else others.push(handler);
  }

  /** Those of messages, by prefix, with the sink that they get. */
  bindMessages(sink: Sink): Map<string, MessageCall[]> {
    const bound = new Map<string, MessageCall[]>();
    for (const [prefix, handlers] of this.#messages) {
      bound.set(
        prefix,
        handlers.map((handler) => (message, context) => handler(message, sink, context)),
      );
    }
    return bound;
  }

  /** Those of events, with the sink that they get. */
  bind(sink: Sink): Handler[] {
    return this.#bound.map((handler) => handler(sink));
  }
}
