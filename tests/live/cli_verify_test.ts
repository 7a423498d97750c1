/** `pgstream verify` and `pgstream backfill`: whether a store is right, and what mends it. */

import { assertEquals, assertMatch } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { Cli } from "../support/cli.ts";
import { CliWorld, ended } from "../support/cli_world.ts";

let world: CliWorld;
before(async () => void (world = await CliWorld.open()));
after(() => world?.close());

async function synced(table: string): Promise<string> {
  const file = await world.write(`${table}.json`, world.config(table));
  await world.run(["sync", "--once", "--config", file]);
  return file;
}

const teardown = (file: string) => world.run(["teardown", "--yes", "--config", file]);

describe("pgstream verify", () => {
  test("finds what was broken and says 1; with --repair exactly that is mended", async () => {
    const file = await synced("verified");
    await world.vectors`DELETE FROM verified WHERE payload->>'id' IN ('3', '4')`;
    await world.vectors`UPDATE verified SET payload = '{"id": 5}' WHERE payload->>'id' = '5'`;
    const found = await world.run(["verify", "documents", "--json", "--config", file], {
      status: 1,
    });
    const report = JSON.parse(found);
    assertMatch(report.tables[0].lsn, /^[0-9A-F]+\/[0-9A-F]+$/);
    report.tables[0].lsn = "LSN";
    const golden = {
      table: "public.documents",
      live: false,
      lsn: "LSN",
      rows: 20,
      points: 18,
      missing: 2,
      stale: 1,
      orphaned: 0,
      unsettled: 0,
      repaired: 0,
      differences: [
        { key: "3", chunk: 0, kind: "missing" },
        { key: "4", chunk: 0, kind: "missing" },
        { key: "5", chunk: 0, kind: "stale" },
      ],
      truncated: false,
    };
    assertEquals(report, { alike: false, tables: [golden] });
    const told = await new Cli(["verify", "--config", file], world.options()).ended;
    assertEquals(
      ended(told, 1).stdout,
      "fail public.documents: 20 rows, 18 vectors: 2 missing, 1 stale\n" +
        "     missing   3\n     missing   4\n     stale     5\n",
    );
    assertMatch(told.stderr, /--repair mends what differs/);
    const asked = world.openAi.requests.length;
    const mended = await world.run(["verify", "--repair", "--config", file]);
    assertMatch(mended, /^ok {3}public\.documents: 20 rows, .*2 missing, 1 stale, 3 mended\n/);
    const inputs = world.openAi.requests.slice(asked).flatMap(({ input }) => input);
    assertEquals(inputs.sort(), ["title 3\n\nbody 3", "title 4\n\nbody 4"]);
    assertMatch(await world.run(["verify", "public.documents", "--config", file]), /alike/);
    await teardown(file);
  });

  test("lists some of many, and counts the rest", async () => {
    const file = await world.write("empty.json", world.config("empty"));
    await world.run(["setup", "--config", file]);
    const text = await world.run(["verify", "--config", file], { status: 1 });
    assertEquals(text.trim().split("\n").length, 21);
    await world.db.query("INSERT INTO documents VALUES (1000, 'one', 'more')");
    const more = await world.run(["verify", "--config", file], { status: 1 });
    assertMatch(more, /\n {5}and 1 more\n$/);
    await world.db.query("DELETE FROM documents WHERE id = 1000");
    await teardown(file);
  });

  test("--repair says who holds the slot", async () => {
    const file = await world.write("held.json", world.qdrantConfig("held"));
    await world.run(["sync", "--once", "--config", file]);
    const syncing = new Cli(["sync", "--config", file], world.options());
    try {
      await syncing.shows(/streaming/);
      const result = await new Cli(["verify", "--repair", "--config", file], world.options()).ended;
      assertMatch(ended(result, 1).stderr, /^error: .*"cli_held".*PID \d+/m);
      assertMatch(await world.run(["verify", "--config", file]), /alike/);
    } finally {
      syncing.signal("SIGINT");
    }
    ended(await syncing.ended);
    await teardown(file);
  });

  test("knows the file's tables, and which of them was meant", async () => {
    const file = await world.write("names.json", world.config("names"));
    for (const command of ["verify", "backfill"]) {
      const result = await new Cli([command, "document", "--config", file], world.options()).ended;
      assertEquals(
        ended(result, 2).stderr,
        'error: names.json has no table "document". Did you mean "documents"?\n',
      );
    }
    const none = await new Cli(["verify"], world.options()).ended;
    assertMatch(ended(none, 2).stderr, /^error: There is no configuration file\. pgstream init/);
  });
});

describe("pgstream backfill", () => {
  test("brings rows once more, and embeds nothing that the store has", async () => {
    const file = await synced("again");
    const asked = world.openAi.requests.length;
    const inputs = () => world.openAi.requests.slice(asked).flatMap(({ input }) => input);
    await world.vectors`DELETE FROM again WHERE payload->>'id' IN ('5', '6')`;
    const one = ["backfill", "documents", "--key", "5", "--config", file];
    assertEquals(await world.run(one), "Done: documents, 1 texts embedded\n");
    assertEquals(inputs(), ["title 5\n\nbody 5"]);
    await world.run(["backfill", "documents", "--where", "id < 10", "--config", file]);
    assertEquals(inputs(), ["title 5\n\nbody 5", "title 6\n\nbody 6"]);
    assertMatch(await world.run(["verify", "--config", file]), /alike/);
    const lines = (await world.run(["backfill", "documents", "--json", "--config", file]))
      .trim().split("\n").map((line) => JSON.parse(line));
    assertEquals(lines.at(-1).events.insert, 20);
    assertEquals(lines.at(-1).textsEmbedded, 0);
    await teardown(file);
  });

  test("refuses a condition that is none, and no table at all", async () => {
    const file = await world.write("refused.json", world.config("refused"));
    const result = await new Cli(
      ["backfill", "documents", "--where", "id < 10)", "--config", file],
      world.options(),
    ).ended;
    assertMatch(ended(result, 1).stderr, /^error: .*not one condition/m);
    const none = await new Cli(["backfill"], world.options()).ended;
    assertMatch(ended(none, 2).stderr, /^error: backfill needs a table/);
    await teardown(file);
  });
});
