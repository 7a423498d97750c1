/**
 * Protocols 2, 3 and 4 of pgoutput against real servers: what is assembled from parts is what protocol 1
 * sends whole; prepared transactions; and what each option is refused for.
 */

import { assert, assertEquals, assertGreater, assertMatch, assertRejects } from "@std/assert";
import { after, afterEach, before, describe, test } from "node:test";
import process from "node:process";
import type postgres from "postgres";
import {
  type Lsn,
  ReplicationError,
  ReplicationStream,
  type ReplicationStreamOptions,
} from "../../mod.ts";
import {
  PgOutputDecoder,
  type PgOutputMessage,
  type Relation,
  StreamAssembler,
} from "../../src/pgoutput/mod.ts";
import { seededRandom } from "../support/random.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { openClient, uniqueName, until, within } from "../support/streams.ts";

const WRITERS = 3;
const STEPS = 160;
const PUBLICATION = "everything";
/** What the message is called that ends the reading; with a name of its own each time. */
const END = "end";

/** What came on a stream, and what the assembler made of it. */
interface Received {
  raw: PgOutputMessage[];
  whole: PgOutputMessage[];
}

/** A slot that is being read. */
interface Receiving extends Received {
  /** Waits until all that was written so far has come, and closes the stream. */
  finish(): Promise<Received>;
}

/** Reads a slot. Each end of a transaction is confirmed. */
async function receiving(
  db: TestPostgres,
  slotName: string,
  options: ReplicationStreamOptions,
): Promise<Receiving> {
  const stream = await ReplicationStream.open({
    dsn: db.dsn,
    slotName,
    publicationName: PUBLICATION,
    logger: false,
    messages: true,
    ...options,
  });
  const end = uniqueName(END);
  const decoder = new PgOutputDecoder();
  const assembler = new StreamAssembler();
  const raw: PgOutputMessage[] = [];
  const whole: PgOutputMessage[] = [];
  const read = async () => {
    for await (const { data, walStart } of stream) {
      const message = decoder.decode(data);
      placeOf.set(message, walStart);
      raw.push(message);
      whole.push(...assembler.accept(message));
      if ("endLsn" in message && message.type !== "begin-prepare") {
        stream.acknowledge(message.endLsn);
      } else if (message.type === "rollback-prepared") {
        stream.acknowledge(message.rollbackEndLsn);
      }
      if (message.type === "message" && message.prefix === end) break;
    }
  };
  const reading = read().finally(() => stream.close());
  reading.catch(() => {});
  return {
    raw,
    whole,
    async finish() {
      await db.query(`SELECT pg_logical_emit_message(false, '${end}', '')`);
      try {
        await within(`slot ${slotName} to be read`, reading, 60_000);
      } finally {
        await stream.close();
      }
      assertEquals(assembler.messages, 0);
      const rest = whole.filter((message) =>
        message.type !== "message" || !message.prefix.startsWith(END)
      );
      return { raw, whole: rest };
    },
  };
}

/** What is in a slot now. */
async function receive(
  db: TestPostgres,
  slotName: string,
  options: ReplicationStreamOptions,
): Promise<Received> {
  return await (await receiving(db, slotName, options)).finish();
}

function countOf(messages: readonly PgOutputMessage[], type: PgOutputMessage["type"]): number {
  return messages.filter((message) => message.type === type).length;
}

/** Where in the WAL the server says that a message comes from. */
const placeOf = new WeakMap<PgOutputMessage, Lsn>();

/**
 * A logical message behind a subtransaction's row may have the place of that row; which of them is sent first,
 * differs from protocol to protocol, and here it is the row.
 */
function inOneOrder(messages: readonly PgOutputMessage[]): PgOutputMessage[] {
  const ordered = [...messages];
  for (let at = 1; at < ordered.length; at++) {
    const [before, message] = [ordered[at - 1]!, ordered[at]!];
    const place = placeOf.get(message);
    const tie = place !== undefined && place === placeOf.get(before);
    if (tie && before.type === "message" && message.type !== "message") {
      ordered[at - 1] = message;
      ordered[at] = before;
    }
  }
  return ordered;
}

