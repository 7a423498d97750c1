/** Positions that cannot be: refused before the server takes them for true, and skips what is before. */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLessOrEqual,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  formatLsn,
  type Lsn,
  parseLsn,
  PgStreamError,
  ReplicationStream,
  SlotError,
} from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { confirmedLsn, newTable, within } from "../support/streams.ts";

const FAR = 256n * 1024n * 1024n;

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

async function serverLsn(): Promise<Lsn> {
  const [row] = await db.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
  return parseLsn(row!.lsn);
}

const opening = (slotName: string, startLsn: Lsn | string): Promise<unknown> =>
  within(
    "open()",
    ReplicationStream.open({ dsn: db.dsn, slotName, startLsn, logger: false })
      .then((stream) => stream[Symbol.asyncDispose]().then(() => "opened"), (error) => error),
  );

describe("a position", () => {
  test("that is no LSN is refused by open() and acknowledge(), and named", async () => {
    const { slotName, teardown } = await newTable(db, "positions");
    const stream = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
    const acknowledged = stream.acknowledgedLsn;
    for (const text of ["garbage", "", "0/", "/0", "1/2/3", "G/0", "0/123456789", " 0/1", "-1/0"]) {
      const error = assertThrows(() => stream.acknowledge(text), PgStreamError);
      assertEquals(error.kind, "invalid-lsn");
      assertStringIncludes(error.message, JSON.stringify(text));
      assert(error.hint);
      assertEquals(stream.acknowledgedLsn, acknowledged);
    }
    await stream[Symbol.asyncDispose]();
    for (const text of ["garbage", "", "x"]) {
      const error = await opening(slotName, text);
      assertInstanceOf(error, PgStreamError, `${error}`);
      assertEquals(error.kind, "invalid-lsn");
      assertStringIncludes(error.message, JSON.stringify(text));
    }
    await teardown();
  });

  test("beyond the server's WAL is refused at the start, as a number and as text (4)", async () => {
    const { table, slotName, teardown } = await newTable(db, "positions");
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    const confirmed = await confirmedLsn(db, slotName);
    const far = await serverLsn() + FAR;
    for (const startLsn of [far, formatLsn(far)]) {
      const error = await opening(slotName, startLsn);
      assertInstanceOf(error, SlotError, `${error}`);
      assertEquals([error.kind, error.slotName], ["lsn-beyond-server", slotName]);
      assertStringIncludes(error.message, formatLsn(far));
      assert(error.hint);
    }
    assertEquals(await confirmedLsn(db, slotName), confirmed);
    await teardown();
  });

  test("beyond what was received is never confirmed (4)", async () => {
    const { table, slotName, teardown } = await newTable(db, "positions");
    await db.query(`INSERT INTO ${table} VALUES (1)`);
    const stream = await ReplicationStream.open({ dsn: db.dsn, slotName, logger: false });
    for await (const _data of stream) {
      try {
        stream.acknowledge(await serverLsn() + FAR);
      } catch (error) {
        assertInstanceOf(error, PgStreamError);
      }
      break;
    }
    await stream[Symbol.asyncDispose]();
    assertLessOrEqual(await confirmedLsn(db, slotName), await serverLsn());
    await db.query(`INSERT INTO ${table} VALUES (2)`);
    const [row] = await db.query<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
        'proto_version', '1', 'publication_names', $2) WHERE get_byte(data, 0) = ascii('I')`,
      [slotName, slotName],
    );
    assert(row!.n >= 1, "the row after it is lost");
    await teardown();
  });
});
