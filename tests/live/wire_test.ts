/** The wire client against real servers. */
import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { inspect } from "node:util";
import { setTimeout as delay } from "node:timers/promises";
import { Connection, type ConnectOptions } from "../../src/wire/connection.ts";
import { WireError } from "../../src/wire/errors.ts";
import { parseConnectionOptions } from "../../src/wire/options.ts";
import { PostgresError } from "../../src/wire/postgres_error.ts";
import { quoteIdentifier, quoteLiteral } from "../../src/wire/quote.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer, testMajors } from "../support/servers/test_postgres.ts";

const HBA = `
host all by_md5 127.0.0.1/32 md5
host all by_password 127.0.0.1/32 password
host all by_trust 127.0.0.1/32 trust
host all nobody 127.0.0.1/32 reject
`;
// Not ASCII, and with a character that SASLprep changes.
const PASSWORD = "pä ss'\\wörd ﬁ";

for (const major of testMajors(18, 17, 14)) {
  describe(`PostgreSQL ${major}`, { skip: needsOwnServer, timeout: 120_000 }, () => {
    let server: PostgresServer;

    before(async () => {
      server = await startPostgres({ major, hba: HBA });
      const password = quoteLiteral(PASSWORD);
      await server.query(`
        CREATE ROLE by_scram LOGIN REPLICATION PASSWORD ${password};
        CREATE ROLE by_password LOGIN REPLICATION PASSWORD ${password};
        CREATE ROLE by_trust LOGIN REPLICATION;
        CREATE ROLE nobody LOGIN;
        SET password_encryption = 'md5';
        CREATE ROLE by_md5 LOGIN REPLICATION PASSWORD ${password};
      `);
    });

    after(async () => {
      await server?.stop("immediate");
    });

    function connect(dsn: string = server.dsn, options?: ConnectOptions): Promise<Connection> {
      return Connection.connect(parseConnectionOptions(dsn, {}).options, options);
    }

    test("each way to authenticate works, for queries and for replication", async () => {
      for (const user of ["by_scram", "by_md5", "by_password", "by_trust"]) {
        for (const replication of [undefined, "database"] as const) {
          const connection = await connect(server.dsnOf("postgres", user, PASSWORD), {
            replication,
          });
          assertEquals((await connection.query("SELECT current_user")).rows, [[user]]);
          assert(connection.processId > 0);
          assertEquals(Math.floor(connection.serverVersion / 10_000), major);
          await connection.close();
        }
      }
    });

    test("every connection reads the same text, whatever role and database say", async () => {
      await server.query(`
        ALTER ROLE by_trust SET DateStyle = 'German';
        ALTER ROLE by_trust SET IntervalStyle = 'iso_8601';
        ALTER ROLE by_trust SET TimeZone = 'Asia/Tokyo';
        ALTER ROLE by_trust SET bytea_output = 'escape';
        ALTER ROLE by_trust SET extra_float_digits = 0;
        ALTER ROLE by_trust SET client_encoding = 'LATIN1';
        ALTER ROLE by_trust SET search_path = 'pg_catalog, public';
      `);
      const expected: Record<string, string> = {
        DateStyle: "ISO",
        IntervalStyle: "postgres",
        TimeZone: "UTC",
        bytea_output: "hex",
        extra_float_digits: "3",
        client_encoding: "UTF8",
        search_path: "",
        application_name: "pgstream",
      };
      for (const replication of [undefined, "database"] as const) {
        const connection = await connect(server.dsnOf("postgres", "by_trust"), { replication });
        for (const [name, value] of Object.entries(expected)) {
          const { rows } = await connection.query(`SHOW ${name}`);
          assertEquals(rows[0]![0]!.split(",")[0], value, `${name} replication=${replication}`);
        }
        await connection.close();
      }
    });

    test("a refusal says what is wrong, and never the password", async () => {
      const cases: [string, string, string][] = [
        [server.dsnOf("postgres", "by_scram", "canary"), "authentication", "28P01"],
        [server.dsnOf("postgres", "by_md5", "canary"), "authentication", "28P01"],
        [server.dsnOf("postgres", "by_password", "canary"), "authentication", "28P01"],
        [server.dsnOf("postgres", "no such role", "canary"), "authentication", "28P01"],
        [server.dsnOf("postgres", "nobody", "canary"), "authentication", "28000"],
        [server.dsnOf("no such database", "by_trust", "canary"), "database-missing", "3D000"],
      ];
      for (const [dsn, kind, code] of cases) {
        const error = await assertRejects(() => connect(dsn), PostgresError);
        assertEquals([error.kind, error.code], [kind, code]);
        assertFalse(inspect(error, { depth: 10 }).includes("canary"));
      }
    });

    test("the unix socket works", async () => {
      const { socketDir, port, user } = server;
      const dsn = `postgres:///postgres?host=${socketDir}&port=${port}&user=${user}`;
      const connection = await connect(dsn);
      assertEquals((await connection.query("SELECT inet_client_addr()")).rows, [[null]]);
      await connection.close();
    });

    test("a query gives text, NULLs, column types and tags", async () => {
      const connection = await connect();
      const { fields, rows, command } = await connection.query(
        "SELECT 1 AS n, NULL::text AS \"Zé\", '' AS e, 0.1::float8 AS f, '\\x00ff'::bytea AS b",
      );
      assertEquals(fields.map(({ name, typeOid }) => [name, typeOid]), [
        ["n", 23],
        ["Zé", 25],
        ["e", 25],
        ["f", 701],
        ["b", 17],
      ]);
      assertEquals(rows, [["1", null, "", "0.1", "\\x00ff"]]);
      assertEquals(command, "SELECT 1");
      const large = await connection.query("SELECT repeat('é', 5000000)");
      assertEquals(large.rows[0]![0]!.length, 5_000_000);
      await connection.close();
    });

    test("an error keeps its fields, and the next query works", async () => {
      const connection = await connect();
      const error = await assertRejects(
        () => connection.query("SELECT 1; SELECT * FROM public.missing"),
        PostgresError,
      );
      assertEquals([error.code, error.severity, error.position], ["42P01", "ERROR", 25]);
      assert(error.routine !== undefined && error.file !== undefined && error.line !== undefined);
      assertEquals((await connection.query("SELECT 2")).rows, [["2"]]);
      await connection.close();
    });

    test("quoting holds against the real parser", async () => {
      const connection = await connect();
      for (const name of ['We"ird, P.ub', "a'b\\c", "Ünïcode 表", "--", "$$"]) {
        for (const conforming of ["on", "off"]) {
          await connection.query(`SET standard_conforming_strings = ${conforming}`).catch(() => {});
          const sql = `SELECT${quoteLiteral(` ${name}`)} AS ${quoteIdentifier(name)}`;
          const { fields, rows } = await connection.query(sql);
          assertEquals([fields[0]!.name, rows[0]![0]], [name, ` ${name}`]);
        }
      }
      await connection.close();
    });

    test("COPY OUT gives every row, can be left early, and reports errors", async () => {
      const connection = await connect();
      let rows = 0;
      let bytes = 0;
      const sql = "COPY (SELECT i, md5(i::text) FROM generate_series(1, 100000) i) TO STDOUT";
      let reads = 0;
      for await (const some of connection.copyOut(sql)) {
        reads++;
        while (some.advance()) {
          rows++;
          bytes += some.end - some.start;
        }
      }
      assert(reads < rows / 10, `${rows} rows in ${reads} reads`);
      assertEquals([rows, bytes], [100_000, 488_895 + 100_000 * 34]);

      let seen = 0;
      const endless = "COPY (SELECT generate_series(1, 1000000000)) TO STDOUT";
      for await (const _ of connection.copyOut(endless)) if (++seen === 100) break;
      assertEquals((await connection.query("SELECT 1")).rows, [["1"]]);

      const failing = "COPY (SELECT 1 / (3 - i) FROM generate_series(1, 5) i) TO STDOUT";
      const error = await assertRejects(async () => {
        for await (const _ of connection.copyOut(failing));
      }, PostgresError);
      assertEquals(error.code, "22012");
      assertEquals((await connection.query("SELECT 1")).rows, [["1"]]);

      const controller = new AbortController();
      const reason = new Error("enough");
      const caught = await (async () => {
        for await (const _ of connection.copyOut(endless, { signal: controller.signal })) {
          controller.abort(reason);
        }
      })().catch((error) => error);
      assertStrictEquals(caught, reason);
      assertEquals((await connection.query("SELECT 1")).rows, [["1"]]);
      await connection.close();
    });

    test("an aborted query is cancelled at the server, and the connection goes on", async () => {
      const connection = await connect();
      const signal = AbortSignal.timeout(100);
      const query = connection.query("SELECT pg_sleep(60)", { signal });
      assertStrictEquals(await query.catch((error) => error), signal.reason);
      assertEquals((await connection.query("SELECT 1")).rows, [["1"]]);
      await connection.close();
    });

    test("an aborted slot creation leaves no slot behind", async () => {
      const writer = await connect();
      await writer.query("BEGIN; SELECT pg_current_xact_id_if_assigned(); SELECT txid_current()");
      const connection = await connect(server.dsn, { replication: "database" });
      const signal = AbortSignal.timeout(300);
      const creation = connection.query("CREATE_REPLICATION_SLOT late LOGICAL pgoutput", {
        signal,
      });
      assertStrictEquals(await creation.catch((error) => error), signal.reason);
      await writer.query("COMMIT");
      const slots = await connection.query("SELECT slot_name FROM pg_replication_slots");
      assertEquals(slots.rows, []);
      await writer.close();
      await connection.close();
    });

    test("CopyBoth streams a real slot, confirms, ends, and the connection goes on", async () => {
      const writer = await connect();
      await writer.query(`
        CREATE TABLE public.docs (id int PRIMARY KEY, body text);
        CREATE PUBLICATION docs FOR TABLE public.docs;
      `);
      const connection = await connect(server.dsn, { replication: "database" });
      const created = await connection.query("CREATE_REPLICATION_SLOT docs LOGICAL pgoutput");
      assertEquals(created.rows[0]![0], "docs");
      const copy = await connection.copyBoth(
        "START_REPLICATION SLOT docs LOGICAL 0/0 (proto_version '1', publication_names '\"docs\"')",
      );
      await writer.query(
        "INSERT INTO public.docs SELECT i, 'é' || i FROM generate_series(1, 500) i",
      );
      // XLogData: Byte1('w'), Int64 start, Int64 end, Int64 time, the message.
      const messages: string[] = [];
      let lastWal = 0n;
      for (; messages.at(-1) !== "C"; await copy.more()) {
        while (copy.advance()) {
          const payload = copy.payload.bytes.subarray(copy.payload.start, copy.payload.end);
          if (payload[0] !== 0x77) continue;
          const view = new DataView(payload.buffer, payload.byteOffset);
          messages.push(String.fromCharCode(payload[25]!));
          if (payload[25] === 0x43) lastWal = view.getBigUint64(25 + 1 + 1 + 8);
        }
      }
      assertEquals(messages.length, 503);
      assertEquals(messages.slice(0, 3), ["B", "R", "I"]);
      const status = new Uint8Array(34);
      const view = new DataView(status.buffer);
      status[0] = 0x72;
      for (const at of [1, 9, 17]) view.setBigUint64(at, lastWal);
      const drained = (async () => {
        // Keepalives may still come.
        do while (copy.advance()); while (await copy.more());
      })();
      await copy.write(status);
      assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: true });
      await drained;
      const { rows } = await connection.query(
        "SELECT confirmed_flush_lsn - '0/0' FROM pg_replication_slots WHERE slot_name = 'docs'",
      );
      assertEquals(rows, [[String(lastWal)]]);
      await connection.query("DROP_REPLICATION_SLOT docs");
      await connection.close();
      await writer.close();
    });

    test("START_REPLICATION on a missing slot is the server's error; the connection goes on", async () => {
      const connection = await connect(server.dsn, { replication: "database" });
      const error = await assertRejects(
        () => connection.copyBoth("START_REPLICATION SLOT nope LOGICAL 0/0"),
        PostgresError,
      );
      assertEquals(error.code, "42704");
      assertEquals((await connection.query("IDENTIFY_SYSTEM")).rows.length, 1);
      await connection.close();
    });

    test("a session that is terminated keeps the server's words", async () => {
      const connection = await connect();
      const query = connection.query("SELECT pg_sleep(60)").catch((error) => error);
      await delay(100);
      await server.query(`SELECT pg_terminate_backend(${connection.processId})`);
      const error = await query;
      assertInstanceOf(error, WireError);
      assertEquals(error.kind, "connection-lost");
      assertInstanceOf(error.cause, PostgresError);
      assertEquals(error.cause.code, "57P01");
    });

    test("a server that stops, or crashes, in the middle of a query is a lost connection", async () => {
      for (const stop of ["fast", "immediate", "crash"] as const) {
        const connection = await connect();
        const query = connection.query("SELECT pg_sleep(60)").catch((error) => error);
        await delay(100);
        if (stop === "crash") {
          // The backend itself, without a word.
          await server.query(
            "COPY (SELECT 1) TO PROGRAM " + quoteLiteral(`kill -9 ${connection.processId}`),
          ).catch(() => {});
        } else await server.shutdown(stop);
        const error = await query;
        assertInstanceOf(error, WireError, stop);
        assertEquals(error.kind, "connection-lost", stop);
        assert(error.retryable);
        assert(connection.closed);
        if (stop !== "crash") await server.start();
      }
    });
  });
}
