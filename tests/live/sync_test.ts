/** From a table to vectors, by `sync`: what is embedded, what is stored, and when nothing is. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  PgStream,
  PgStreamError,
  type PgStreamOptions,
  type RowPoint,
  rowPointId,
  type SinkLike,
  type SyncOptions,
  type VerifyReport,
} from "../../mod.ts";
import { chunkText } from "../../src/sync/mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, type StartedStream, uniqueName, until, within } from "../support/streams.ts";
import {
  type FoundPoint,
  memoryStore,
  pgvectorStore,
  qdrantStore,
  type SyncedStore,
} from "../support/synced_stores.ts";

/** Any text has a vector of its own, as good as. */
function vectorOf(text: string): number[] {
  let [a, b, c] = [1, 1, 1];
  for (const char of text) [a, b, c] = [b, c, (a * 31 + b * 7 + char.codePointAt(0)!) % 99_991];
  return [a, b, c];
}

/** Counts what it embeds. */
class Embedding {
  calls = 0;
  readonly texts: string[] = [];
  embed = (texts: readonly string[]): Promise<number[][]> => {
    this.calls++;
    this.texts.push(...texts);
    return Promise.resolve(texts.map(vectorOf));
  };
  /** What was embedded since. */
  take(): string[] {
    return this.texts.splice(0).sort();
  }
}

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const chunk = chunkText({ maxChars: 20, overlap: 0 });

/** A table, a store, and streams from the one to the other. */
class World {
  readonly table = uniqueName("docs");
  readonly slotName = uniqueName("sync");
  readonly embedding = new Embedding();
  readonly store: SyncedStore;
  running: StartedStream | null = null;
  readonly #streams: PgStream[] = [];

  constructor(store: SyncedStore) {
    this.store = store;
  }

  static async open(store: SyncedStore): Promise<World> {
    const world = new World(store);
    await db.query(
      `CREATE TABLE ${world.table} (id bigint PRIMARY KEY, title text, body text, views int DEFAULT 0);
      ALTER TABLE ${world.table} ALTER body SET STORAGE EXTERNAL`,
    );
    return world;
  }

  stream(options: Partial<SyncOptions> = {}, streamOptions: PgStreamOptions = {}): PgStream {
    const stream = new PgStream({
      dsn: db.dsn,
      slotName: this.slotName,
      logger: false,
      ...streamOptions,
    });
    stream.sink(this.store.open()).sync(this.table, {
      text: (row) => row.body,
      embed: this.embedding.embed,
      model: "test@1",
      payload: ["title", "id"],
      chunk,
      ...options,
    });
    this.#streams.push(stream);
    return stream;
  }

  async start(options: Partial<SyncOptions> = {}, streamOptions: PgStreamOptions = {}) {
    const stream = this.stream(options, streamOptions);
    await stream.setup();
    this.running = await started(stream);
    return stream;
  }

  async stop(): Promise<void> {
    await this.running?.stop();
    this.running = null;
  }

  /** What the table says that the store has to have. */
  async wanted(cut: (text: string) => string[] = chunk): Promise<FoundPoint[]> {
    const rows = await db.query(
      `SELECT id::text, title, body FROM ${this.table} ORDER BY id::text COLLATE "C"`,
    );
    return rows.flatMap(({ id, title, body }) =>
      (body ? cut(body as string) : []).map((text, chunk): FoundPoint => ({
        table: `public.${this.table}`,
        key: id as string,
        chunk,
        vector: vectorOf(text),
        payload: { title, id: Number(id) },
      }))
    );
  }

  async points(): Promise<FoundPoint[]> {
    return (await this.store.points()).filter(({ table }) => table === `public.${this.table}`);
  }

  /** Waits until the store is as the table is. */
  async agrees(cut?: (text: string) => string[]): Promise<void> {
    const wanted = await this.wanted(cut);
    let found: FoundPoint[] | null = null;
    const agree = until("the store to agree", async () => {
      found = null;
      found = await this.points();
      return JSON.stringify(sorted(found)) === JSON.stringify(sorted(wanted));
    });
    await agree.catch((error) => {
      // What is missing, or too much.
      if (found !== null) assertEquals(found, wanted);
      throw error;
    });
  }

  async close(): Promise<void> {
    await this.stop().catch(() => {});
    const [last] = this.#streams.slice(-1);
    await within("the end", last!.teardown());
    await db.query(`DROP TABLE ${this.table}`);
  }
}

/** What a report found. */
async function counts(report: Promise<VerifyReport>) {
  const { missing, stale, orphaned } = await report;
  return { missing, stale, orphaned };
}

/** Properties of payloads in one order. */
function sorted(points: readonly FoundPoint[]): unknown[] {
  return points.map(({ payload, ...point }) => ({
    ...point,
    payload: Object.entries(payload).sort(),
  }));
}

