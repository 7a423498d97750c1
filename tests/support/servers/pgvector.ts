/**
 * A real pgvector in this process: PGlite with the extension, on a socket. It is a sink and nothing
 * else: one backend for all connections, no logical decoding, and `COPY … FROM STDIN` hangs it.
 */

import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { PGLiteSocketServer } from "@electric-sql/pglite-socket";

/** A running pgvector. Dispose of it, or call `stop()`. */
export interface PgvectorServer extends AsyncDisposable {
  /** Of its only database, as its superuser. */
  dsn: string;
  /** Closes the connections and forgets the data. */
  stop(): Promise<void>;
}

/** Starts an empty database with the extension `vector` at hand, but not yet created. */
export async function startPgvector(): Promise<PgvectorServer> {
  const db = await PGlite.create({ extensions: { vector } });
  const server = new PGLiteSocketServer({ db, host: "127.0.0.1", port: 0, maxConnections: 20 });
  await server.start();
  async function stop(): Promise<void> {
    await server.stop();
    await db.close();
  }
  return {
    dsn: `postgresql://postgres:postgres@${server.getServerConn()}/postgres`,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
