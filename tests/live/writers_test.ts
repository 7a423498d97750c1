/** Who writes to a table now, and waiting for just those. */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { after, afterEach, before, describe, test } from "node:test";
import type postgres from "postgres";
import { openWriters, waitForWriters, type Writer } from "../../src/backfill/writers.ts";
import { connectForReading } from "../../src/backfill/reading.ts";
import type { Connection } from "../../src/wire/connection.ts";
import { Connector } from "../../src/wire/connector.ts";
import { needsOwnServer, testMajors } from "../support/servers/test_postgres.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { openClient, sleep, until, within } from "../support/streams.ts";

for (const major of testMajors(18, 14, 10)) {
  describe(`on PostgreSQL ${major}`, { skip: needsOwnServer }, () => {
    let server: PostgresServer;
    let connection: Connection;
    const sessions: postgres.Sql[] = [];
    const oids = new Map<string, number>();
    before(async () => {
      server = await startPostgres({ major, settings: { max_prepared_transactions: "10" } });
      await server.query(`CREATE TABLE t (id int, v int);
        CREATE TABLE child (extra int) INHERITS (t); CREATE TABLE other (id int);
        CREATE TABLE p (id int, v int) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100) PARTITION BY RANGE (v);
        CREATE TABLE p11 PARTITION OF p1 FOR VALUES FROM (0) TO (100)`);
      for (const name of ["t", "p"]) {
        const [row] = await server.query<{ oid: number }>(`SELECT '${name}'::regclass::oid`);
        oids.set(name, row!.oid);
      }
      connection = await connectForReading(new Connector({ dsn: server.dsn, logger: false }));
    });
    after(async () => {
      await connection?.close();
      await server?.stop();
    });
    afterEach(async () => {
      for (const session of sessions.splice(0)) {
        await session.unsafe("ROLLBACK");
        await session.end();
      }
    });

    /** A session with an open transaction. */
    async function session(sql: string): Promise<postgres.Sql & { pid: number }> {
      const client = openClient(server.dsn);
      sessions.push(client);
      const [row] = await client`SELECT pg_backend_pid() AS pid`;
      await client.unsafe(`BEGIN; ${sql}`);
      return Object.assign(client, { pid: row!.pid as number });
    }

    const writersOf = (name: string) => openWriters(connection, oids.get(name)!);
    const pids = (writers: readonly Writer[]) => writers.map(({ pid }) => pid).toSorted();

    test("writers are those whose locks let them change rows, of this table alone", async () => {
      const insert = await session("INSERT INTO t VALUES (1)");
      const nothing = await session("UPDATE t SET v = 1 WHERE false");
      const savepoints = await session(
        "SAVEPOINT a; INSERT INTO t VALUES (1); SAVEPOINT b; INSERT INTO t VALUES (2)",
      );
      await session("SELECT FROM t");
      await session("SELECT FROM t FOR UPDATE");
      await session("INSERT INTO child VALUES (1)");
      await session("INSERT INTO other VALUES (1)");
      await session("LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE");
      const writers = await writersOf("t");
      assertEquals(pids(writers), [insert.pid, nothing.pid, savepoints.pid].toSorted());
      assertEquals(new Set(writers.map((writer) => writer.virtualTransaction)).size, 3);
      await connection.query("BEGIN; INSERT INTO public.t VALUES (1)");
      assertEquals((await writersOf("t")).length, 3);
      await connection.query("ROLLBACK");
    });

    test("writers of a partition, at any depth, are writers of its root", async () => {
      const root = await session("INSERT INTO p VALUES (1, 1)");
      const leaf = await session("INSERT INTO p11 VALUES (1, 1)");
      assertEquals(pids(await writersOf("p")), [root.pid, leaf.pid].toSorted());
    });

    test("the same oid in another database is another table", async () => {
      const { name, dsn } = await server.createDatabase();
      const other = openClient(dsn);
      await other.unsafe("BEGIN; LOCK TABLE pg_catalog.pg_class IN ROW EXCLUSIVE MODE");
      assertEquals(await openWriters(connection, 1259), []);
      await other.unsafe("ROLLBACK");
      await other.end();
      await server.query(`DROP DATABASE ${name}`);
    });

    test("a prepared transaction is one, under its name, and the same as before", async () => {
      const client = await session("INSERT INTO t VALUES (1)");
      const [before] = await writersOf("t");
      await client.unsafe("PREPARE TRANSACTION 'it''s'");
      const [after, ...others] = await writersOf("t");
      assertEquals(others, []);
      assertEquals(after, {
        pid: null,
        virtualTransaction: before!.virtualTransaction,
        gid: "it's",
      });
      await client.unsafe("BEGIN; INSERT INTO t VALUES (2)");
      assertEquals((await writersOf("t")).length, 2);
      await client.unsafe("ROLLBACK");
      await client.unsafe("COMMIT PREPARED 'it''s'");
      assertEquals(await writersOf("t"), []);
    });

    test("waiting ends with those that were there, though others never cease", async () => {
      const { signal } = new AbortController();
      const first = await session("INSERT INTO t VALUES (1)");
      const warned: (readonly Writer[] | null)[] = [];
      let over = false;
      const waiting = waitForWriters(connection, oids.get("t")!, {
        signal,
        onWaiting: (writers) => warned.push(writers),
        warnAfterMs: 100,
      }).then(() => over = true);
      await until("the warning", () => warned.length > 0);
      assertEquals(warned.map((writers) => pids(writers!)), [[first.pid]]);
      await session("INSERT INTO t VALUES (2)");
      await sleep(300);
      assert(!over);
      // The same session goes on to write, in a transaction of its own.
      await first.unsafe("COMMIT; BEGIN; INSERT INTO t VALUES (3)");
      await within("the wait to end", waiting, 3000);
      assertEquals(warned.length, 1);
    });

    test("waiting is over at once where nobody writes, and ends early when told to", async () => {
      const controller = new AbortController();
      const options = { signal: controller.signal, onWaiting: () => {} };
      await waitForWriters(connection, oids.get("t")!, options);
      await session("INSERT INTO t VALUES (1)");
      const reason = new Error("enough");
      setTimeout(() => controller.abort(reason), 50);
      const error = await assertRejects(() => waitForWriters(connection, oids.get("t")!, options));
      assertStrictEquals(error, reason);
    });
  });
}
