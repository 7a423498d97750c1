/** What a stream says of calls that cannot be. */
import { PgStreamError } from "../errors.ts";

export function notATable(table: unknown): PgStreamError {
  return new PgStreamError(`Not a table name: ${JSON.stringify(table)}`, {
    kind: "table-name",
    hint: 'Names are arguments of their own: watch("a", "b").',
  });
}

export function handlerRunning(): PgStreamError {
  return new PgStreamError("A handler that was given up by stop() is still running", {
    kind: "handler-running",
    retryable: true,
    hint:
      "Its event would be handled twice at once. Let it look at its signal, and start again later.",
  });
}

export function stopped(): PgStreamError {
  return new PgStreamError("The stream was stopped", { kind: "stopped" });
}

export function nothingTo(verb: string, call: string): PgStreamError {
  return new PgStreamError(`There is nothing to ${verb}`, {
    kind: verb === "watch" ? "nothing-watched" : "no-handler",
    hint: `Call ${call} first${verb === "watch" ? "; messages alone need onMessage()" : ""}.`,
  });
}

export function notRunning(what: string): PgStreamError {
  return new PgStreamError(`Cannot call ${what} while the stream is not running`, {
    kind: "not-running",
    hint: "Call start() first, and do not wait for it.",
  });
}

export function notWatched(table: string): PgStreamError {
  return new PgStreamError(`Table ${table} is not watched by this stream`, {
    kind: "not-watched",
    hint: `Call watch(${JSON.stringify(table)}) before start().`,
  });
}

/** What whatever was thrown says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
