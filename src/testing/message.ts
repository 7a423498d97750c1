/** Logical messages for tests, made by the code that makes those of a stream. */
import type { LogicalMessage } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import { buildMessage, nextPlace, type Written } from "./change.ts";

/** What may be said of a message. */
export interface MessageOptions {
  /** False: it belongs to no transaction, and is given alone. Default: true. */
  transactional?: boolean;
}

const messages = new WeakMap<LogicalMessage, Written>();

/**
 * A program wrote a message by `pg_logical_emit_message`, for a handler of `onMessage`.
 *
 * @param content text, or bytes
 *
 * @example
 * ```ts
 * message("outbox", JSON.stringify({ order: 7 }));
 * message("heartbeat", "", { transactional: false });
 * ```
 */
export function message(
  prefix: string,
  content: string | Uint8Array,
  { transactional = true }: MessageOptions = {},
): LogicalMessage {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content.slice();
  const written: Written = { prefix, content: bytes, transactional };
  const message = buildMessage(written, nextPlace());
  messages.set(message, written);
  return message;
}

/** What a message was made of. @throws {PgStreamError} of kind `invalid-change` for one of another making. */
export function writtenOf(message: LogicalMessage): Written {
  const written = messages.get(message);
  if (written !== undefined) return written;
  throw new PgStreamError("This is not a message of message()", {
    kind: "invalid-change",
    hint: "Pass what it returns as it is: it is given a place by the server.",
  });
}
