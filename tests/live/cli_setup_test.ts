/** `pgstream setup` and `pgstream teardown`: what they make and take away, and what they say of it. */

import { assertEquals, assertMatch } from "@std/assert";
import { after, afterEach, before, describe, test } from "node:test";
import { Cli } from "../support/cli.ts";
import { CliTerminal, endTerminals, needsTerminal } from "../support/cli_terminal.ts";
import { CliWorld, ended } from "../support/cli_world.ts";

let world: CliWorld;
before(async () => {
  world = await CliWorld.open();
  await world.db.query("CREATE TABLE orders (id int PRIMARY KEY, total numeric)");
});
after(() => world?.close());

async function made(): Promise<{ slots: string[]; publications: string[] }> {
  const slots = await world.db.query<{ name: string }>(
    "SELECT slot_name AS name FROM pg_replication_slots ORDER BY 1",
  );
  const publications = await world.db.query<{ name: string }>(
    "SELECT pubname AS name FROM pg_publication ORDER BY 1",
  );
  return {
    slots: slots.map(({ name }) => name),
    publications: publications.map(({ name }) => name),
  };
}

describe("pgstream setup", () => {
  test("makes what the file needs, tells so, and does nothing the second time", async () => {
    const file = await world.write("setup.json", world.config("setup_once"));
    assertEquals(JSON.parse(await world.run(["setup", "--json", "--config", file])), {
      slotName: "cli_setup_once",
      publicationName: "cli_setup_once",
      slot: "created",
      publication: "created",
      added: ["public.documents"],
      removed: [],
      changed: [],
      warnings: [],
    });
    assertEquals(await world.count("setup_once"), 0);
    assertEquals(
      await world.run(["setup", "--config", file]),
      'Slot "cli_setup_once" was found\nPublication "cli_setup_once" was found\n',
    );
    assertEquals(
      JSON.parse(await world.run(["teardown", "--yes", "--json", "--config", file])),
      {
        slotName: "cli_setup_once",
        publicationName: "cli_setup_once",
        slot: "dropped",
        publication: "dropped",
      },
    );
    assertEquals(await made(), { slots: [], publications: [] });
  });

  test("of named tables needs no file; where there is one, its columns and rows count", async () => {
    const flags = ["--slot", "cli_named", "--publication", "cli_named_tables"];
    assertEquals(
      await world.run(["setup", "documents", "public.orders", ...flags]),
      'Slot "cli_named" was created\nPublication "cli_named_tables" was created\n' +
        "  added public.documents\n  added public.orders\n",
    );
    const file = await world.write("parts.json", {
      tables: { documents: { text: "title", columns: ["id", "title"] } },
    });
    assertEquals(
      await world.run(["setup", "public.documents", ...flags, "--config", file]),
      'Slot "cli_named" was found\nPublication "cli_named_tables" was altered\n' +
        "  removed public.orders\n  changed public.documents\n",
    );
    assertEquals(
      await world.db.query("SELECT attnames::text FROM pg_publication_tables"),
      [{ attnames: "{id,title}" }],
    );
    await world.run(["teardown", "--yes", ...flags]);
    assertEquals(await made(), { slots: [], publications: [] });
  });

  test("the environment names slot and publication before the file, and flags before that", async () => {
    const file = await world.write("named.json", world.config("named"));
    const env = { PGSTREAM_SLOT: "cli_of_env", PGSTREAM_PUBLICATION: "cli_pub_of_env" };
    const run = async (...args: string[]) =>
      JSON.parse(await world.run([...args, "--json", "--config", file], { env }));
    assertEquals((await run("setup")).slotName, "cli_of_env");
    assertEquals(await made(), { slots: ["cli_of_env"], publications: ["cli_pub_of_env"] });
    assertEquals((await run("teardown", "--yes", "--slot", "cli_flag")).slot, "missing");
    assertEquals((await run("teardown", "--yes")).slot, "dropped");
    assertEquals(await made(), { slots: [], publications: [] });
  });

  test("says what stands in the way, and makes nothing", async () => {
    await world.db.query("CREATE TABLE keyless (body text)");
    const result = await new Cli(["setup", "keyless", "--slot", "cli_none"], world.options()).ended;
    assertMatch(ended(result, 1).stderr, /^error: .*keyless.*REPLICA IDENTITY/m);
    const nothing = await new Cli(["setup"], world.options()).ended;
    assertMatch(ended(nothing, 2).stderr, /^error: setup needs a table\. .*pgstream init\n$/);
    assertEquals(await made(), { slots: [], publications: [] });
    await world.db.query("DROP TABLE keyless");
  });
});

