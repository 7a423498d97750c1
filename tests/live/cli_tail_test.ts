/** `pgstream tail` as a person uses it, and as a pipe does. */

import { assert, assertEquals, assertLess, assertMatch } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { after, afterEach, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Cli, cliEnvironment, type CliResult, pgstream, pgstreamCommand } from "../support/cli.ts";
import { CliTerminal, endTerminals, needsTerminal } from "../support/cli_terminal.ts";
import {
  needsOwnServer,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { until, within } from "../support/streams.ts";

/** In no output. */
const PASSWORD = "canary-4711";

let db: TestPostgres;
const running = new Set<Cli>();
before(async () => {
  // A client that stands still for longer is given up.
  db = await testPostgres({ settings: { wal_sender_timeout: "2s" } });
  await db.query(`
    CREATE TABLE documents (id int PRIMARY KEY, title text, body text);
    CREATE TABLE whole (id int PRIMARY KEY, title text, body text);
    ALTER TABLE whole REPLICA IDENTITY FULL`);
});
afterEach(async () => {
  await endTerminals();
  for (const cli of running) await cli.kill();
  running.clear();
  await db.query("TRUNCATE documents, whole");
});
after(() => db?.stop());

/** Starts it, and waits until it watches. */
async function watching(...args: string[]): Promise<Cli> {
  const cli = new Cli(["tail", ...args], { env: { DATABASE_URL: db.dsn } });
  running.add(cli);
  await cli.shows(/Watching/);
  return cli;
}

async function run(...args: string[]): Promise<CliResult> {
  return await pgstream(["tail", ...args], { env: { DATABASE_URL: db.dsn } });
}

/** Objects of its lines. */
// deno-lint-ignore no-explicit-any
function objects({ stdout }: { stdout: string }): any[] {
  return stdout.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

/** What of it is on the server. */
async function left(): Promise<{ slots: string[]; publications: string[] }> {
  const names = async (sql: string) =>
    (await db.query<{ name: string }>(`${sql} ORDER BY 1`)).map(({ name }) => name);
  return {
    slots: await names("SELECT slot_name::text AS name FROM pg_replication_slots"),
    publications: await names("SELECT pubname::text AS name FROM pg_publication"),
  };
}
const NOTHING = { slots: [], publications: [] };

/** Memory that a process has, where the system tells; else 0. */
async function residentMb(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) / 1000;
}

/** The server lets go of a slot a moment after its client is gone. */
async function nothingIsLeft(): Promise<void> {
  await until("nothing to be left", async () => (await left()).slots.length === 0);
  assertEquals(await left(), NOTHING);
}

describe("pgstream tail in a pipe", () => {
  test("prints changes as JSON, as events are, and leaves nothing when --limit is reached", async () => {
    const tail = await watching("documents", "public.whole", "--limit", "5");
    await db.query("INSERT INTO documents VALUES (1, 'Bread', NULL)");
    await db.query("UPDATE documents SET id = 2");
    await db.query("INSERT INTO whole VALUES (1, 'a', 'b'); UPDATE whole SET title = 'c'");
    await db.query("DELETE FROM documents");
    await db.query("DELETE FROM whole");
    const { status, stderr, ...printed } = await tail.ended;
    assertEquals([status, stderr], [
      0,
      "Watching public.documents, public.whole (Ctrl+C ends it)\n",
    ]);
    const found = objects(printed);
    for (const { lsn, commitTime, xid } of found) {
      assertMatch(lsn, /^[0-9A-F]+\/[0-9A-F]+$/);
      assertLess(Math.abs(Date.parse(commitTime) - Date.now()), 60_000);
      assert(xid > 0);
    }
    const same = { schema: "public", oldRow: null, oldKey: null, unchanged: [], backfill: false };
    const of = { ...same, table: "documents", ordinal: 0 };
    const ofWhole = { ...same, table: "whole" };
    assertEquals(
      found.map(({ lsn: _, commitTime: __, xid: ___, ...event }) => event),
      [
        { ...of, operation: "insert", key: "1", row: { id: "1", title: "Bread", body: null } },
        {
          ...of,
          operation: "update",
          key: "2",
          oldKey: "1",
          row: { id: "2", title: "Bread", body: null },
          oldRow: { id: "1" },
        },
        {
          ...ofWhole,
          operation: "insert",
          key: "1",
          ordinal: 0,
          row: { id: "1", title: "a", body: "b" },
        },
        {
          ...ofWhole,
          operation: "update",
          key: "1",
          ordinal: 1,
          row: { id: "1", title: "c", body: "b" },
          oldRow: { id: "1", title: "a", body: "b" },
        },
        { ...of, operation: "delete", key: "2", row: { id: "2" }, oldRow: { id: "2" } },
      ],
    );
    await nothingIsLeft();
  });

  test("shows what was asked for: rows that were there, operations, columns", async () => {
    await db.query("INSERT INTO documents VALUES (1, 'a', 'x'), (2, 'b', 'y')");
    const tail = await watching(
      ...["documents", "--from-start", "--limit", "3"],
      ...["--operation", "insert,delete", "--columns", "body,id"],
    );
    await tail.shows(/"key":"2"/);
    await db.query("UPDATE documents SET title = 'c' WHERE id = 1");
    await db.query("DELETE FROM documents WHERE id = 2");
    const found = objects(await tail.ended);
    assertEquals(
      found.map(({ operation, key, row, backfill }) => [operation, key, row, backfill]),
      [
        ["insert", "1", { body: "x", id: "1" }, true],
        ["insert", "2", { body: "y", id: "2" }, true],
        ["delete", "2", { id: "2" }, false],
      ],
    );
    assertEquals(Object.keys(found[0].row), ["body", "id"]);
    // No state table, either.
    assertEquals(await db.query("SELECT FROM pg_namespace WHERE nspname = 'pgstream'"), []);
    await nothingIsLeft();
  });

  test("--where is asked of the server, and the rows that are there", async () => {
    await db.query("INSERT INTO documents VALUES (5, 'a', 'x'), (50, 'b', 'y')");
    const tail = await watching(
      ...["documents", "--where", "id > 10", "--from-start", "--limit", "2"],
    );
    await tail.shows(/"key":"50"/);
    await db.query("INSERT INTO documents VALUES (6, 'a', 'x'), (60, 'b', 'y')");
    assertEquals(objects(await tail.ended).map(({ key }) => key), ["50", "60"]);
    await nothingIsLeft();
  });

  test("ends quietly when its reader leaves, as head does", async () => {
    const [program, ...args] = [...pgstreamCommand(), "tail", "documents"];
    const child = spawn(
      "sh",
      ["-c", '{ "$@"; echo "status $?" >&2; } | head -3', "sh"].concat(program!, args),
      {
        env: cliEnvironment({ DATABASE_URL: db.dsn }),
        stdio: ["ignore", "pipe", "pipe"],
        timeout: 60_000,
      },
    );
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);
    const closed = once(child, "close");
    await until("it to watch", () => stderr.includes("Watching"), 30_000);
    // More than a pipe holds, and then one more, which finds nobody.
    await db.query(
      "INSERT INTO documents SELECT n, repeat('x', 100), '' FROM generate_series(1, 20000) n",
    );
    await within("it to end", closed, 30_000);
    assertEquals(objects({ stdout }).map(({ key }) => key), ["1", "2", "3"]);
    assertEquals(stderr, "Watching public.documents (Ctrl+C ends it)\nstatus 0\n");
    await nothingIsLeft();
  });

  test("a reader that is slow slows it down: nothing is lost, and little is kept in memory", async () => {
    const [program, ...args] = [...pgstreamCommand(), "tail", "documents", "--quiet"];
    const child = spawn(program!, [...args, "--limit", "100000"], {
      env: cliEnvironment({ DATABASE_URL: db.dsn }),
      stdio: ["ignore", "pipe", "inherit"],
      timeout: 90_000,
    });
    try {
      await until("the slot", async () => (await left()).slots.length === 1, 30_000);
      const before = await residentMb(child.pid!);
      // 110 MB as text.
      await db.query(
        "INSERT INTO documents SELECT n, repeat('x', 1000), '' FROM generate_series(1, 100000) n",
      );
      // Nobody reads: it would take all of it now.
      await delay(3000);
      const slot = await db.query<{ state: string }>("SELECT state FROM pg_stat_replication");
      assertEquals(slot.length, 1, "it is connected all the same");
      assertLess(await residentMb(child.pid!) - before, 64);
      let lines = 0;
      for await (const chunk of child.stdout) lines += String(chunk).split("\n").length - 1;
      assertEquals(lines, 100_000);
    } finally {
      child.kill("SIGKILL");
    }
    await nothingIsLeft();
  });

  test("after kill -9 no slot is there, and the next one takes away what is old", async () => {
    const tail = await watching("documents");
    await tail.kill();
    await until("the slot to be gone", async () => (await left()).slots.length === 0);
    const { publications: [young] } = await left();
    assertMatch(young!, /^pgstream_tail_/);
    // As one that began 25 days ago, and as somebody else's of such a name.
    const old = "pgstream_tail_t00000_0123abcd";
    const others = "pgstream_tail_t00000_0123abce";
    await db.query(`ALTER PUBLICATION ${young} RENAME TO ${old}`);
    await db.query(`COMMENT ON PUBLICATION ${old} IS 'pgstream: owned by slot ${old}'`);
    await db.query(`CREATE PUBLICATION ${others} FOR TABLE documents`);
    const next = await watching("documents");
    next.signal("SIGINT");
    assertEquals((await next.ended).status, 0);
    assertEquals(await left(), { slots: [], publications: [others] });
    await db.query(`DROP PUBLICATION ${others}`);
  });

  test("a publication that has the tables is read from, and stays as it is", async () => {
    await db.query("CREATE PUBLICATION pgstream FOR TABLE documents, whole");
    await db.query("COMMENT ON PUBLICATION pgstream IS 'pgstream: owned by slot pgstream'");
    const ended = run("documents", "--limit", "1", "--quiet");
    await until("the slot", async () => (await left()).slots.length === 1, 30_000);
    assertEquals((await left()).publications, ["pgstream"]);
    await until("a row", async () => {
      await db.query("INSERT INTO whole VALUES (1); INSERT INTO documents VALUES (1)");
      await db.query("TRUNCATE documents, whole");
      return (await left()).slots.length === 0;
    });
    const { stderr, ...printed } = await ended;
    assertEquals([stderr, objects(printed).map(({ key }) => key)], ["", ["1"]]);
    const comment = await db.query<{ comment: string }>(
      "SELECT obj_description(oid, 'pg_publication') AS comment FROM pg_publication",
    );
    assertEquals(comment, [{ comment: "pgstream: owned by slot pgstream" }]);
    await db.query("DROP PUBLICATION pgstream");
  });

  test("a lasting slot shows each change once, whatever --limit cuts off", async () => {
    const first = await watching("documents", "--lasting", "--limit", "1");
    await db.query("INSERT INTO documents VALUES (1)");
    await db.query("INSERT INTO documents VALUES (2)");
    await db.query("INSERT INTO documents VALUES (3)");
    const keys = objects(await first.ended).map(({ key }) => key);
    const next = await run("documents", "--slot", "pgstream_tail", "--limit", "2");
    keys.push(...objects(next).map(({ key }) => key));
    assertEquals(keys, ["1", "2", "3"]);
    assertEquals(await left(), { slots: ["pgstream_tail"], publications: ["pgstream_tail"] });
    await db.query("SELECT pg_drop_replication_slot('pgstream_tail')");
    await db.query("DROP PUBLICATION pgstream_tail");
  });
});

