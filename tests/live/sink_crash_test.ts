/** A process that dies between a write to the store and its confirmation: what comes again does no harm. */

import { assertEquals } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { parseLsn } from "../../mod.ts";
import { Child } from "../support/child.ts";
import { seededRandom } from "../support/random.ts";
import { startPgvector } from "../support/servers/pgvector.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  type Contents,
  pgvectorContents,
  qdrantContents,
  tableContents,
  writeAtRandom,
} from "../support/store_model.ts";
import { confirmedLsn, newTable, openClient, until, walsenderPid } from "../support/streams.ts";

const FAULTS = [
  "before the write",
  "between two writes",
  "in the middle of the write",
  "after the write",
  "after the handler",
];

// Not in a hook, to which Bun gives 5 s: a database in WebAssembly takes its time on a busy machine.
const server = await startPgvector();
const sql = openClient(server.dsn);
const qdrant = await startQdrant();
let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(async () => {
  await sql.end({ timeout: 1 });
  await server.stop();
  await qdrant.close();
  await db?.stop();
});

/** A store of either kind. */
interface Store {
  url: string;
  contents(table: string): Promise<Contents>;
}

function check(name: string, how: "event" | "batch", store: () => Store): void {
  test(`${name}, by ${how}: killed at each point, again and again, it ends as the table does (32)`, async () => {
    const seed = Date.now() & 0xffff;
    console.log(`seed ${seed}`);
    const random = seededRandom(seed);
    const { table, slotName, teardown } = await newTable(db, "crash");
    const { url, contents } = store();
    const free = () =>
      until("the slot to be free", async () => await walsenderPid(db, slotName) === null);
    for (const [round, fault] of FAULTS.entries()) {
      await writeAtRandom(db, table, { seed: seed + round, transactions: 12, keys: 15 });
      const count = how === "batch" ? 1 + Math.floor(random() * 5) : 8 + Math.floor(random() * 10);
      const child = new Child(
        "sink_consumer.ts",
        ...[db.dsn, slotName, table, name, url, how, fault, String(count)],
      );
      assertEquals(await child.ended, "SIGKILL", `seed ${seed}: ${fault}`);
      await free();
    }
    await db.query(`INSERT INTO ${table} VALUES (1000, 'the last')`);
    const last = new Child(
      "sink_consumer.ts",
      db.dsn,
      slotName,
      table,
      name,
      url,
      how,
      "none",
      "0",
    );
    const [wal] = await db.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
    // Of lanes, the last row's may be done before the others.
    const end = parseLsn(wal!.lsn);
    await until("all to be confirmed", async () => await confirmedLsn(db, slotName) >= end, 30_000);
    const [expected, found] = [await tableContents(db, table), await contents(table)];
    await last.kill();
    assertEquals(found, expected, `seed ${seed}`);
    await free();
    await teardown();
  });
}

describe("what is in pgvector", () => {
  const store = () => ({
    url: server.dsn,
    contents: (table: string) => pgvectorContents(sql, table),
  });
  check("pgvector", "event", store);
  check("pgvector", "batch", store);
});

describe("what is in Qdrant", () => {
  const store = () => ({
    url: qdrant.url,
    contents: (table: string) => qdrantContents(qdrant.url, table),
  });
  check("qdrant", "event", store);
  check("qdrant", "batch", store);
});