for (const make of [memoryStore, pgvectorStore, qdrantStore]) {
  describe(`sync into ${make.name.replace("Store", "")}`, () => {
    let store: SyncedStore;
    before(async () => {
      store = await make();
    });
    after(() => store?.stop());

    test("keeps the store as the table is: rows that were there, and whatever is done to them", async () => {
      const world = await World.open(store);
      const { table } = world;
      try {
        await db.query(
          `INSERT INTO ${table} SELECT n, 'title ' || n, repeat('text ' || n || '. ', n % 7)
          FROM generate_series(1, 60) n`,
        );
        await world.start();
        await world.agrees();
        await db.query(
          `INSERT INTO ${table} VALUES (100, 'new', 'One. Two. Three. Four. Five. Six.')`,
        );
        await db.query(`UPDATE ${table} SET body = 'short' WHERE id % 5 = 0`);
        await db.query(`UPDATE ${table} SET body = repeat('long text. ', 9) WHERE id % 7 = 0`);
        await db.query(`UPDATE ${table} SET body = NULL WHERE id = 13`);
        await db.query(`DELETE FROM ${table} WHERE id BETWEEN 20 AND 25`);
        await db.query(`UPDATE ${table} SET id = id + 1000 WHERE id BETWEEN 30 AND 33`);
        await world.agrees();
        await db.query(
          `TRUNCATE ${table}; INSERT INTO ${table} VALUES (1, 'again', 'after truncate')`,
        );
        await world.agrees();
      } finally {
        await world.close();
      }
    });

    test("embeds nothing where other columns change, nor again what was embedded", async () => {
      const world = await World.open(store);
      const { table, embedding } = world;
      try {
        await db.query(
          `INSERT INTO ${table} SELECT n, 'title', 'text ' || n FROM generate_series(1, 50) n`,
        );
        await db.query(`INSERT INTO ${table} VALUES (51, 'large', repeat('large ', 1000))`);
        await world.start();
        await world.agrees();
        // The large one has chunks that are the same.
        const texts = embedding.take();
        assertEquals(texts, [...new Set(texts)]);
        embedding.calls = 0;
        await db.query(`UPDATE ${table} SET views = views + 1`);
        await db.query(`UPDATE ${table} SET title = 'other' WHERE id % 2 = 1`);
        await world.agrees();
        await world.stop();
        assertEquals(embedding.calls, 0);
      } finally {
        await world.close();
      }
    });

    test("embeds nothing when all that was ever written comes again", async () => {
      const world = await World.open(store);
      const { table, embedding } = world;
      try {
        await world.start();
        // From here on the slot stays where it is.
        const [{ lsn }] = await db.query(`SELECT pg_current_wal_lsn()::text AS lsn`) as [
          { lsn: string },
        ];
        await world.stop();
        const copy = uniqueName("copy");
        await db.query(`SELECT pg_copy_logical_replication_slot('${world.slotName}', '${copy}')`);
        await world.start();
        for (let n = 1; n <= 30; n++) {
          await db.query(
            `INSERT INTO ${table} VALUES (${n}, 't', 'text ${n} '||repeat('x. ', 20))`,
          );
        }
        await db.query(`UPDATE ${table} SET body = 'changed ' || id WHERE id < 10`);
        await db.query(`DELETE FROM ${table} WHERE id > 25`);
        await db.query(`UPDATE ${table} SET id = id + 100 WHERE id BETWEEN 15 AND 17`);
        await world.agrees();
        await world.stop();
        embedding.take();
        embedding.calls = 0;
        assert(lsn !== undefined);
        // The slot as it was before.
        await db.query(`SELECT pg_drop_replication_slot('${world.slotName}')`);
        await db.query(`SELECT pg_copy_logical_replication_slot('${copy}', '${world.slotName}')`);
        await db.query(`SELECT pg_drop_replication_slot('${copy}')`);
        const stream = world.stream();
        await stream.catchUp();
        await world.agrees();
        await stream.stop();
        assertEquals(embedding.take(), []);
        assertEquals(embedding.calls, 0);
      } finally {
        await world.close();
      }
    });

    test("says that the model was changed, and embeds all anew where it is told to", async () => {
      const world = await World.open(store);
      const { table, embedding } = world;
      try {
        await db.query(
          `INSERT INTO ${table} SELECT n, 'title', 'text ' || n FROM generate_series(1, 20) n`,
        );
        await world.start();
        await world.agrees();
        await world.stop();
        embedding.take();
        const error = await assertRejects(
          () => world.stream({ model: "test@2" }).setup(),
          PgStreamError,
          "test@1",
        );
        assertEquals(error.kind, "model-changed");
        await world.start({ model: "test@2", onModelChange: "rebuild" });
        await until("all to be embedded", () => embedding.texts.length === 20);
        await world.agrees();
        await world.stop();
        await world.start({ model: "test@2" });
        await world.stop();
        assertEquals(embedding.take().length, 20);
        // A chunker, too.
        const other = chunkText({ maxChars: 5, overlap: 0 });
        await world.start({ model: "test@2", chunk: other, onModelChange: "rebuild" });
        await world.agrees(other);
      } finally {
        await world.close();
      }
    });

    test("fills a store that is new, though the rows were handed out before", async () => {
      const world = await World.open(store);
      const other = await make();
      try {
        await db.query(
          `INSERT INTO ${world.table} SELECT n, 'title', 'text ' || n FROM generate_series(1, 20) n`,
        );
        await world.start();
        await world.agrees();
        await world.stop();
        const sink = other.open();
        const stream = world.stream({ sink });
        const seen: string[] = [];
        stream.onChange(({ operation }) => void seen.push(operation));
        await stream.setup();
        world.running = await started(stream);
        await until(
          "the other store to be filled",
          async () => (await other.points()).length === 20,
        );
        // It has nothing that would have to go first: what comes beside would go with it.
        assertEquals(new Set(seen), new Set(["insert"]));
      } finally {
        await world.close();
        await other.stop();
      }
    });

    test("that was broken by hand is found out, and exactly what is broken is mended", async () => {
      const world = await World.open(store);
      const { table, embedding } = world;
      const name = `public.${table}`;
      try {
        await db.query(
          `INSERT INTO ${table} SELECT n, 'title', repeat('text ' || n || '. ', CASE n WHEN 1 THEN 9 ELSE 1 END)
          FROM generate_series(1, 30) n`,
        );
        const stream = await world.start();
        await world.agrees();
        assertEquals(await counts(stream.verify(table)), { missing: 0, stale: 0, orphaned: 0 });
        const sink: SinkLike = store.open();
        const id = (key: string, chunk = 0) => rowPointId(name, key, chunk);
        /** Writes what the store has under a key, changed, as if it were true. */
        const write = async (key: string, change: (point: RowPoint) => RowPoint[], to = key) => {
          const { model, position, payload, fingerprint } = (await sink.fingerprints!([id(key)]))
            .get(id(key))!;
          const points = change({ id: id(to), fingerprint, vector: [1, 2, 3], payload });
          await sink.apply!(
            [{ table: name, key: to, position, model, points, surplus: true }],
            null,
          );
        };
        await sink.delete(id("1", 1));
        await write("2", (point) => [{ ...point, fingerprint: "0".repeat(32) }]);
        await write("3", (point) => [{ ...point, payload: { title: "wrong" } }]);
        await write("4", (point) => [point], "4000");
        await write("5", (point) => [point, { ...point, id: id("5", 1) }]);
        embedding.take();
        const report = await stream.verify(table, { repair: true });
        const named = report.differences.map(({ key, chunk, kind }) => `${key} ${chunk} ${kind}`);
        assertEquals(named.sort(), [
          "1 1 missing",
          "2 0 stale",
          "3 0 stale",
          "4000 0 orphaned",
          "5 0 stale",
          ...named.filter((one) => one === "5 1 orphaned"),
        ]);
        const { missing, stale, orphaned, repaired, unsettled } = report;
        assertEquals([repaired, unsettled], [missing + stale + orphaned, 0]);
        assertEquals(await counts(stream.verify(table)), { missing: 0, stale: 0, orphaned: 0 });
        // The one whose vector is not that of its text; what is missing has the text of another chunk.
        assertEquals(embedding.take(), ["text 2. "]);
        await world.stop();
        const points = await world.points();
        assertEquals(
          points.map(({ key, chunk }) => [key, chunk]),
          (await world.wanted()).map(({ key, chunk }) => [key, chunk]),
        );
      } finally {
        await world.close();
      }
    });

    test("finds rows by what they say, and by what their payload has", async () => {
      const world = await World.open(store);
      try {
        await db.query(
          `INSERT INTO ${world.table} SELECT n, 'title ' || n % 2, 'text ' || n FROM generate_series(1, 20) n`,
        );
        const stream = await world.start();
        await world.agrees();
        const all = await stream.search(world.table, "text 7", { limit: 30 });
        assertEquals(all.length, 20);
        const [odd] = await stream.search(world.table, "text 7", { limit: 1, filter: { id: 7 } });
        assertEquals(odd?.payload, { id: 7, title: "title 1" });
        const even = await stream.search(world.table, "text 7", { filter: { title: "title 0" } });
        assertEquals(even.length, 10);
        assert(even.every(({ payload }) => payload.title === "title 0"));
      } finally {
        await world.close();
      }
    });
  });
}