/** What a message says of a table, whichever object says it, and however often it was told. */
function comparable(messages: readonly PgOutputMessage[]): unknown[] {
  const shape = ({ schema, name, replicaIdentity, columns }: Relation) => ({
    table: `${schema}.${name}`,
    replicaIdentity,
    columns,
  });
  const told = inOneOrder(messages.filter(({ type }) => type !== "relation" && type !== "type"));
  // One of which nothing is left: from 15 on protocol 1 keeps quiet about it, a stream has begun already.
  const isEmpty = (at: number) => told[at]?.type === "begin" && told[at + 1]?.type === "commit";
  return told.flatMap((message, at): unknown[] => {
    if (isEmpty(at) || isEmpty(at - 1)) return [];
    if ("relation" in message) return [{ ...message, relation: shape(message.relation) }];
    if ("relations" in message) return [{ ...message, relations: message.relations.map(shape) }];
    return [message];
  });
}

/** Thousands of them: the first that differs tells enough. */
function assertSame(actual: readonly unknown[], expected: readonly unknown[], what = ""): void {
  for (let at = 0; at < Math.max(actual.length, expected.length); at++) {
    assertEquals(actual[at], expected[at], `message ${at} of ${expected.length}, ${what}`);
  }
}

/** Every row is of a relation that was handed out before it. */
function checkRelations(messages: readonly PgOutputMessage[]): void {
  const told = new Set<Relation>();
  for (const message of messages) {
    if (message.type === "relation") told.add(message);
    else if ("relation" in message) assert(told.has(message.relation), message.relation.name);
  }
}

/**
 * Transactions side by side, with savepoints in them, a part of which is rolled back.
 *
 * @param seen resolves once rows of a table have come, in the part of a transaction that is not over
 */
async function write(
  db: TestPostgres,
  seed: number,
  seen: (table: string) => Promise<unknown>,
): Promise<void> {
  const random = seededRandom(seed);
  const below = (limit: number) => Math.floor(random() * limit);
  let nextId = 100;
  let nextName = 1;

  class Writer {
    readonly sql: postgres.Sql;
    readonly #index: number;
    /** Of open savepoints; null outside of a transaction. */
    #savepoints: string[] | null = null;
    #ids: number[] = [];

    constructor(index: number) {
      this.#index = index;
      this.sql = openClient(db.dsn);
    }

    async step(): Promise<void> {
      if (this.#savepoints === null) {
        this.#savepoints = [];
        this.#ids = [];
        await this.sql.unsafe("BEGIN");
        return;
      }
      const choice = random();
      if (choice < 0.14) {
        const name = `s${nextName++}`;
        this.#savepoints.push(name);
        await this.sql.unsafe(`SAVEPOINT ${name}`);
        if (random() < 0.5) await this.#firstTouch();
      } else if (choice < 0.28 && this.#savepoints.length > 0) {
        const at = below(this.#savepoints.length);
        const name = this.#savepoints[at];
        // What was begun in it ends with it, one way or the other.
        this.#savepoints.length = at;
        const end = random() < 0.6 ? "ROLLBACK TO SAVEPOINT" : "RELEASE SAVEPOINT";
        await this.sql.unsafe(`${end} ${name}`);
      } else if (choice < 0.36) await this.#changeShape();
      else if (choice < 0.4 && this.#savepoints.length === 0) {
        await this.sql.unsafe("SELECT pg_logical_emit_message(true, 'note', 'in between')");
      } else if (choice < 0.45) await this.end(random() < 0.3 ? "ROLLBACK" : "COMMIT");
      else if (choice < 0.6) await this.#change();
      else await this.#insert();
    }

    async end(how: "COMMIT" | "ROLLBACK"): Promise<void> {
      if (this.#savepoints === null) return;
      this.#savepoints = null;
      await this.sql.unsafe(how);
    }

    async #insert(): Promise<void> {
      const first = nextId;
      // As many at least as are changed at once.
      nextId += 6 + below(60);
      this.#ids.push(first);
      await this.sql.unsafe(`INSERT INTO docs SELECT id, 'seen', repeat('x', 100 + id % 200),
          CASE WHEN id % 20 = 0 THEN repeat('large', 600) END
        FROM generate_series(${first}, ${nextId - 1}) AS id`);
    }

    /** Of its own rows, which may be rolled back already, so that nobody waits for a lock. */
    async #change(): Promise<void> {
      const id = this.#ids[below(this.#ids.length)] ?? 0;
      await this.sql.unsafe(
        random() < 0.7
          ? `UPDATE docs SET state = 'changed' WHERE id BETWEEN ${id} AND ${id + 5}`
          : `DELETE FROM docs WHERE id BETWEEN ${id} AND ${id + 2}`,
      );
    }

    /** The first row of a table in this transaction is one of the new savepoint's. */
    async #firstTouch(): Promise<void> {
      const id = nextId++;
      await this.sql.unsafe(`INSERT INTO late_${this.#index} VALUES (${id}, repeat('y', 2000))`);
    }

    /** Of a table of its own: to change one waits for everybody who has touched it. */
    async #changeShape(): Promise<void> {
      const table = `own_${this.#index}`;
      const column = `c${nextName++}`;
      await this.sql.unsafe(`INSERT INTO ${table} (id) VALUES (${nextId++});
        ALTER TABLE ${table} ADD COLUMN ${column} text DEFAULT 'as it was';
        INSERT INTO ${table} (id, ${column}) VALUES (${nextId++}, repeat('z', 500));
        ${random() < 0.3 ? `TRUNCATE ${table}` : ""}`);
    }
  }

  const writers = Array.from({ length: WRITERS }, (_, index) => new Writer(index));
  try {
    for (let step = 0; step < STEPS; step++) {
      await writers[below(WRITERS)]!.step();
      // One that is never streamed, in the midst of those that are; with it the server sees their rows.
      if (step % 5 === 0) await db.query(`INSERT INTO docs VALUES (${nextId++}, 'alone')`);
    }
    for (const writer of writers) await writer.end("COMMIT");
    // Whatever the seed: rows that are sent and rolled back after that.
    const { sql } = writers[0]!;
    await db.query("CREATE TABLE gone (id int PRIMARY KEY, body text)");
    const rows = (table: string) =>
      `INSERT INTO ${table} SELECT ${nextId} + id, repeat('y', 200) FROM generate_series(1, 500) AS id`;
    await sql.unsafe(`BEGIN; ${rows("docs (id, body)")}; SAVEPOINT gone; ${rows("gone")}`);
    await db.query(`INSERT INTO docs VALUES (${nextId}, 'alone')`);
    await seen("gone");
    await sql.unsafe(`ROLLBACK TO SAVEPOINT gone; ${rows("gone")}; DELETE FROM gone; COMMIT`);
  } finally {
    for (const { sql } of writers) await sql.end();
  }
}

