/** A session whose server may die at any moment: every query ends, one way or the other. */

import postgres from "postgres";

/** Of one connection at a time. The next query after a loss opens another one. */
export class FragileSession {
  readonly #dsn: string;
  #open: { sql: postgres.Sql; lost: Promise<never> } | null = null;

  /** Connects when it is first used. */
  constructor(dsn: string) {
    this.#dsn = dsn;
  }

  /** Runs SQL, several statements if need be. @throws what `isConnectionLost` knows, or the server's. */
  async query<Row extends object>(text: string): Promise<Row[]> {
    const { sql, lost } = this.#open ??= this.#connect();
    // A query that is under way while the connection breaks is not always rejected by its client.
    return [...await Promise.race([sql.unsafe<Row[]>(text), lost])];
  }

  /** Closes the connection. */
  async end(): Promise<void> {
    const { sql } = this.#open ?? {};
    this.#open = null;
    await sql?.end({ timeout: 1 });
  }

  #connect(): { sql: postgres.Sql; lost: Promise<never> } {
    const { promise: lost, reject } = Promise.withResolvers<never>();
    lost.catch(() => {});
    const sql = postgres(this.#dsn, {
      max: 1,
      onnotice: () => {},
      onclose: () => {
        if (this.#open?.sql === sql) this.#open = null;
        reject(Object.assign(new Error("The connection was lost"), { code: "CONNECTION_LOST" }));
        // It would connect again for the query that it has not rejected.
        sql.end({ timeout: 0 }).catch(() => {});
      },
    });
    return { sql, lost };
  }
}

/** Whether a query failed because of the server's going away, or its not being back. */
export function isConnectionLost(error: unknown): boolean {
  const { code = "" } = error as { code?: string };
  return /^(CONNECTION_|CONNECT_|ECONN|EPIPE|57P0|08)/.test(code);
}
