/** The files of `deno task bundle` do what the sources do, with nothing beside them. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { copyFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import type * as Library from "../../mod.ts";
import { connect } from "../../src/transport/node.ts";
import { writeBundles } from "../support/package/bundle.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { until } from "../support/streams.ts";

let db: TestPostgres;
let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgstream-bundle-"));
  await writeBundles(folder);
  db = await testPostgres();
});
after(async () => {
  await db?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function load(file: string): Promise<typeof Library> {
  return await import(pathToFileURL(file).href);
}

describe("a bundle streams", () => {
  for (const file of ["pgstream.js", "pgstream.min.js"]) {
    test(`${file}: rows that are there, changes after them, and errors with their hints`, async () => {
      const { PgStream, PgStreamError, SlotError } = await load(join(folder, file));
      const name = file.replaceAll(/\W/g, "_");
      await db.query(`CREATE TABLE ${name} (id int PRIMARY KEY, content text)`);
      await db.query(`INSERT INTO ${name} VALUES (1, 'there')`);
      const unready = new PgStream({ dsn: db.dsn, slotName: `${name}_2`, logger: false });
      unready.watch(name).onChange(() => {});
      const error = await unready.start().then(() => null, (error) => error);
      assert(error instanceof SlotError && error instanceof PgStreamError);
      assertEquals([error.name, error.kind], ["SlotError", "slot-missing"]);
      assertMatch(error.message, /setup\(\)/);

      const options = { dsn: db.dsn, slotName: name, backfill: "initial", logger: false } as const;
      const stream = new PgStream(options);
      const seen: unknown[] = [];
      stream.watch(name).onChange(({ operation, key, backfill, row }) => {
        seen.push([operation, key, backfill, row?.content]);
      });
      await stream.setup();
      const running = stream.start();
      await until("the row that is there", () => seen.length === 1);
      await db.query(`INSERT INTO ${name} VALUES (2, 'new')`);
      await until("the change", () => seen.length === 2);
      await stream.stop();
      await running;
      assertEquals(seen, [["insert", "1", true, "there"], ["insert", "2", false, "new"]]);
      await stream.teardown();
    });
  }

  test("without the file for backfills, until it is asked for", async () => {
    const apart = await mkdtemp(join(folder, "part-"));
    for (const file of await readdir(folder)) {
      if (/^pgstream.*\.min\.js$/.test(file) && !file.includes("backfill")) {
        await copyFile(join(folder, file), join(apart, file));
      }
    }
    const { PgStream } = await load(join(apart, "pgstream.min.js"));
    await db.query("CREATE TABLE apart (id int PRIMARY KEY)");
    const stream = new PgStream({ dsn: db.dsn, slotName: "apart", logger: false });
    const seen: (string | null)[] = [];
    stream.watch("apart").onChange(({ key }) => seen.push(key));
    await stream.setup();
    const running = stream.start();
    await assertRejects(() => stream.backfill("apart"), Error, "pgstream-backfill");
    await db.query("INSERT INTO apart VALUES (1)");
    await until("the change", () => seen.length === 1);
    await stream.stop();
    await running;
    await stream.teardown();
  });

  test("pgstream.workers.min.js: the protocol's own level, over sockets that are passed in", async () => {
    const library = await load(join(folder, "pgstream.workers.min.js"));
    const options = { dsn: db.dsn, slotName: "workers_bundle", logger: false, connect } as const;
    await db.query("CREATE TABLE workers_bundle (id int PRIMARY KEY)");
    await new library.SlotManager({ ...options, tables: ["workers_bundle"] }).setup();
    const stream = await library.ReplicationStream.open(options);
    await db.query("INSERT INTO workers_bundle VALUES (7)");
    const decoder = new library.PgOutputDecoder();
    for await (const { data } of stream) {
      const message = decoder.decode(data);
      if (message.type !== "insert") continue;
      assertEquals({ ...message.row }, { id: "7" });
      break;
    }
    await stream.close();
    // And opens none itself.
    const { connect: _, ...alone } = options;
    await assertRejects(() => library.ReplicationStream.open(alone), Error);
  });
});
