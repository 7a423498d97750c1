/**
 * A database for each test file: on a fresh server of ours, or, with `PGSTREAM_TEST_DSN` set, on a
 * server of one's own, which is left as it was found. That DSN names a superuser's database.
 */

import process from "node:process";
import postgres from "postgres";
import { type PostgresOptions, startPostgres } from "./postgres.ts";

const ownDsn = process.env.PGSTREAM_TEST_DSN;

/** For `test(name, { skip: needsOwnServer }, …)`: such a test stops, kills or reconfigures its server. */
export const needsOwnServer: string | false = ownDsn === undefined
  ? false
  : "needs a server of its own, and PGSTREAM_TEST_DSN is set";

/** The majors to repeat a test on; with `PGSTREAM_TEST_DSN` only one, for there is only one server. */
export function testMajors(...majors: number[]): number[] {
  return ownDsn === undefined ? majors : majors.slice(0, 1);
}

/** A database that is empty, and gone after `stop()`. */
export interface TestPostgres extends AsyncDisposable {
  /** Of the database, as a superuser. */
  dsn: string;
  /** The database's name. */
  database: string;
  /** The server's major version. */
  major: number;
  /** Runs SQL in the database and returns the rows; several statements where no parameters are. */
  query<Row extends object = Record<string, unknown>>(
    text: string,
    parameters?: string[],
  ): Promise<Row[]>;
  /** Drops the database's slots and the database. */
  stop(): Promise<void>;
}

/** @param options for a server of ours; no use where `PGSTREAM_TEST_DSN` is set. */
export async function testPostgres(options: PostgresOptions = {}): Promise<TestPostgres> {
  const server = ownDsn === undefined ? await startPostgres(options) : null;
  const admin = postgres(server?.dsn ?? ownDsn!, { max: 1, onnotice: () => {} });
  const database = `pgstream_test_${crypto.randomUUID().slice(0, 8)}`;
  const url = new URL(server?.dsn ?? ownDsn!);
  url.pathname = `/${database}`;
  const sql = postgres(url.href, { max: 1, onnotice: () => {} });

  async function stop(): Promise<void> {
    await sql.end({ timeout: 1 });
    if (server === null) await dropDatabase(admin, database);
    await admin.end({ timeout: 1 });
    await server?.stop("immediate");
  }
  try {
    await admin.unsafe(`CREATE DATABASE ${database}`);
    const [row] = await admin`SELECT current_setting('server_version_num')::int / 10000 AS major`;
    return {
      dsn: url.href,
      database,
      major: row!.major as number,
      query: async <Row extends object>(text: string, parameters: string[] = []) => [
        ...await sql.unsafe<Row[]>(text, parameters),
      ],
      stop,
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

// A slot goes once its session has ended, which takes the server a moment.
async function dropDatabase(admin: postgres.Sql, database: string): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    await admin`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ${database}`;
    try {
      await admin`
        SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE database = ${database}`;
      await admin.unsafe(`DROP DATABASE IF EXISTS ${database}`);
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}
