/** Who handles events, and what is done where that fails. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";

/** What a handler gets beside the event and the sink. */
export interface HandlerContext {
  /** Aborted when the stream is told to stop: give up what takes long. */
  signal: AbortSignal;
  /** 1 for the first try of this event. */
  attempt: number;
}

/** Events that could not be handled. */
export interface Failure {
  /** What the handler threw. */
  error: unknown;
  /** The events in the handler's hands; none where it is a message that failed. */
  events: readonly ChangeEvent[];
  /** The message in the hands of a handler of `onMessage`; null where it is events that failed. */
  message?: LogicalMessage | null;
  /** How often they were tried. */
  attempts: number;
}

/** What becomes of the events of a failure: the stream ends and they come again, or they are given up. */
export type FailureDecision = "stop" | "skip";

/** A handler of one event at a time, or of several. A promise is waited for. */
export type Handler =
  | { batch: false; call: (event: ChangeEvent, context: HandlerContext) => unknown }
  | { batch: true; call: (events: ChangeEvent[], context: HandlerContext) => unknown };

/** A handler of the messages of one prefix. A promise is waited for. */
export type MessageCall = (message: LogicalMessage, context: HandlerContext) => unknown;

/** How much is gathered before a batch is handed out: whichever of these comes first. */
export interface BatchLimits {
  /** Events of a batch. */
  maxEvents: number;
  /** What its events hold in memory, but for one event that is larger alone. */
  maxBytes: number;
  /** How long its first event waits for others. */
  maxDelayMs: number;
}

/** True for what has to be waited for. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}
