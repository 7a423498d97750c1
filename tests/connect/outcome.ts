/** Connects as a cell says, on the runtime that this runs on. */

import { PgStreamError } from "../../src/errors.ts";
import type { Connect } from "../../src/transport/transport.ts";
import { Connector } from "../../src/wire/connector.ts";
import type { Outcome } from "./cells.ts";

/**
 * Connects as a stream does and asks the server how it came.
 *
 * @returns `encrypted` or `plain`, else the error's kind; what is wrong with the error, where something is.
 */
export async function outcomeOf(
  dsn: string,
  secret: string,
  connect?: Connect,
): Promise<Outcome> {
  try {
    const connector = new Connector({ dsn, logger: false, ...(connect ? { connect } : {}) });
    const connection = await connector.connect({ replication: "database" });
    try {
      const { rows } = await connection.query(
        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
      );
      return rows[0]?.[0] === "t" ? "encrypted" : "plain";
    } finally {
      await connection.close();
    }
  } catch (error) {
    if (!(error instanceof PgStreamError)) return `untyped: ${error}`;
    if (said(error).includes(secret)) return `${error.kind}, with the password in it`;
    if (!error.hint) return `${error.kind}, without a hint: ${error.message}`;
    return error.kind;
  }
}

/** All that printing it may show. */
function said(error: unknown, depth = 0): string {
  if (!(error instanceof Error) || depth > 8) return String(error);
  const fields = Object.entries(error).map(([name, value]) => `${name}=${said(value, depth + 1)}`);
  return [error.message, error.stack, ...fields, said(error.cause, depth + 1)].join("\n");
}
