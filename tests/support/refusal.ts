/** Errors as users see them, and proof that no password is in them. */

import { assert, assertInstanceOf, assertMatch } from "@std/assert";
import { inspect } from "node:util";
import { PgStream, PgStreamError, type PgStreamOptions } from "../../mod.ts";
import { type Database, LogLines, uniqueName, within } from "./streams.ts";

/** Needs encoding in a DSN; must be seen nowhere, in whichever form. */
export const CANARY = "c4nary:/?#@%41 'p&=w";
/** The password as it must not be found. */
export const CANARY_FORMS: readonly string[] = [CANARY, encodeURIComponent(CANARY), "c4nary"];

/** Of all streams of `streamOf`. */
export const logger: LogLines = new LogLines();

/** What a promise was rejected with: an error of ours that keeps the password to itself. */
export async function refusal(
  what: string,
  attempt: () => unknown,
  timeoutMs = 15_000,
): Promise<PgStreamError> {
  const outcome = await within(
    what,
    Promise.resolve().then(attempt).then(() => null, (error) => error),
    timeoutMs,
  );
  checkSecrets(outcome);
  assertInstanceOf(outcome, PgStreamError, `${what} was to fail, not: ${outcome}`);
  assertMatch(outcome.kind, /^[a-z]+(-[a-z]+)*$/);
  return outcome;
}

/** Fails where the password is in what was thrown, in any of its causes, or in the log. */
export function checkSecrets(error: unknown): void {
  const texts = [inspect(error, { depth: Infinity, showHidden: true }), ...logger.lines];
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { hint } = cause as { hint?: string };
    texts.push(String(cause), cause.message, cause.stack ?? "", hint ?? "", JSON.stringify(cause));
  }
  for (const text of texts) {
    for (const secret of CANARY_FORMS) {
      assert(!text.includes(secret), `The password is in: ${text}`);
    }
  }
}

/** The DSN with the canary as its password, or with other parts changed. */
export function dsnWith(
  dsn: string,
  parts: Partial<Record<"user" | "password" | "host" | "port" | "database", string>>,
): string {
  const url = new URL(dsn);
  const { user = url.username, password, host = url.hostname, port = url.port } = parts;
  const secret = password === undefined ? url.password : encodeURIComponent(password);
  const database = encodeURIComponent(parts.database ?? url.pathname.slice(1));
  return `postgresql://${user}:${secret}@${host}:${port}/${database}`;
}

/** A stream with a slot of its own and a handler that does nothing. */
export function streamOf(dsn: string, tables: string[], options: PgStreamOptions = {}): PgStream {
  const stream = new PgStream({ dsn, slotName: uniqueName(), logger, ...options });
  return stream.watch(...tables).onChange(() => {});
}

/** A role that logs in with the canary. */
export async function makeRole(
  db: Database,
  rights: string,
): Promise<{ role: string; drop(): Promise<unknown> }> {
  const role = uniqueName("role");
  await db.query(`CREATE ROLE ${role} LOGIN ${rights} PASSWORD '${CANARY.replaceAll("'", "''")}'`);
  return { role, drop: () => db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`) };
}