async function createSlots(db: TestPostgres, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, () => uniqueName("protocol"));
  for (const name of names) {
    await db.query(`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
  }
  return names;
}

async function prepare(db: TestPostgres): Promise<void> {
  // Of the database, so that it holds on servers of one's own too.
  await db.query(`ALTER DATABASE ${db.database} SET logical_decoding_work_mem = '64kB'`);
  await db.query(`CREATE TYPE state AS ENUM ('seen', 'changed', 'alone', 'large');
    CREATE TABLE docs (id int PRIMARY KEY, state state, body text, large text);
    ALTER TABLE docs ALTER large SET STORAGE EXTERNAL`);
  for (let index = 0; index < WRITERS; index++) {
    await db.query(`CREATE TABLE own_${index} (id int PRIMARY KEY);
      ALTER TABLE own_${index} REPLICA IDENTITY FULL;
      CREATE TABLE late_${index} (id int PRIMARY KEY, body text)`);
  }
  await db.query(`CREATE PUBLICATION ${PUBLICATION} FOR ALL TABLES`);
}

for (const major of testMajors(18, 17, 16, 15, 14)) {
  describe(`transactions in parts, PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await prepare(db);
    });
    after(() => db?.stop());

    test("assembled, they are what protocol 1 sends: savepoints, side by side, with DDL (20) (22)", async () => {
      // SEED=… plays it again.
      const seed = Number(process.env.SEED ?? `${Date.now()}`.slice(-6));
      console.log(`seed ${seed}`);
      const ways: ReplicationStreamOptions[] = [{}, { streaming: true }];
      if (db.major >= 16) ways.push({ streaming: "parallel" });
      const slots = await createSlots(db, ways.length);
      const all = await Promise.all(ways.map((way, at) => receiving(db, slots[at]!, way)));
      const seen = (table: string) =>
        until(
          `rows of ${table}`,
          () =>
            all.slice(1).every(({ raw }) =>
              raw.some((message) => message.type === "insert" && message.relation.name === table)
            ),
        );
      await write(db, seed, seen);
      const [plain, ...streamed] = await Promise.all(all.map((one) => one.finish()));
      assertEquals(countOf(plain!.raw, "stream-start"), 0);
      assertGreater(countOf(plain!.whole, "begin"), 30);
      checkRelations(plain!.whole);

      for (const { raw, whole } of streamed) {
        assertSame(comparable(whole), comparable(plain!.whole), `seed ${seed}`);
        checkRelations(whole);
        // It is all for nothing where the server has not streamed, or not what was rolled back later.
        assertGreater(countOf(raw, "stream-start"), 10);
        assertGreater(countOf(raw, "stream-commit"), 0);
        assertGreater(countOf(raw, "insert"), countOf(whole, "insert") + 400);
        const aborts = raw.flatMap((message) => message.type === "stream-abort" ? [message] : []);
        assert(aborts.some(({ xid, subXid }) => xid !== subXid), "no subtransaction was aborted");
        const isParallel = raw === streamed[1]?.raw;
        for (const { abortLsn, abortTimeUs } of aborts) {
          assertEquals([abortLsn !== null, abortTimeUs !== null], [isParallel, isParallel]);
        }
      }
    });

    test("confirmed at their commits, they do not come again", async () => {
      const [slotName] = await createSlots(db, 1);
      await db.query(`INSERT INTO late_1 SELECT id, repeat('y', 200)
        FROM generate_series(1000001, 1001000) AS id`);
      const first = await receive(db, slotName!, { streaming: true });
      assertEquals(countOf(first.whole, "insert"), 1000);
      const second = await receive(db, slotName!, { streaming: true });
      assertEquals(countOf(second.raw, "stream-start"), 0);
      assertEquals(countOf(second.whole, "begin"), 0);
    });

    test("a logical message of a subtransaction that was rolled back stays: nothing tells whose it was", async () => {
      const [slotName] = await createSlots(db, 1);
      await db.query("CREATE TABLE noted (id int, body text)");
      const streamed = await receiving(db, slotName!, { streaming: true });
      const sql = openClient(db.dsn);
      try {
        const rows =
          `INSERT INTO noted SELECT id, repeat('y', 200) FROM generate_series(1, 500) AS id`;
        await sql.unsafe(`BEGIN; SAVEPOINT s; ${rows};
          SELECT pg_logical_emit_message(true, 'note', ''); ${rows}`);
        await db.query("INSERT INTO docs VALUES (1, 'alone')");
        await until("the rows", () => countOf(streamed.raw, "insert") > 500);
        await sql.unsafe("ROLLBACK TO SAVEPOINT s; COMMIT");
      } finally {
        await sql.end();
      }
      const { raw, whole } = await streamed.finish();
      const abort = raw.find((message) => message.type === "stream-abort");
      assert(abort?.type === "stream-abort" && abort.subXid !== abort.xid);
      assertEquals([countOf(whole, "message"), countOf(whole, "insert")], [1, 1]);
    });

    test("binary: values are bytes", async () => {
      const [slotName] = await createSlots(db, 1);
      await db.query("INSERT INTO late_2 VALUES (-2, 'é')");
      const { whole } = await receive(db, slotName!, { binary: true });
      const rows = whole.flatMap((message) => message.type === "insert" ? [message.row] : []);
      assertEquals(rows.map(({ id, body }) => [id, body]), [
        [Uint8Array.of(255, 255, 255, 254), Uint8Array.of(0xc3, 0xa9)],
      ]);
    });
  });
}

