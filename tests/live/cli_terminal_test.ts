/** The terminal that tests of the command line use: what it shows, and that it leaves nothing. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import process from "node:process";
import { afterEach, describe, test } from "node:test";
import { CliTerminal, endTerminals, needsTerminal } from "../support/cli_terminal.ts";
import { until } from "../support/streams.ts";

describe("a command in a terminal", { skip: needsTerminal }, () => {
  afterEach(endTerminals);

  test("shows colours, takes keys, and tells its exit status", async () => {
    const script = 'printf "\\033[31mred\\033[0m;\\n"; read line; echo "got $line"; exit 7';
    const terminal = await CliTerminal.start(["sh", "-c", script]);
    assertEquals(await terminal.shows(/red/), "red;");
    assertStringIncludes(await terminal.screen({ colours: true }), "\x1b[31mred\x1b[39m");
    await terminal.send("a", ";", "Enter");
    assertMatch(await terminal.shows(/got/), /got a;/);
    assertEquals(await terminal.status(), 7);
  });

  test("is told by Ctrl+C, and of another size", async () => {
    const script = 'trap "echo interrupted; exit 130" INT; trap "stty size" WINCH;' +
      " stty size; while :; do sleep 0.1; done";
    const terminal = await CliTerminal.start(["sh", "-c", script], { columns: 70, rows: 20 });
    await terminal.shows(/^20 70$/m);
    await terminal.resize(50, 10);
    await terminal.shows(/^10 50$/m);
    await terminal.send("C-c");
    await terminal.shows(/interrupted/);
    assertEquals(await terminal.status(), 130);
  });

  test("is a person's, to the command line, and is gone when it is ended", async () => {
    const terminal = await CliTerminal.pgstream(["--help"]);
    await terminal.shows(/Usage: pgstream COMMAND/);
    assertStringIncludes(await terminal.screen({ colours: true }), "\x1b[1mUsage:");
    assertEquals(await terminal.status(), 0);
    await terminal.end();
    const other = await CliTerminal.start(["sleep", "60"]);
    const pid = await other.pid();
    assert(process.kill(pid, 0));
    await other.end();
    await until("its process to be gone", () => {
      try {
        return !process.kill(pid, 0);
      } catch {
        return true;
      }
    });
  });
});
