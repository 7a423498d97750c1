/** Errors of what happens between the decoder and the handler. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import { formatTableName } from "../table_name.ts";

/** A handler threw, or its promise was rejected. Nothing of the event's transaction is confirmed. */
export class HandlerError extends PgStreamError {
  /** `"HandlerError"` */
  override name = "HandlerError";
  /** Where the event belongs; null for a message. */
  readonly schema: string | null;
  /** Where the event belongs; null for a message. */
  readonly table: string | null;
  /** What the message was called; null for an event. */
  readonly prefix: string | null;
  /** What the event was. */
  readonly operation: ChangeEvent["operation"] | "message";
  /** LSN of the commit record, or of a message that belongs to no transaction. */
  readonly lsn: string;
  /** The event's place in its transaction, from 0. */
  readonly ordinal: number;

  /** An error that carries the event's coordinates, and what the handler threw as its cause. */
  constructor(event: ChangeEvent | LogicalMessage, cause: unknown) {
    super(`The handler failed on ${placeOf(event)}`, {
      kind: "handler-failed",
      hint: event.operation === "message" && !event.transactional
        ? "Its cause says why. It is not confirmed: it comes again."
        : "Its cause says why. Nothing of that transaction is confirmed: it comes again.",
      cause,
    });
    const message = event.operation === "message";
    this.schema = message ? null : event.schema;
    this.table = message ? null : event.table;
    this.prefix = message ? event.prefix : null;
    this.operation = event.operation;
    this.lsn = event.lsn;
    this.ordinal = event.ordinal;
  }
}

/** What an event or a message is called in logs and errors: never what is in it. */
export function placeOf(event: ChangeEvent | LogicalMessage): string {
  const { lsn, ordinal } = event;
  if (event.operation !== "message") {
    return `${event.operation} of ${formatTableName(event)} at ${lsn}, ` +
      `event ${ordinal} of its transaction`;
  }
  const where = event.transactional ? `event ${ordinal} of its transaction` : "in no transaction";
  return `message ${JSON.stringify(event.prefix)} at ${lsn}, ${where}`;
}

/**
 * No event can be made of what the server sent: a change outside of a transaction, a row with no key, a value
 * that cannot be read. Nothing of its transaction is confirmed.
 */
export class DeliveryError extends PgStreamError {
  /** `"DeliveryError"` */
  override name = "DeliveryError";
}