describe("pgstream tail that cannot", () => {
  /** One line that names the thing and the way out. */
  function assertRefused({ status, stdout, stderr }: CliResult, wanted: number, says: RegExp) {
    assertEquals([status, stdout], [wanted, ""], stderr);
    const lines = stderr.trimEnd().split("\n").filter((line) => !line.includes("--verbose tells"));
    assertEquals(lines.length, 1, stderr);
    assertMatch(lines[0]!, says);
    assert(!stderr.includes(PASSWORD) && !stderr.includes("    at "), stderr);
  }

  test("tells of a server that is not there, without the password, with --verbose, too", async () => {
    const dsn = `postgresql://postgres:${PASSWORD}@127.0.0.1:1/app`;
    for (const verbose of [[], ["--verbose"]]) {
      const { stderr, ...result } = await run("documents", "--dsn", dsn, ...verbose);
      assertEquals([result.status, result.stdout], [1, ""]);
      assertMatch(stderr, /^error: .*127\.0\.0\.1:1/);
      assert(!stderr.includes(PASSWORD), stderr);
      if (verbose.length === 0) assertRefused({ stderr, ...result }, 1, /127\.0\.0\.1:1.+\. /);
    }
  });

  test("tells which table or column may have been meant", async () => {
    assertRefused(
      await run("documnets"),
      1,
      /"public\.documnets" not found.*mean public\.documents\?/,
    );
    assertRefused(await run("Documents"), 1, /mean "public\.documents"\?/);
    assertRefused(await run("documents", "--columns", "titel"), 2, /"titel".*mean title\?/);
    assertEquals(await left(), NOTHING);
  });

  test("tells what was typed wrong, with status 2", async () => {
    assertRefused(await run(), 2, /needs a table.*pgstream tail TABLE/);
    assertRefused(await run("documents", "--limit", "0"), 2, /--limit .*Such as/);
    assertRefused(await run("documents", "--operation", "inserts"), 2, /mean insert\?/);
    assertRefused(await run("documents", "--lastign"), 2, /--lastign.*--help/);
    assertRefused(
      await run("documents", "--where", "id > 1", "--publication", "p"),
      2,
      /Leave out --publication/,
    );
  });

  test("a role that may make no publication is told who may, and what then", async () => {
    await db.query(`CREATE ROLE tail_reader LOGIN REPLICATION PASSWORD '${PASSWORD}'`);
    try {
      await db.query(`GRANT SELECT ON documents TO tail_reader`);
      const dsn = new URL(db.dsn);
      dsn.username = "tail_reader";
      dsn.password = PASSWORD;
      const env = { DATABASE_URL: dsn.href };
      assertRefused(
        await pgstream(["tail", "documents"], { env }),
        1,
        /CREATE PUBLICATION pgstream_tail FOR TABLE "public"\."documents"; then add --publication pgstream_tail/,
      );
      await db.query('CREATE PUBLICATION pgstream_tail FOR TABLE "public"."documents"');
      const tail = new Cli(
        ["tail", "documents", "--publication", "pgstream_tail", "--limit", "1"],
        {
          env,
        },
      );
      running.add(tail);
      await tail.shows(/Watching/);
      await db.query("INSERT INTO documents VALUES (1)");
      assertEquals(objects(await tail.ended).length, 1);
      assertEquals((await left()).publications, ["pgstream_tail"]);
    } finally {
      await db.query("DROP PUBLICATION IF EXISTS pgstream_tail");
      await db.query("DROP OWNED BY tail_reader; DROP ROLE tail_reader");
    }
  });

  test("is ended by Ctrl+C while it connects, and by a second one whatever it does", async () => {
    // Takes connections, and never says a word.
    const { createServer } = await import("node:net");
    const silent = createServer(() => {}).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const { port } = silent.address() as { port: number };
    try {
      const cli = new Cli(["tail", "documents", "--dsn", `postgresql://a@127.0.0.1:${port}/app`]);
      running.add(cli);
      await until(
        "a connection",
        () =>
          new Promise<boolean>((resolve) =>
            silent.getConnections((_, count) => resolve(count > 0))
          ),
        30_000,
      );
      cli.signal("SIGINT");
      assertEquals((await within("it to end", cli.ended, 10_000)).status, 130);
    } finally {
      silent.close();
    }
  });
});

