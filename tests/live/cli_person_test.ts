/** Commands that only look, as a person sees them in a terminal: in colours, in place, at the terminal's width. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { after, afterEach, before, describe, test } from "node:test";
import { CliTerminal, endTerminals, needsTerminal } from "../support/cli_terminal.ts";
import { CliWorld } from "../support/cli_world.ts";
import { until } from "../support/streams.ts";

let world: CliWorld;
before(async () => {
  if (!needsTerminal) world = await CliWorld.open();
});
afterEach(endTerminals);
after(() => world?.close());

async function person(args: readonly string[]): Promise<CliTerminal> {
  const { env, cwd } = world.options();
  return await CliTerminal.pgstream(args, { env, cwd: cwd!, columns: 110 });
}

describe("in a terminal", { skip: needsTerminal }, () => {
  test("doctor marks what is right and what is not by colours, and counts at the end", async () => {
    await world.db.query("CREATE TABLE keyless (id int)");
    const terminal = await person(["doctor", "documents", "keyless"]);
    assertEquals(await terminal.status(), 2);
    const screen = await terminal.screen({ history: true });
    assertMatch(screen, /^ok {4}public\.documents: Updates and deletes are told by id$/m);
    assertMatch(screen, /^FAIL {2}public\.keyless: Table "public\.keyless" has no primary key/m);
    assertMatch(screen, /\n\n1 problem, 1 warning$/);
    const coloured = await terminal.screen({ colours: true, history: true });
    // deno-lint-ignore no-control-regex
    assertMatch(coloured, /\x1b\[31mFAIL/);
    // deno-lint-ignore no-control-regex
    assertMatch(coloured, /\x1b\[32mok/);
    await world.db.query("DROP TABLE keyless");
  });

  test("status --watch keeps its table where it is, and ends with 0 at Ctrl+C", async () => {
    await world.db.query("SELECT pg_create_logical_replication_slot('watched', 'pgoutput')");
    const terminal = await person(["status", "--watch", "--interval", "0.1"]);
    const first = await terminal.shows(/^watched {2}nobody/m);
    await world.db.query("SELECT pg_logical_emit_message(false, 'x', repeat('x', 3000000))");
    await until("what it keeps to grow", async () => (await terminal.screen()) !== first);
    const screen = await terminal.shows(/3\.\d MB/);
    assertEquals(screen.match(/^slot/gm)?.length, 1, screen);
    assertEquals(screen.match(/^watched/gm)?.length, 1, screen);
    await terminal.send("C-c");
    assertEquals(await terminal.status(), 0);
    await world.db.query("SELECT pg_drop_replication_slot('watched')");
  });

  test("verify and backfill leave their results, and no line of progress", async () => {
    const file = await world.write("person.json", world.config("person"));
    await world.run(["sync", "--once", "--config", file]);
    const verified = await person(["verify", "--config", file]);
    assertEquals(await verified.status(), 0);
    assertEquals(
      await verified.screen(),
      "ok   public.documents: 20 rows, 20 vectors: alike",
    );
    await verified.end();
    const filled = await person(["backfill", "documents", "--key", "7", "--config", file]);
    assertEquals(await filled.status(), 0);
    const screen = await filled.screen();
    assert(screen.trim().split("\n").length <= 2, screen);
    assertMatch(screen, /documents/);
    await world.run(["teardown", "--yes", "--config", file]);
  });
});
