/** Errors of reading existing rows, and of keeping how far that got. */
import { PgStreamError } from "../errors.ts";
import { formatTableName, type TableName } from "../table_name.ts";

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

export function tableGone(name: TableName): BackfillError {
  return new BackfillError(`Table "${formatTableName(name)}" is gone, its rows are not read`, {
    kind: "table-missing",
    hint: "Take it out of watch(), or make it again, and start again.",
  });
}

export function keyChanged(name: TableName): BackfillError {
  return new BackfillError(`Table "${formatTableName(name)}" has another primary key now`, {
    kind: "key-changed",
    retryable: true,
  });
}

export function otherServer(): BackfillError {
  return new BackfillError("Rows are read from another server than changes, or it was restarted", {
    kind: "other-server",
    retryable: true,
    hint: "Use the address of one server, not of a pooler or of a group of servers.",
  });
}