/** By type, with what tells them apart. */
function shown(messages: readonly PgOutputMessage[]): string[] {
  return messages.flatMap((message) => {
    if (message.type === "relation" || message.type === "type") return [];
    if ("gid" in message) return [`${message.type} ${message.gid}`];
    return [message.type];
  });
}

for (const major of testMajors(18, 17, 16, 15)) {
  describe(`prepared transactions, PostgreSQL ${major}`, { skip: needsOwnServer }, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major, settings: { max_prepared_transactions: "10" } });
      await prepare(db);
    });
    after(() => db?.stop());
    // A slot that is made would wait for it for ever.
    afterEach(async () => {
      for (const { gid } of await db.query<{ gid: string }>("SELECT gid FROM pg_prepared_xacts")) {
        await db.query(`ROLLBACK PREPARED '${gid}'`);
      }
    });

    const twoPhaseOf = async (slotName: string) => {
      const [slot] = await db.query<{ two_phase: boolean }>(
        `SELECT two_phase FROM pg_replication_slots WHERE slot_name = '${slotName}'`,
      );
      return slot!.two_phase;
    };
    const writer = async (statements: string) => {
      const sql = openClient(db.dsn);
      // COMMIT PREPARED wants no transaction around it, and several statements at once are one.
      for (const statement of statements.split(";")) await sql.unsafe(statement);
      await sql.end();
    };
    const prepared = (gid: string, rows: string) =>
      writer(`BEGIN; ${rows}; PREPARE TRANSACTION '${gid}'`);

    test("come at their PREPARE, and their end later", async () => {
      const [slotName] = await createSlots(db, 1);
      assertEquals(await twoPhaseOf(slotName!), false);
      const read = () => receive(db, slotName!, { twoPhase: true });
      assertEquals(shown((await read()).whole), []);
      // A slot that was not made for it is from now on, for good.
      assertEquals(await twoPhaseOf(slotName!), true);

      await prepared("good", "INSERT INTO late_0 VALUES (1, 'a')");
      await prepared("bad", "INSERT INTO late_0 VALUES (2, 'b')");
      const first = await read();
      assertEquals(shown(first.whole), [
        "begin-prepare good",
        "insert",
        "prepare good",
        "begin-prepare bad",
        "insert",
        "prepare bad",
      ]);
      await writer("COMMIT PREPARED 'good'; ROLLBACK PREPARED 'bad'");
      const second = await read();
      // What was confirmed at its Prepare does not come again.
      assertEquals(shown(second.whole), ["commit-prepared good", "rollback-prepared bad"]);
      const [, , good, , , bad] = first.whole.filter(({ type }) => type !== "relation");
      const [committed, rolledBack] = second.whole;
      assert(good?.type === "prepare" && committed?.type === "commit-prepared");
      assert(bad?.type === "prepare" && rolledBack?.type === "rollback-prepared");
      assertEquals(committed.xid, good.xid);
      assertGreater(committed.endLsn, good.endLsn);
      assertEquals(
        [rolledBack.xid, rolledBack.prepareEndLsn, rolledBack.prepareTimeUs],
        [bad.xid, bad.endLsn, bad.prepareTimeUs],
      );
      assertGreater(rolledBack.rollbackEndLsn, bad.endLsn);
    });

    test("in parts they are the same as whole", async () => {
      const [plain, streamed] = await createSlots(db, 2);
      for (const name of [plain!, streamed!]) await receive(db, name, { twoPhase: true });
      const rows = (from: number) =>
        `INSERT INTO late_1 SELECT id, repeat('y', 200)
        FROM generate_series(${from}, ${from + 500}) AS id`;
      await prepared(
        "large",
        `${rows(1)}; SAVEPOINT s; ${rows(1000)}; ROLLBACK TO s; ${rows(2000)}`,
      );
      await writer("COMMIT PREPARED 'large'");
      const expected = await receive(db, plain!, { twoPhase: true });
      const { raw, whole } = await receive(db, streamed!, { twoPhase: true, streaming: true });
      assertSame(comparable(whole), comparable(expected.whole));
      assertEquals(shown(whole).at(-1), "commit-prepared large");
      assertGreater(countOf(raw, "stream-start"), 2);
      assertEquals(countOf(raw, "stream-prepare"), 1);
      assertEquals(countOf(whole, "insert"), 1002);
    });

    test("a slot that was made two-phase once sends them to protocol 1 too", async () => {
      const [slotName] = await createSlots(db, 1);
      await receive(db, slotName!, { twoPhase: true });
      await prepared("late", "INSERT INTO late_2 VALUES (1, 'a')");
      const { whole } = await receive(db, slotName!, {});
      assertEquals(shown(whole), ["begin-prepare late", "insert", "prepare late"]);
      await writer("ROLLBACK PREPARED 'late'");
    });

    test("without the option they come whole, at their COMMIT PREPARED", async () => {
      const [slotName] = await createSlots(db, 1);
      await prepared("plain", "INSERT INTO late_2 VALUES (2, 'a')");
      assertEquals(shown((await receive(db, slotName!, {})).whole), []);
      await writer("COMMIT PREPARED 'plain'");
      assertEquals(shown((await receive(db, slotName!, {})).whole), ["begin", "insert", "commit"]);
    });
  });
}

