/** Errors of slots, publications and the replication stream. */
import { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";

/** Something about replication is not as it must be: the server, a table, the stream. */
export class ReplicationError extends PgStreamError {
  /** `"ReplicationError"` */
  override name = "ReplicationError";
}

/** Something about a replication slot: missing, in use, lost, of another plugin or database. */
export class SlotError extends ReplicationError {
  /** `"SlotError"` */
  override name = "SlotError";
  /** The slot. */
  readonly slotName: string;
  /** The walsender that holds the slot, where that is the trouble. */
  readonly activePid?: number;

  /** An error about the slot that `message` names; the way out goes into `options.hint`. */
  constructor(
    message: string,
    options: PgStreamErrorOptions & { slotName: string; activePid?: number | undefined },
  ) {
    super(message, options);
    this.slotName = options.slotName;
    if (options.activePid !== undefined) this.activePid = options.activePid;
  }
}

/** Something about a publication: missing, not to be altered, gone where the stream reads. */
export class PublicationError extends ReplicationError {
  /** `"PublicationError"` */
  override name = "PublicationError";
  /** The publication. */
  readonly publicationName: string;

  /** An error about the publication that `message` names; the way out goes into `options.hint`. */
  constructor(message: string, options: PgStreamErrorOptions & { publicationName: string }) {
    super(message, options);
    this.publicationName = options.publicationName;
  }
}
