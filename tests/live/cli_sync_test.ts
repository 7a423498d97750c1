/** `pgstream sync`: a store in step with tables, by a file alone. */

import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import { Cli } from "../support/cli.ts";
import { CliTerminal, endTerminals, needsTerminal } from "../support/cli_terminal.ts";
import { CliWorld, ended } from "../support/cli_world.ts";
import { startOpenAi } from "../support/servers/open_ai.ts";
import { startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { until } from "../support/streams.ts";

let world: CliWorld;
before(async () => void (world = await CliWorld.open()));
after(() => world?.close());

const teardown = (file: string) => world.run(["teardown", "--yes", "--config", file]);

/** What varies from run to run. */
function fixed(status: Record<string, unknown>): Record<string, unknown> {
  const lsn = /^[0-9A-F]+\/[0-9A-F]+$/;
  return Object.fromEntries(
    Object.entries(status).map(([key, value]) =>
      key.endsWith("Lsn") && lsn.test(value as string) ? [key, "LSN"] : [key, value]
    ),
  );
}

test("init, setup, sync, verify: from an empty folder to a store that is right, and on", async () => {
  const model = await startOpenAi();
  const flags = ["--table", "documents", "--model", "small", "--dimensions", "4"];
  const store = ["--sink-url", "${VECTORS_URL}", "--sink-name", "from_init"];
  await world.run(
    ["init", "--yes", ...flags, ...store, "--embedder-url", model.url, "--slot", "cli_init"],
  );
  const text = await readFile(join(world.folder, "pgstream.json"), "utf8");
  assertStringIncludes(text, '"text": "{{title}}\\n\\n{{body}}"');
  try {
    assertMatch(await world.run(["setup"]), /^Slot "cli_init" was created\n/);
    const syncing = new Cli(["sync"], world.options());
    try {
      await world.stored("cli_init");
      await world.db.query("INSERT INTO documents VALUES (21, 'new', 'one')");
      await world.stored("cli_init");
    } finally {
      syncing.signal("SIGINT");
    }
    const { stdout, stderr } = ended(await syncing.ended);
    assertEquals(await world.count("from_init"), 21);
    assertEquals(stdout, "");
    assertMatch(stderr, /^connecting: .*\nstreaming/);
    assertMatch(stderr, /\nstopped: 21 changes, 21 texts embedded, 0 B and 0 s behind\n$/);
    assertEquals(
      await world.run(["verify"]),
      "ok   public.documents: 21 rows, 21 vectors: alike\n",
    );
    await world.vectors`DELETE FROM from_init WHERE payload->>'id' = '7'`;
    assertMatch(await world.run(["verify"], { status: 1 }), /1 missing\n {5}missing {3}7\n$/);
    assertMatch(await world.run(["verify", "--repair"]), /^ok .*1 missing, 1 mended\n/);
    assertMatch(await world.run(["verify"]), /alike/);
  } finally {
    await teardown("pgstream.json");
    await world.db.query("DELETE FROM documents WHERE id = 21");
    await model[Symbol.asyncDispose]();
  }
  assertEquals(await world.db.query("SELECT FROM pg_replication_slots"), []);
  assertEquals(await world.db.query("SELECT FROM pg_publication"), []);
});

describe("pgstream sync", () => {
  test("--once brings what is there and what was missed, and ends; --json is whole", async () => {
    const file = await world.write("once.json", world.config("once"));
    const first = await world.run(["sync", "--once", "--config", file]);
    assertMatch(first, /^Handled 20 changes, up to [0-9A-F]+\/[0-9A-F]+\n$/);
    assertEquals(await world.count("once"), 20);
    await world.db.query("INSERT INTO documents VALUES (30, 'later', 'on')");
    try {
      const lines = (await world.run(["sync", "--once", "--json", "--config", file]))
        .trim().split("\n").map((line) => JSON.parse(line));
      assertEquals(
        lines.map(({ state }) => state),
        ["connecting", "streaming", "stopping", "stopped"].filter((state) =>
          lines.some((line) => line.state === state)
        ),
      );
      assertEquals(fixed(lines.at(-1)), {
        state: "stopped",
        receivedLsn: "LSN",
        handledLsn: "LSN",
        confirmedLsn: "LSN",
        lagBytes: lines.at(-1).lagBytes,
        lagSeconds: 0,
        queueBytes: 0,
        transactions: 1,
        messages: 0,
        events: { insert: 1, update: 0, delete: 0, truncate: 0 },
        retries: 0,
        skipped: 0,
        reconnects: 0,
        lastError: null,
        backfill: null,
        textsEmbedded: 1,
      });
      assertEquals(await world.count("once"), 21);
    } finally {
      await teardown(file);
      await world.db.query("DELETE FROM documents WHERE id = 30");
    }
  });

  test("follows a file in TypeScript, with functions where one likes", async () => {
    const { sink } = world.config("typed") as { sink: Record<string, unknown> };
    const file = await world.write(
      "typed.config.ts",
      `interface Document { title: string }
      const embedder = Object.assign(
        (texts: readonly string[]) => Promise.resolve(texts.map((text) => [text.length, 1, 0, 0])),
        { model: "length@1" },
      );
      export default async () => ({
        slotName: "cli_typed",
        tables: {
          documents: {
            text: (row: Document) => row.title.toUpperCase(),
            payload: (row: Document) => ({ title: row.title }),
          },
        },
        embedder,
        sink: { ...${JSON.stringify(sink)}, dsn: process.env.VECTORS_URL },
        onFailure: () => "skip" as const,
      });`,
    );
    await world.run(["sync", "--once", "--config", file]);
    assertMatch(await world.run(["verify", "--config", file]), /alike/);
    const [row] = await world.vectors`
      SELECT vector::text, payload FROM typed WHERE source_key = '1'`;
    assertEquals({ ...row }, { vector: "[7,1,0,0]", payload: { title: "title 1" } });
    await teardown(file);
  });

  test("fills Qdrant as well, and several tables with several stores", async () => {
    await world.db.query(
      `CREATE TABLE notes (id int PRIMARY KEY, note text);
      INSERT INTO notes VALUES (1, 'a note'), (2, NULL), (3, ' ')`,
    );
    const { tables, sink } = world.config("two") as Record<string, Record<string, unknown>>;
    const qdrant = { type: "qdrant", url: world.qdrant.url, collectionName: "docs", dimensions: 4 };
    const file = await world.write(
      "two.json",
      world.config("two", {
        tables: { ...tables, notes: { text: ["note"], sink } },
        sink: qdrant,
      }),
    );
    try {
      const calls = world.openAi.requests.length;
      await world.run(["sync", "--once", "--config", file]);
      const inputs = world.openAi.requests.slice(calls).flatMap(({ input }) => input);
      assertEquals(inputs.length, 21);
      assertEquals(await world.count("two"), 1);
      assertEquals(
        await world.run(["verify", "--config", file]),
        "ok   public.documents: 20 rows, 20 vectors: alike\n" +
          "ok   public.notes: 3 rows, 1 vectors: alike\n",
      );
    } finally {
      await teardown(file);
      await world.db.query("DROP TABLE notes");
    }
  });

  test("--no-setup makes nothing, and says who does", async () => {
    const file = await world.write("without.json", world.config("without"));
    const { stderr } = ended(
      await new Cli(
        ["sync", "--no-setup", "--config", file],
        world.options(),
      ).ended,
      1,
    );
    assertMatch(stderr, /"cli_without"/);
    assertMatch(stderr, /setup\(\)|pgstream setup/);
    assertEquals(await world.db.query("SELECT FROM pg_publication"), []);
  });

  test("--metrics-port is refused where it is none", async () => {
    const file = await world.write("metrics.json", world.config("metrics"));
    for (const args of [["--metrics-port", "x"], ["--metrics-port", "70000"], ["--max-lag", "5"]]) {
      const result = await new Cli(["sync", ...args, "--config", file], world.options()).ended;
      assertMatch(ended(result, 2).stderr, /^error: --(metrics-port|max-lag) is /);
    }
  });

  test("--metrics-port serves metrics and probes while it runs", async () => {
    const file = await world.write(
      "served.json",
      world.config("served", { metrics: { port: 1, maxLagSeconds: 60 } }),
    );
    const syncing = new Cli(["sync", "--metrics-port", "0", "--config", file], world.options());
    try {
      await syncing.shows(/^streaming/m);
      await world.stored("cli_served");
      const [, url] = /^Metrics and probes are at (http:\S+)$/m.exec(syncing.stderr)!;
      const ready = await fetch(`${url}/readyz`);
      assertEquals([ready.status, await ready.text()], [200, "ok\n"]);
      const metrics = await (await fetch(`${url}/metrics`)).text();
      assertMatch(metrics, /\n\w*\{[^}]*table="public\.documents"[^}]*\} 20\n/);
      const other = ["sync", "--metrics-port", new URL(url!).port, "--slot", "cli_other"];
      const taken = await new Cli([...other, "--config", file], world.options()).ended;
      assertMatch(ended(taken, 1).stderr, /Cannot serve metrics on 127\.0\.0\.1.*EADDRINUSE/);
    } finally {
      syncing.signal("SIGINT");
    }
    ended(await syncing.ended);
    await teardown(file);
  });

  test("goes on, and tells so, where its session is ended on the server", async () => {
    const file = await world.write("lost.json", world.config("lost"));
    const syncing = new Cli(["sync", "--config", file], world.options());
    try {
      await syncing.shows(/streaming/);
      await world.stored("cli_lost");
      await world.db.query(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active",
      );
      await syncing.shows(/reconnecting/);
      await world.db.query("INSERT INTO documents VALUES (40, 'after', 'all')");
      await world.stored("cli_lost");
    } finally {
      syncing.signal("SIGTERM");
      await world.db.query("DELETE FROM documents WHERE id = 40");
    }
    ended(await syncing.ended);
    assertEquals(await world.count("lost"), 21);
    await teardown(file);
  });

  test(
    "outlives a server that is killed and comes back, and loses nothing",
    { skip: needsOwnServer },
    async () => {
      const own = await startPostgres();
      await own.query("CREATE TABLE documents (id int PRIMARY KEY, title text, body text)");
      const file = await world.write("killed.json", world.config("killed"));
      const env = { DATABASE_URL: own.dsn };
      const syncing = new Cli(["sync", "--config", file], world.options(env));
      try {
        await syncing.shows(/streaming/);
        await own.query("INSERT INTO documents VALUES (1, 'before', 'it')");
        await own.restart("immediate");
        await own.query("INSERT INTO documents VALUES (2, 'after', 'it')");
        await world.stored("cli_killed", own);
        await syncing.shows(/reconnecting/);
      } finally {
        syncing.signal("SIGINT");
      }
      ended(await syncing.ended);
      assertMatch(await world.run(["verify", "--config", file], { env }), /2 vectors: alike/);
      await own.stop("immediate");
    },
  );

  test("tells who holds the slot, and --once leaves it to that one", async () => {
    const file = await world.write("held.json", world.qdrantConfig("held"));
    const syncing = new Cli(["sync", "--config", file], world.options());
    try {
      await syncing.shows(/streaming/);
      const once = await new Cli(["sync", "--once", "--config", file], world.options()).ended;
      assertMatch(ended(once).stderr, /Another session holds the slot "cli_held"/);
    } finally {
      syncing.signal("SIGINT");
    }
    ended(await syncing.ended);
    await teardown(file);
  });
});