/** What a server of each version is too old for. */
const REFUSED: Record<number, ReplicationStreamOptions[]> = {
  13: [
    { protocolVersion: 2 },
    { streaming: true },
    { streaming: "parallel" },
    { twoPhase: true },
    { messages: true },
    { binary: true },
    { origin: "none" },
  ],
  14: [{ protocolVersion: 3 }, { streaming: "parallel" }, { twoPhase: true }, { origin: "none" }],
  15: [{ protocolVersion: 4 }, { streaming: "parallel" }, { origin: "none" }],
};

for (const major of testMajors(13, 14, 15)) {
  describe(`what PostgreSQL ${major} does not have`, { skip: needsOwnServer }, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await db.query(`CREATE PUBLICATION ${PUBLICATION} FOR ALL TABLES`);
    });
    after(() => db?.stop());

    for (const options of REFUSED[major] ?? []) {
      test(`${JSON.stringify(options)}: the error names what it needs`, async () => {
        const [slotName] = await createSlots(db, 1);
        const open = () =>
          ReplicationStream.open({
            dsn: db.dsn,
            slotName: slotName!,
            publicationName: PUBLICATION,
            logger: false,
            ...options,
          });
        const error = await assertRejects(open, ReplicationError);
        assertEquals(error.kind, "not-supported");
        const [name] = Object.keys(options);
        assertMatch(
          error.message,
          new RegExp(
            `^${name}: .* needs PostgreSQL 1[456], and the server is PostgreSQL ${major}\\.`,
          ),
        );
      });
    }
  });
}

