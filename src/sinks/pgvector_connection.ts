/** How statements of the sink reach the server, and what becomes of them when it is closed. */

import type postgres from "postgres";
import { connectLazily } from "./pgvector_dsn.ts";
import { isConnectionLost, optionsError, pgVectorError } from "./pgvector_errors.ts";
import { SinkError } from "./sink.ts";

/** What the sink uses of a `postgres()` of postgres.js; a transaction's `sql` has all of it but `begin`. */
export interface PgVectorSql {
  /** Runs a statement with its parameters as text, or null. */
  unsafe(
    query: string,
    parameters?: (string | null)[],
    options?: { prepare?: boolean },
  ): PromiseLike<unknown> & { values(): PromiseLike<readonly unknown[]> };
  /**
   * Runs statements in a transaction of their own, `options` behind its BEGIN. Without it they belong to the
   * transaction that `unsafe` is in.
   */
  begin?(options: string, work: (sql: PgVectorSql) => Promise<unknown>): Promise<unknown>;
  /** What it was made with. */
  options?: { prepare?: boolean };
}

/** Runs a statement and gives its rows, each an array. */
export type Run = (
  statement: string,
  parameters?: (string | null)[],
  options?: { prepare?: boolean },
) => Promise<readonly unknown[]>;

/** How long `close()` waits for what is under way. */
const CLOSE_TIMEOUT_MS = 5_000;

/** A connection, or a pool of them, made of a dsn when it is first used, or somebody else's. */
export class PgVectorConnection {
  readonly #sql: PgVectorSql;
  readonly #own: postgres.Sql | undefined;
  readonly #prepare: boolean;
  readonly #table: string;
  readonly #running = new Set<Promise<unknown>>();
  #closed: Promise<void> | undefined;

  /**
   * @param table for messages.
   * @throws {SinkError} `sink-options`.
   */
  constructor(
    { dsn, sql, prepare = true }: { dsn?: string; sql?: PgVectorSql; prepare?: boolean },
    table: string,
  ) {
    if ((dsn === undefined) === (sql === undefined)) {
      throw optionsError("PgVectorSink needs either dsn or sql", "Pass one of them");
    }
    if (dsn !== undefined) this.#own = connectLazily(dsn, prepare);
    this.#sql = sql ?? this.#own!;
    this.#prepare = prepare;
    this.#table = table;
  }

  /** True where statements are in somebody's transaction already. */
  get isTransaction(): boolean {
    return this.#sql.begin === undefined;
  }

  /** Runs one statement. */
  readonly run: Run = (statement, parameters, options) =>
    this.#run(this.#sql, statement, parameters, options);

  /** Runs statements that all happen or, where one of them or `work` fails, do not. */
  async transaction<T>(work: (run: Run) => Promise<T>): Promise<T> {
    const { begin, options } = this.#sql;
    if (begin === undefined) return await work(this.run);
    // Each statement is to see what was committed before it, whatever the server's default is.
    return await begin.call(this.#sql, "isolation level read committed", async (sql) => {
      try {
        const done = await work((...statement) => this.#run(sql, ...statement));
        if (options?.prepare !== false) await commit(sql);
        return done;
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        // postgres.js would write ROLLBACK to a socket that is no more, which ends the process. Without an answer
        // it tells by itself that the connection was lost.
        return await new Promise<never>(() => {});
      }
    }) as T;
  }

  /** What a method of the sink does: refused once it is closed, waited for by `close()`. @throws {SinkError} */
  async perform<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed !== undefined) {
      throw new SinkError("The sink was closed", {
        kind: "sink-closed",
        sink: "pgvector",
        hint: "Make a new PgVectorSink",
      });
    }
    const running = work();
    this.#running.add(running);
    try {
      return await running;
    } catch (error) {
      throw pgVectorError(error, this.#table);
    } finally {
      this.#running.delete(running);
    }
  }

  /** Ends the connection that was made of a dsn, after what is under way; never a given `sql`. */
  close(): Promise<void> {
    return this.#closed ??= this.#end();
  }

  async #end(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise((resolve) => timer = setTimeout(resolve, CLOSE_TIMEOUT_MS));
    await Promise.race([Promise.allSettled(this.#running), deadline]);
    clearTimeout(timer);
    // Not by a timeout of postgres.js: it waits all of it where a connection was lost before.
    await this.#own?.end({ timeout: 0 });
  }

  async #run(
    sql: PgVectorSql,
    statement: string,
    parameters?: (string | null)[],
    { prepare = true }: { prepare?: boolean } = {},
  ): Promise<readonly unknown[]> {
    return await sql.unsafe(statement, parameters, { prepare: prepare && this.#prepare }).values();
  }
}

/**
 * Leaves an empty transaction to postgres.js, whose COMMIT is a prepared statement. Where a pooler gives the
 * transaction a server's session that does not have it, that fails, and is tried again by itself: then COMMIT
 * undoes what failed, and says nothing.
 */
async function commit(sql: PgVectorSql): Promise<void> {
  await sql.unsafe("commit; begin");
}