describe("pgstream sync in a terminal", { skip: needsTerminal }, () => {
  afterEach(endTerminals);

  test("keeps one line fresh, a bar while rows are read, and stops at Ctrl+C", async () => {
    await world.db.query(
      `CREATE TABLE many (id int PRIMARY KEY, body text);
      INSERT INTO many SELECT n, 'body ' || n FROM generate_series(1, 2000) n; ANALYZE many`,
    );
    const file = await world.write(
      "seen.json",
      world.config("seen", {
        tables: { many: { text: "body" } },
        backfillChunk: { maxRows: 100 },
        maxQueueBytes: 20_000,
      }),
    );
    // Each call takes its time, so that there is something to be seen.
    for (let call = 0; call < 6; call++) {
      world.openAi.fail({ status: 429, headers: { "retry-after": "1" }, body: {} });
    }
    const { env, cwd } = world.options();
    const terminal = await CliTerminal.pgstream(["sync", "--config", file], {
      env,
      cwd: cwd!,
      columns: 120,
    });
    try {
      const screen = await terminal.shows(
        /streaming, reading public\.many: \[#* *\] \d+% [\d,]+ of about 2,000 rows/,
      );
      assertEquals(screen.trim().split("\n").length, 1, screen);
      await terminal.shows(/streaming: 2,000 changes, 2,000 texts embedded, /);
      await terminal.send("C-c");
      assertEquals(await terminal.status(), 0);
      assertMatch(await terminal.screen(), /stopped: 2,000 changes, 2,000 texts embedded, /);
    } finally {
      world.openAi.failures.splice(0);
      await terminal.end();
      await until(
        "the slot to be free",
        async () =>
          (await world.db.query("SELECT FROM pg_replication_slots WHERE active")).length === 0,
      );
      await teardown(file);
      await world.db.query("DROP TABLE many");
    }
  });
});
