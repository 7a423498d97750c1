/** Errors of what happens between the decoder and the handler. */
import type { ChangeEvent } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import { formatTableName } from "../table_name.ts";

/** A handler threw, or its promise was rejected. Nothing of the event's transaction is confirmed. */
export class HandlerError extends PgStreamError {
  /** `"HandlerError"` */
  override name = "HandlerError";
  /** Where the event belongs. */
  readonly schema: string;
  /** Where the event belongs. */
  readonly table: string;
  /** What the event was. */
  readonly operation: ChangeEvent["operation"];
  /** LSN of the commit record. */
  readonly lsn: string;
  /** The event's place in its transaction, from 0. */
  readonly ordinal: number;

  /** An error that carries the event's coordinates, and what the handler threw as its cause. */
  constructor(event: ChangeEvent, cause: unknown) {
    super(
      `The handler failed on ${event.operation} of ${formatTableName(event)} ` +
        `at ${event.lsn}, event ${event.ordinal} of its transaction`,
      {
        kind: "handler-failed",
        hint: "Its cause says why. Nothing of that transaction is confirmed: it comes again.",
        cause,
      },
    );
    this.schema = event.schema;
    this.table = event.table;
    this.operation = event.operation;
    this.lsn = event.lsn;
    this.ordinal = event.ordinal;
  }
}

/**
 * No event can be made of what the server sent: a change outside of a transaction, a row with no key, a value
 * that cannot be read. Nothing of its transaction is confirmed.
 */
export class DeliveryError extends PgStreamError {
  /** `"DeliveryError"` */
  override name = "DeliveryError";
}