for (const major of testMajors(18, 16)) {
  describe(`origins, PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await prepare(db);
    });
    after(() => db?.stop());

    test('origin "none" leaves out what came by replication, "any" tells where it came from', async () => {
      const [any, none] = await createSlots(db, 2);
      const origin = uniqueName("origin");
      const sql = openClient(db.dsn);
      await sql.unsafe(`SELECT pg_replication_origin_create('${origin}');
        SELECT pg_replication_origin_session_setup('${origin}')`);
      await sql.unsafe("INSERT INTO late_0 VALUES (1, 'from elsewhere')");
      await sql.unsafe("SELECT pg_replication_origin_session_reset()");
      await sql.unsafe("INSERT INTO late_0 VALUES (2, 'from here')");
      await sql.unsafe(`SELECT pg_replication_origin_drop('${origin}')`);
      await sql.end();
      const idsOf = ({ whole }: Received) =>
        whole.flatMap((message) => message.type === "insert" ? [message.row.id] : []);
      const all = await receive(db, any!, { origin: "any" });
      assertEquals(idsOf(all), ["1", "2"]);
      assertEquals(idsOf(await receive(db, none!, { origin: "none" })), ["2"]);
    });
  });
}

for (const major of testMajors(18, 13, 10)) {
  describe(`an origin that its own transaction has made, PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await db.query(`CREATE TABLE docs (id int PRIMARY KEY);
        CREATE PUBLICATION ${PUBLICATION} FOR ALL TABLES`);
    });
    after(() => db?.stop());

    test("does not end a stream, though up to 13 an empty message comes of it", async () => {
      const slotName = uniqueName("protocol");
      await db.query(`SELECT pg_create_logical_replication_slot('${slotName}', 'pgoutput')`);
      const origin = uniqueName("origin");
      const sql = openClient(db.dsn);
      try {
        await sql.unsafe(`BEGIN; SELECT pg_replication_origin_create('${origin}');
          SELECT pg_replication_origin_session_setup('${origin}');
          INSERT INTO docs VALUES (1); COMMIT`);
        await sql.unsafe(`SELECT pg_replication_origin_session_reset();
          SELECT pg_replication_origin_drop('${origin}')`);
      } finally {
        await sql.end();
      }
      await db.query("INSERT INTO docs VALUES (2)");
      const stream = await ReplicationStream.open({
        dsn: db.dsn,
        slotName,
        publicationName: PUBLICATION,
        logger: false,
      });
      const decoder = new PgOutputDecoder();
      const messages: PgOutputMessage[] = [];
      const read = async () => {
        for await (const { data } of stream) {
          const message = decoder.decode(data);
          messages.push(message);
          if (message.type === "insert" && message.row.id === "2") break;
        }
      };
      await within("the second row", read()).finally(() => stream.close());
      const origins = messages.filter((message) => message.type === "origin");
      assertEquals(origins.map(({ name }) => name), [db.major <= 13 ? "" : origin]);
      const rows = messages.filter((message) => message.type === "insert");
      assertEquals(rows.map(({ row }) => row.id), ["1", "2"]);
    });
  });
}