describe("pgstream teardown", () => {
  test("drops nothing unasked: in a pipe it names what, and says --yes", async () => {
    await world.run(["setup", "orders", "--slot", "cli_kept"]);
    const asked = await new Cli(["teardown", "--slot", "cli_kept"], {
      ...world.options(),
      input: "y\n",
    }).ended;
    assertEquals(
      ended(asked, 2).stderr,
      'error: There is nobody to ask whether to drop slot "cli_kept" and publication "cli_kept". ' +
        "Say --yes\n",
    );
    assertEquals((await made()).slots, ["cli_kept"]);
    assertEquals(
      await world.run(["teardown", "--yes", "--keep-publication", "--slot", "cli_kept"]),
      'Slot "cli_kept" was dropped\nPublication "cli_kept" stays\n',
    );
    assertEquals(await made(), { slots: [], publications: ["cli_kept"] });
    assertEquals(
      await world.run(["teardown", "--yes", "--slot", "cli_kept"]),
      'Slot "cli_kept" was not there\nPublication "cli_kept" was dropped\n',
    );
  });

  test("leaves a publication that somebody else made, and says why", async () => {
    await world.db.query("CREATE PUBLICATION cli_theirs FOR TABLE orders");
    const result = await new Cli(["teardown", "--yes", "--slot", "cli_theirs"], world.options())
      .ended;
    assertMatch(ended(result).stdout, /Publication "cli_theirs" stays\n$/);
    assertMatch(result.stderr, /^warning .*COMMENT/m);
    await world.db.query("DROP PUBLICATION cli_theirs");
  });

  test("begins anew: what is there is read again after the next setup", async () => {
    const file = await world.write("anew.json", world.config("anew"));
    for (let round = 0; round < 2; round++) {
      assertMatch(await world.run(["sync", "--once", "--config", file]), /^Handled 20 changes/);
      await world.run(["teardown", "--yes", "--config", file]);
    }
  });
});

describe("pgstream teardown in a terminal", { skip: needsTerminal }, () => {
  afterEach(endTerminals);

  for (
    const [what, keys, status, left, said] of [
      ["yes drops", ["y", "Enter"], 0, [], /was dropped/],
      ["Enter alone drops nothing", ["Enter"], 1, ["cli_asked"], /Nothing was dropped/],
      ["Ctrl+C drops nothing", ["C-c"], 130, ["cli_asked"], /Drop slot/],
      ["the end of input drops nothing", ["C-d"], 2, ["cli_asked"], /There was no answer/],
    ] as const
  ) {
    test(what, async () => {
      await world.run(["setup", "orders", "--slot", "cli_asked"]);
      const { env, cwd } = world.options();
      const args = ["teardown", "--slot", "cli_asked"];
      const terminal = await CliTerminal.pgstream(args, { env, cwd: cwd! });
      await terminal.shows(/Drop slot "cli_asked" and publication "cli_asked"\? \[y\/N\]/);
      await terminal.send(...keys);
      assertEquals(await terminal.status(), status);
      assertMatch(await terminal.screen(), said);
      assertEquals((await made()).slots, [...left]);
      await world.run(["teardown", "--yes", "--slot", "cli_asked"]);
    });
  }
});
