/** Errors of reading existing rows, and of keeping how far that got. */
import { PgStreamError } from "../errors.ts";

/**
 * Existing rows cannot be read, or their progress cannot be kept. Kinds of this room:
 * - `select-privilege`, `row-security`: the role may not read the table, or not all of its rows
 * - `lock-timeout`: somebody holds the table; retryable
 * - `table-missing`, `table-not-published`: the table was dropped, or is not in the publication
 * - `no-primary-key`: a part was asked for of a table whose rows cannot be told apart
 * - `invalid-option`: what was asked for is no condition
 * - `key-changed`, `other-server`: the table, or the server, became another one meanwhile; retryable
 * - `state-missing`: the table in which progress is kept is not there
 * - `state-store`, `state-invalid`: progress cannot be read or written
 */
export class BackfillError extends PgStreamError {
  /** `"BackfillError"` */
  override name = "BackfillError";
}