describe("pgstream tail in a terminal", { skip: needsTerminal }, () => {
  async function start(...args: string[]): Promise<CliTerminal> {
    const terminal = await CliTerminal.pgstream(["tail", ...args], {
      columns: 78,
      rows: 20,
      env: { DATABASE_URL: db.dsn },
    });
    await terminal.shows(/Watching/);
    return terminal;
  }

  /** The same for all times. */
  function timeless(screen: string): string {
    return screen.replaceAll(/\d\d:\d\d:\d\d\.\d{3}/g, "HH:MM:SS.mmm");
  }

  test("shows a line a change, in columns, whatever is in it; Ctrl+C ends it", async () => {
    const terminal = await start("documents", "whole");
    await db.query("INSERT INTO documents VALUES (1, 'Bread', NULL)");
    await db.query(
      `INSERT INTO documents VALUES (1234, '日本語のパン 🥖🥖 日本語のパン日本語のパン日本語の', E'a\\nb\\x1b[31m')`,
    );
    await db.query("UPDATE documents SET id = 2 WHERE id = 1");
    await db.query("INSERT INTO whole VALUES (1, 'old', 'same')");
    await db.query("UPDATE whole SET title = 'new'");
    await db.query("DELETE FROM documents WHERE id = 2");
    await db.query("TRUNCATE whole");
    const screen = timeless(await terminal.shows(/truncate/));
    assertEquals(
      screen,
      `Watching public.documents, public.whole (Ctrl+C ends it)
HH:MM:SS.mmm insert   public.documents 1  title Bread  body NULL
HH:MM:SS.mmm insert   public.documents 1234  title 日本語のパン 🥖🥖 日本語の…
HH:MM:SS.mmm update   public.documents 1 → 2  title Bread  body NULL
HH:MM:SS.mmm insert   public.whole     1     title old  body same
HH:MM:SS.mmm update   public.whole     1     title old → new  body same
HH:MM:SS.mmm delete   public.documents 2
HH:MM:SS.mmm truncate public.whole`,
    );
    const coloured = await terminal.screen({ colours: true });
    for (const [colour, operation] of [[32, "insert"], [33, "update"], [31, "delete"]]) {
      assertMatch(coloured, new RegExp(`\\x1b\\[${colour}m(\\x1b\\[\\d+m)*${operation}`));
    }
    await terminal.send("C-c");
    assertEquals(await terminal.status(), 0);
    assertMatch(await terminal.screen(), /Stopping; once more ends it at once/);
    await nothingIsLeft();
  });

  test("follows the terminal's width, and prints JSON where it is told to", async () => {
    const terminal = await start("documents");
    await db.query(`INSERT INTO documents VALUES (1, '${"x".repeat(30)}', '${"y".repeat(30)}')`);
    await terminal.shows(/1 {2}title x+…$/m);
    await terminal.resize(120, 20);
    await until("the width to be known", async () => {
      await db.query(`UPDATE documents SET body = '${"z".repeat(30)}'`);
      return /body z{30}$/m.test(await terminal.screen());
    });
    await terminal.end();
    const json = await start("documents", "--json");
    await db.query("DELETE FROM documents");
    await json.shows(/\{"operation":"delete"/);
  });

  test("Ctrl+C twice ends it at once", { skip: needsOwnServer }, async () => {
    const terminal = await start("documents");
    // What it drops at its end is held by somebody: it waits.
    const holder = db.query(
      "BEGIN; LOCK TABLE pg_publication; SELECT pg_sleep(6); COMMIT",
    );
    await delay(300);
    await terminal.send("C-c");
    await terminal.shows(/Stopping/);
    const pid = await terminal.pid();
    await delay(300);
    process.kill(pid, 0);
    await terminal.send("C-c");
    assertEquals(await terminal.status(5000), 130);
    await holder;
    const { publications } = await left();
    for (const name of publications) await db.query(`DROP PUBLICATION ${name}`);
  });
});
