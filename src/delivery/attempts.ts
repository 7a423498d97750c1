/** Calls the handlers until events are handled, given up, or the stream is told to stop. */
import { backoffMs, pause, type RetryLimits } from "../backoff.ts";
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import { isRetryable, PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { DeliveryError, HandlerError, placeOf } from "./errors.ts";
import { isReadFailure } from "./unchanged.ts";
import {
  type Failure,
  type FailureDecision,
  type Handler,
  type HandlerContext,
  isThenable,
  type MessageCall,
} from "./handler.ts";

/** What becomes of events, and who is told. */
export interface AttemptsOptions {
  /** Called one after the other for the same events. */
  handlers: readonly Handler[];
  /** The first try counts. */
  retry: RetryLimits;
  onFailure: "stop" | ((failure: Failure) => FailureDecision | Promise<FailureDecision>);
  logger: Logger;
  /** Called before each try that is not the first. */
  onRetry: () => void;
  random: () => number;
  /** Waits before a handler is called again. Default: `pause` of `backoff.ts`. */
  pause?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Asked before a handler is called again: false where the events are not this consumer's any more. */
export type GoOn = () => Promise<boolean>;

/** Called with what is done, in order. @param skipped true where it was given up */
export type Settle = (count: number, skipped: boolean) => void;

/** The events come again, or are somebody else's. */
const GONE = Symbol();

/** Events on their way through the handlers, and how far they are. */
class Piece {
  readonly handlers: readonly Handler[];
  readonly events: ChangeEvent[];
  /** What is handled in place of events; then there are none. */
  readonly message: LogicalMessage | null;
  /** The handler whose turn it is. */
  stage: number;
  /** Its next event, where it takes them one by one. */
  next = 0;
  tries: number;

  constructor(
    handlers: readonly Handler[],
    events: ChangeEvent[],
    message: LogicalMessage | null,
    stage: number,
    tries: number,
  ) {
    this.handlers = handlers;
    this.events = events;
    this.message = message;
    this.stage = stage;
    this.tries = tries;
  }

  /** Two pieces, in order. A handler of single events has told already which one it does not take. */
  split(): [Piece, Piece] {
    const { batch } = this.handlers[this.stage]!;
    const at = batch ? Math.ceil(this.events.length / 2) : this.next === 0 ? 1 : this.next;
    const passed = !batch && this.next > 0;
    return [
      this.#part(this.events.slice(0, at), passed ? this.stage + 1 : this.stage),
      this.#part(this.events.slice(at), this.stage),
    ];
  }

  #part(events: ChangeEvent[], stage: number): Piece {
    return new Piece(this.handlers, events, null, stage, this.tries);
  }
}

/** Retries in place, splits what fails, and asks what to do about the event that is left. */
export class Attempts {
  readonly #options: AttemptsOptions;
  readonly #pause: typeof pause;

  /** Calls nobody yet. */
  constructor(options: AttemptsOptions) {
    this.#options = options;
    this.#pause = options.pause ?? pause;
  }

  /**
   * Handles the events, in order. What fails as a whole is split until the event that cannot be handled
   * stands alone; those before it are settled by then, those behind it come after it.
   *
   * @param failed what the first try was rejected with, where the caller has made it
   * @param handlers in place of those of the options
   * @returns false where the signal was aborted, or `goOn` said no, before all was done
   * @throws {HandlerError} where an event could not be handled, and is not to be skipped.
   */
  async handle(
    events: ChangeEvent[],
    signal: AbortSignal,
    goOn: GoOn,
    settle: Settle,
    failed?: { error: unknown },
    handlers = this.#options.handlers,
  ): Promise<boolean> {
    const tries = failed === undefined ? 0 : 1;
    const whole = new Piece(handlers, events, null, 0, tries);
    return await this.#handle(whole, signal, goOn, settle, failed);
  }

  /**
   * Handles a message, as `handle` does an event.
   *
   * @throws {HandlerError} where it could not be handled, and is not to be skipped.
   */
  async handleMessage(
    message: LogicalMessage,
    calls: readonly MessageCall[],
    signal: AbortSignal,
    goOn: GoOn,
    settle: Settle,
  ): Promise<boolean> {
    const handlers = calls.map((call): Handler => ({
      batch: true,
      call: (_events, context) => call(message, context),
    }));
    return await this.#handle(new Piece(handlers, [], message, 0, 0), signal, goOn, settle);
  }

  async #handle(
    whole: Piece,
    signal: AbortSignal,
    goOn: GoOn,
    settle: Settle,
    failed?: { error: unknown },
  ): Promise<boolean> {
    const { retry, logger } = this.#options;
    const pieces = [whole];
    let failure = failed ?? null;
    for (let piece = pieces[0]; piece !== undefined; piece = pieces[0]) {
      // A part of what failed as a whole was tried often enough, until it is a single event.
      const partial = piece.events.length > 1 && piece.events.length < whole.events.length;
      const outcome = await this.#try(piece, partial ? 1 : retry.attempts, signal, goOn, failure);
      failure = null;
      if (outcome === GONE) return false;
      if (outcome === null) {
        pieces.shift();
        settle(piece.events.length, false);
      } else if (piece.events.length > 1 && !this.#endsBy(outcome.error)) {
        logger.warn(`The handler keeps failing on ${nameOf(piece)}: splitting them`, outcome.error);
        pieces.splice(0, 1, ...piece.split());
        await this.#pause(retryAfterMs(outcome.error), signal);
      } else {
        await this.#giveUp(piece, outcome.error);
        pieces.shift();
        settle(1, true);
      }
      if (pieces.length > 0 && (!await goOn() || signal.aborted)) return false;
    }
    return true;
  }

  /** Null where the handlers are done with the piece. */
  async #try(
    piece: Piece,
    attempts: number,
    signal: AbortSignal,
    goOn: GoOn,
    failed: { error: unknown } | null,
  ): Promise<{ error: unknown } | null | typeof GONE> {
    for (let attempt = 1;; attempt++) {
      const failure = failed ?? await this.#call(piece, signal);
      failed = null;
      if (failure === null) return null;
      // A handler that gives up because it was told to stop has not failed.
      if (signal.aborted) return GONE;
      if (attempt >= attempts || !mayPass(failure.error)) {
        return !await goOn() || signal.aborted ? GONE : failure;
      }
      const waitMs = Math.max(
        backoffMs(attempt, this.#options.retry, this.#options.random),
        retryAfterMs(failure.error),
      );
      this.#options.logger.warn(
        `The handler failed on ${nameOf(piece)}: try ${attempt + 1} of ${attempts} ` +
          `in ${Math.round(waitMs)} ms`,
        failure.error,
      );
      await this.#pause(waitMs, signal);
      if (!await goOn() || signal.aborted) return GONE;
    }
  }

  /** Goes on where the try before ended. */
  async #call(piece: Piece, signal: AbortSignal): Promise<{ error: unknown } | null> {
    const { handlers } = piece;
    if (piece.tries > 0) this.#options.onRetry();
    const context: HandlerContext = { signal, attempt: ++piece.tries };
    try {
      for (; piece.stage < handlers.length; piece.stage++) {
        const handler = handlers[piece.stage]!;
        if (handler.batch) {
          await handler.call(piece.events, context);
          continue;
        }
        for (; piece.next < piece.events.length; piece.next++) {
          // The event in hand is finished, the next one is not begun.
          if (piece.next > 0 && signal.aborted) return { error: signal.reason };
          const result = handler.call(piece.events[piece.next]!, context);
          if (isThenable(result)) await result;
        }
        piece.next = 0;
      }
      return null;
    } catch (error) {
      return { error };
    }
  }

  /** True where it is no event's fault, and the stream ends: to look for the event would take as long again. */
  #endsBy(error: unknown): boolean {
    return this.#options.onFailure === "stop" && isRetryable(error);
  }

  /** Returns where the event, or the message, is to be skipped. */
  async #giveUp(piece: Piece, error: unknown): Promise<void> {
    const { onFailure, logger } = this.#options;
    const { events, message, tries } = piece;
    const event = message ?? events[0]!;
    if (onFailure === "stop") throw failureOf(event, error);
    let decision: FailureDecision;
    try {
      decision = await onFailure({ error, events, message, attempts: tries });
    } catch (cause) {
      logger.error(`onFailure failed for ${nameOf(piece)}, whose own failure was`, error);
      throw new DeliveryError(`onFailure failed for ${nameOf(piece)}`, {
        kind: "on-failure",
        hint: "Its cause says why. Nothing of that transaction is confirmed: it comes again.",
        cause,
      });
    }
    if (decision !== "skip") throw failureOf(event, error);
    logger.warn(`Skipped ${nameOf(piece)} after ${tries} tries`, error);
  }
}

/** Our own errors know whether the same call can succeed later; of others it is not known. */
function mayPass(error: unknown): boolean {
  return !(error instanceof PgStreamError) || error.retryable;
}

/** What the error asks for, as a rate limit does; 0 where it does not say. */
function retryAfterMs(error: unknown): number {
  const asked = (error as { retryAfterMs?: unknown } | null | undefined)?.retryAfterMs;
  return typeof asked === "number" && asked > 0 ? asked : 0;
}

/** What the handlers are not to blame for says so itself. */
function failureOf(event: ChangeEvent | LogicalMessage, error: unknown): PgStreamError {
  return isReadFailure(error) ? error : new HandlerError(event, error);
}

function nameOf({ events, message }: Piece): string {
  const others = events.length > 1 ? ` and ${events.length - 1} more` : "";
  return `${placeOf(message ?? events[0]!)}${others}`;
}
