/** Column lists, row filters, generated columns and partitions: what is watched is what is published. */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertMatch,
  assertNotMatch,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import {
  type ChangeEvent,
  MemoryStateStore,
  PgStream,
  PgStreamError,
  type PgStreamOptions,
  SlotManager,
  type TablePart,
} from "../../mod.ts";
import { checkWriters } from "../../src/replication/identity_cover.ts";
import { readTables } from "../../src/replication/tables.ts";
import { Connector } from "../../src/wire/connector.ts";
import { loggingSnapshots, replayed, startStandby } from "../support/servers/copied_server.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import {
  needsOwnServer,
  testMajors,
  type TestPostgres,
  testPostgres,
} from "../support/servers/test_postgres.ts";
import { LogLines, started, uniqueName, until } from "../support/streams.ts";

/** Of `watch()`. */
interface Part {
  columns?: string[];
  where?: string;
}

function dsnAs(dsn: string, role: string): string {
  const url = new URL(dsn);
  url.username = role;
  url.password = role;
  return url.href;
}

async function refusal(work: Promise<unknown>): Promise<PgStreamError> {
  const error = await work.then(() => null, (error) => error);
  assertInstanceOf(error, PgStreamError, `${error}`);
  assert(error.hint !== undefined, error.message);
  return error;
}

/** What a handler was told, in short. */
function told(event: ChangeEvent): unknown[] {
  return [event.operation, event.key, Object.entries(event.row)];
}

/** Statements that a warning or a hint says to run. */
function statementsIn(text: string): string {
  const [, statements] = /Run(?: on the primary)?: ([^]*;)/.exec(text) ?? [];
  assert(statements !== undefined, text);
  return statements;
}

for (const major of testMajors(18, 17, 16, 15)) {
  describe(`what is published on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    const testIt = (name: string, body: () => Promise<void>) =>
      test(name, async () => {
        if (db.major >= 15) await body();
      });
    const roles: string[] = [];
    before(async () => {
      db = await testPostgres({ major });
    });
    after(async () => {
      for (const role of roles) await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      await db?.stop();
    });

    /** A role that may replicate, and may do nothing else but what is granted. */
    async function replicator(grants: string[] = []): Promise<string> {
      const role = uniqueName("role");
      await db.query(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD '${role}'`);
      for (const grant of grants) await db.query(`GRANT ${grant} TO ${role}`);
      roles.push(role);
      return dsnAs(db.dsn, role);
    }

    function streamOf(table: string, part: Part | null, options: PgStreamOptions): PgStream {
      const stream = new PgStream({ dsn: db.dsn, logger: false, ...options }).onChange(() => {});
      return part === null ? stream.watch(table) : stream.watch(table, part);
    }

    async function newTable(
      prefix: string,
      definition = "id int PRIMARY KEY, a int, b text",
    ): Promise<string> {
      const table = uniqueName(prefix);
      await db.query(`CREATE TABLE ${table} (${definition})`);
      return table;
    }

    /** What the server has of the publication's tables, with the version of each row. */
    async function catalogued(publication: string): Promise<unknown[]> {
      return await db.query(
        `SELECT r.xmin::text, r.oid, r.prrelid::regclass::text AS table, r.prattrs::text AS columns,
          pg_get_expr(r.prqual, r.prrelid) AS filter
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        WHERE p.pubname = $1 ORDER BY 3`,
        [publication],
      );
    }

    /** `[table, columns, filter]` as the server prints them; null: all. */
    async function published(publication: string): Promise<unknown[]> {
      const rows = await db.query<{ name: string; columns: string | null; filter: string }>(
        `SELECT c.relname AS name, pg_get_expr(r.prqual, r.prrelid) AS filter,
          (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a
            WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::int2[])) AS columns
        FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
          JOIN pg_class c ON c.oid = r.prrelid
        WHERE p.pubname = $1 ORDER BY 1`,
        [publication],
      );
      return rows.map(({ name, columns, filter }) => [name, columns, filter]);
    }

    async function exists(publication: string): Promise<boolean> {
      const rows = await db.query("SELECT FROM pg_publication WHERE pubname = $1", [publication]);
      return rows.length > 0;
    }

    /** SQLSTATEs that stop a table's writers; none: they go on. */
    async function stopped(table: string): Promise<string[]> {
      const codes: string[] = [];
      for (const statement of [`UPDATE ${table} SET note = 'new'`, `DELETE FROM ${table}`]) {
        const code = await db.query(statement).then(() => null, (error) => error.code);
        if (code !== null) codes.push(code);
      }
      return codes;
    }

    testIt(
      "other columns and rows than are watched never come, be they read or streamed",
      async () => {
        const table = await newTable("parts", "id int PRIMARY KEY, a int, b text, secret text");
        await db.query(`INSERT INTO ${table} SELECT n, n, 'b' || n, 'canary' FROM
        generate_series(1, 6) n`);
        const events: ChangeEvent[] = [];
        const stream = streamOf(table, { columns: ["b", "id"], where: "id > 3 AND id < 100" }, {
          slotName: uniqueName(),
          backfill: "initial",
          stateStore: new MemoryStateStore(),
        }).onChange((event) => void events.push(event));
        await stream.setup();
        const running = await started(stream);
        await until("the rows that are there", () => events.length === 3);
        assertEquals(events.map((event) => [event.backfill, ...told(event)]), [
          [true, "insert", "4", [["id", "4"], ["b", "b4"]]],
          [true, "insert", "5", [["id", "5"], ["b", "b5"]]],
          [true, "insert", "6", [["id", "6"], ["b", "b6"]]],
        ]);
        events.length = 0;
        await db.query(`INSERT INTO ${table} VALUES (2000, 0, 'b', 'canary');
        UPDATE ${table} SET b = 'new', secret = 'canary2' WHERE id = 4;
        UPDATE ${table} SET id = 1001 WHERE id = 5;
        UPDATE ${table} SET id = 7 WHERE id = 1;
        UPDATE ${table} SET id = 8 WHERE id = 6;
        DELETE FROM ${table} WHERE id IN (2, 7)`);
        await until("the changes", () => events.length === 5);
        assertEquals(events.map(told), [
          ["update", "4", [["id", "4"], ["b", "new"]]],
          ["delete", "5", [["id", "5"]]],
          ["insert", "7", [["id", "7"], ["b", "b1"]]],
          ["update", "8", [["id", "8"], ["b", "b6"]]],
          ["delete", "7", [["id", "7"]]],
        ]);
        // What is read again is what the stream has told by now.
        events.length = 0;
        await stream.backfill(table);
        assertEquals(events.map(({ key }) => key), ["4", "8"]);
        assertNotMatch(JSON.stringify(events), /canary/);
        await running.stop();
        await stream.teardown();
      },
    );

    testIt(
      "setup() again, with the filter written in another way, changes nothing and needs no right to",
      async () => {
        const table = await newTable("again", "id int, a int, b text, PRIMARY KEY (id, b)");
        const slotName = uniqueName();
        const columns = ["id", "b", "a"];
        const where = "b IN ('x', 'y') AND id > 1 + 1";
        const first = await streamOf(table, { columns, where }, { slotName }).setup();
        assertEquals([first.publication, first.changed, first.warnings], ["created", [], []]);
        const before = await catalogued(slotName);
        const dsn = await replicator([`SELECT ON ${table}`]);
        for (
          const same of [
            where,
            `((${where}))`,
            `b = ANY (ARRAY['x', 'y']) AND ${table}.id > 2 -- the same`,
            `(b = ANY (ARRAY['x'::text, 'y'::text]))\n  AND (id > 2)`,
          ]
        ) {
          const stream = streamOf(table, { columns: ["a", "b", "id"], where: same }, {
            slotName,
            dsn,
          });
          const again = await stream.setup();
          assertEquals(
            [again.publication, again.added, again.removed, again.changed, again.warnings],
            ["found", [], [], [], []],
            same,
          );
        }
        assertEquals(await catalogued(slotName), before);

        // Another filter is told from it, though no row of the table would tell them apart.
        const other = { columns, where: "b IN ('x', 'z') AND id > 2" };
        const error = await refusal(streamOf(table, other, { slotName, dsn }).setup());
        assertEquals(error.kind, "publication-privilege");
        assertStringIncludes(error.hint!, "'z'");
        assertMatch(error.hint!, /once: BEGIN; ALTER PUBLICATION .* COMMIT;$/s);
        assertEquals(await catalogued(slotName), before);
        await streamOf(table, null, { slotName }).teardown();
      },
    );

    testIt(
      "who may not read the table is told what to grant, where the filter is written in another way",
      async () => {
        const table = await newTable("unread");
        const slotName = uniqueName();
        await streamOf(table, { where: "id > 2" }, { slotName }).setup();
        const dsn = await replicator();
        const same = await streamOf(table, { where: "( id > 2 )" }, { slotName, dsn }).setup();
        assertEquals([same.publication, same.warnings], ["found", []]);
        const unsure = await streamOf(table, { where: "id > 1+1" }, { slotName, dsn }).setup();
        assertEquals([unsure.publication, unsure.changed], ["found", []]);
        assertEquals(unsure.warnings.length, 1);
        assertMatch(unsure.warnings[0]!, /GRANT SELECT ON/);
        await streamOf(table, null, { slotName }).teardown();
      },
    );

    testIt(
      "a changed list or filter is brought to the slot's own publication, and told",
      async () => {
        const [table, other] = [await newTable("changed"), await newTable("beside")];
        const slotName = uniqueName();
        const set = (part: Part | null) => streamOf(table, part, { slotName }).watch(other).setup();
        await set(null);
        const kept = (await catalogued(slotName))[0];
        const steps: [Part | null, string | null, string | null][] = [
          [{ columns: ["id", "a"] }, "id,a", null],
          [{ columns: ["id", "b"] }, "id,b", null],
          [{ columns: ["id", "b"], where: "id > 0" }, "id,b", "(id > 0)"],
          [{ where: "id > 0 -- and no more" }, null, "(id > 0)"],
          [{ where: "id > 1" }, null, "(id > 1)"],
          [null, null, null],
        ];
        let previous: unknown = [null, null];
        for (const [part, columns, filter] of steps) {
          const report = await set(part);
          const now = [columns, filter];
          const change = JSON.stringify(now) !== JSON.stringify(previous);
          assertEquals(report.changed, change ? [`public.${table}`] : []);
          assertEquals([report.publication, report.added, report.removed], ["altered", [], []]);
          assertEquals(report.warnings.length, 1);
          assertStringIncludes(report.warnings[0]!, "backfill(");
          assertEquals(await published(slotName), [[other, null, null], [table, columns, filter]]);
          assertEquals((await set(part)).publication, "found");
          previous = now;
        }
        // The other table's entry was left alone all the time.
        assertEquals((await catalogued(slotName))[0], kept);
        await streamOf(table, null, { slotName }).teardown();
      },
    );

    testIt("while the slot is in use nothing is changed, and what to run is told", async () => {
      const table = await newTable("used");
      const slotName = uniqueName();
      const stream = streamOf(table, { columns: ["id", "a"] }, { slotName });
      await stream.setup();
      const running = await started(stream);
      const wanted = { columns: ["id", "b"], where: "id > 0" };
      const report = await streamOf(table, wanted, { slotName }).setup();
      assertEquals([report.publication, report.changed], ["found", []]);
      assertEquals(await published(slotName), [[table, "id,a", null]]);
      assertEquals(report.warnings.length, 1);
      assertMatch(report.warnings[0]!, /in use by PID \d+/);
      await running.stop();
      await db.query(statementsIn(report.warnings[0]!));
      const after = await streamOf(table, wanted, { slotName }).setup();
      assertEquals([after.publication, after.warnings], ["found", []]);
      await stream.teardown();
    });

    testIt(
      "somebody else's publication keeps its lists and filters; a table that is added gets what is asked",
      async () => {
        const [table, other] = [await newTable("shared"), await newTable("added")];
        const publicationName = uniqueName("theirs");
        const slotName = uniqueName();
        await db.query(`CREATE PUBLICATION ${publicationName} FOR TABLE ${table} (id, a)
        WHERE (id > 7)`);
        const logger = new LogLines();
        const options = { slotName, publicationName, logger };
        const stream = streamOf(table, null, options)
          .watch(other, { columns: ["id"], where: "id < 7" });
        const report = await stream.setup();
        assertEquals([report.added, report.changed], [[`public.${other}`], []]);
        assertEquals(await published(publicationName), [
          [other, "id", "(id < 7)"],
          [table, "id,a", "(id > 7)"],
        ]);
        assertEquals(report.warnings.length, 1);
        assertStringIncludes(report.warnings[0]!, table);
        assertStringIncludes(report.warnings[0]!, "COMMENT");

        // A stream that starts says so as well, once: less comes than is watched.
        logger.lines.length = 0;
        const running = await started(stream);
        const pid = async () => {
          const [row] = await db.query<{ pid: number | null }>(
            "SELECT active_pid AS pid FROM pg_replication_slots WHERE slot_name = $1",
            [slotName],
          );
          return row!.pid;
        };
        await db.query(`SELECT pg_terminate_backend(${await pid()})`);
        await until("another connection", () => stream.status().reconnects === 1);
        await running.stop();
        const lines = logger.lines.filter((line) => line.includes(publicationName));
        assertEquals(lines.length, 1, lines.join("\n"));
        assertMatch(lines[0]!, /^warn .*id, a/);

        await db.query(statementsIn(report.warnings[0]!));
        assertEquals((await stream.setup()).warnings, []);
        await stream.teardown();
        await db.query(`DROP PUBLICATION ${publicationName}`);
      },
    );

    testIt(
      "a publication of all tables, or of the schema, is told to carry more than is watched",
      async () => {
        const table = await newTable("whole");
        for (const what of ["ALL TABLES", "TABLES IN SCHEMA public"]) {
          const [publicationName, slotName] = [uniqueName("all"), uniqueName()];
          // Else the whole database is published without a key.
          await db.query(
            `CREATE PUBLICATION ${publicationName} FOR ${what} WITH (publish = 'insert')`,
          );
          const stream = streamOf(table, { columns: ["id"] }, { slotName, publicationName });
          const { publication, warnings } = await stream.setup();
          assertEquals(publication, "found");
          const told = warnings.filter((warning) => warning.includes("all columns"));
          assertEquals(told.length, 1, warnings.join("\n"));
          await stream.teardown();
          await db.query(`DROP PUBLICATION ${publicationName}`);
        }
      },
    );

    /** Parts by what they do to a table `(id, code, note)` with an identity. */
    const PARTS: Part[] = [
      { columns: ["id", "code"] },
      { columns: ["id", "note"] },
      { columns: ["code", "note"] },
      { where: "id > 0" },
      { where: "code > 0" },
      { where: "id > 0 AND note IS NULL" },
      { columns: ["id", "code", "note"], where: "true" },
    ];
    for (const identity of ["DEFAULT", "FULL", "USING INDEX $table_code"]) {
      testIt(
        `under REPLICA IDENTITY ${identity} no list or filter stops the table's writers (17)`,
        async () => {
          for (const part of PARTS) {
            const create = async () => {
              const table = await newTable(
                "writers",
                "id int PRIMARY KEY, code int NOT NULL, note text",
              );
              await db.query(`CREATE UNIQUE INDEX ${table}_code ON ${table} (code);
              ALTER TABLE ${table} REPLICA IDENTITY ${identity.replace("$table", table)};
              INSERT INTO ${table} VALUES (1, 1)`);
              return table;
            };
            const what = JSON.stringify(part);
            // What the server makes of it where nobody looks first.
            const bare = await create();
            await db.query(`CREATE PUBLICATION ${bare} FOR TABLE ${bare}
            ${part.columns === undefined ? "" : `(${part.columns})`}
            ${part.where === undefined ? "" : `WHERE (${part.where})`}`);
            const codes = await stopped(bare);
            await db.query(`DROP PUBLICATION ${bare}`);

            // Made so, and changed to be so.
            for (const first of [undefined, null]) {
              const table = await create();
              const slotName = uniqueName();
              if (first === null) await streamOf(table, null, { slotName }).setup();
              const stream = streamOf(table, part, { slotName });
              const error = await stream.setup().then(() => null, (error) => error);
              assertEquals(error !== null, codes.length > 0, `${what}: ${codes}; ${error}`);
              if (error !== null) {
                assertInstanceOf(error, PgStreamError);
                assertEquals(error.kind, "identity-not-covered", `${error}`);
                assertStringIncludes(error.message, table);
                assert(error.hint !== undefined);
                assertEquals(await exists(slotName), first === null);
              }
              assertEquals(await stopped(table), [], what);
              await stream.teardown();
            }
          }
        },
      );
    }

    testIt("a root's list and filter are judged by its partitions' identities (17)", async () => {
      const root = await newTable(
        "root",
        "id int, region text, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region",
      );
      await db.query(`CREATE TABLE ${root}_a PARTITION OF ${root} FOR VALUES IN ('a');
        CREATE TABLE ${root}_b PARTITION OF ${root} FOR VALUES IN ('b');
        INSERT INTO ${root} VALUES (1, 'a'), (2, 'b')`);
      const slotName = uniqueName();
      for (const part of [{ columns: ["id", "note"] }, { where: "note IS NULL" }]) {
        const error = await refusal(streamOf(root, part, { slotName }).setup());
        assertEquals(error.kind, "identity-not-covered");
        assertMatch(error.message, /id, region/);
        assertEquals(await exists(slotName), false);
      }
      await db.query(`ALTER TABLE ${root}_a REPLICA IDENTITY FULL;
        ALTER TABLE ${root}_b REPLICA IDENTITY FULL`);
      const events: ChangeEvent[] = [];
      const stream = streamOf(root, { where: "note IS NULL" }, { slotName })
        .onChange((event) => void events.push(event));
      await stream.setup();
      const running = await started(stream);
      await db.query(`UPDATE ${root} SET note = 'told' WHERE id = 1`);
      await until("the row that fits no more", () => events.length === 1);
      assertEquals([events[0]!.operation, events[0]!.table, events[0]!.key], [
        "delete",
        root,
        '["1","a"]',
      ]);
      await running.stop();

      // No partition has such rows: still one filter is not another.
      await streamOf(root, { where: "region = 'x'" }, { slotName }).setup();
      const report = await streamOf(root, { where: "region = 'y'" }, { slotName }).setup();
      assertEquals(report.changed, [`public.${root}`]);
      assertEquals(await published(slotName), [[root, null, "(region = 'y'::text)"]]);
      await stream.teardown();
    });

    testIt("a table that publishes no updates and deletes needs no key in its filter", async () => {
      const table = await newTable("inserts");
      const [slotName, publicationName] = [uniqueName(), uniqueName("inserts")];
      await db.query(`CREATE PUBLICATION ${publicationName} WITH (publish = 'insert')`);
      const stream = streamOf(table, { where: "a > 1" }, { slotName, publicationName });
      assertEquals((await stream.setup()).added, [`public.${table}`]);
      assertEquals(await published(publicationName), [[table, null, "(a > 1)"]]);
      await stream.teardown();
      await db.query(`DROP PUBLICATION ${publicationName}`);
    });

    testIt("a stream does not start where rows could not be told", async () => {
      const table = await newTable("keyless");
      const [slotName, publicationName] = [uniqueName(), uniqueName("keyless")];
      await db.query(`CREATE PUBLICATION ${publicationName} FOR TABLE ${table} (a, b)
        WITH (publish = 'insert')`);
      const stream = streamOf(table, null, { slotName, publicationName });
      await stream.setup();
      const error = await refusal(stream.start());
      assertEquals(error.kind, "key-not-published");
      assertMatch(error.message, /\bid\b/);
      await stream.teardown();
      await db.query(`DROP PUBLICATION ${publicationName}`);
    });

    testIt(
      "names with quotes and dots, and a filter that ends in a comment, are taken as they are (25)",
      async () => {
        const table = `We"ird, "t.able`;
        const sqlName = `"We""ird, ""t.able"`;
        const watched = `public.${sqlName}`;
        await db.query(`CREATE TABLE ${sqlName} ("i""d.)" int PRIMARY KEY, "a, b" text, "--" int)`);
        const [slotName, publicationName] = [uniqueName(), `pub"l, ${uniqueName()}.`];
        const part = {
          columns: ['i"d.)', "--"],
          where: `"i""d.)" <> 0 /* ) */ AND "i""d.)" <> length('''); DROP TABLE x; --') -- ) '`,
        };
        const events: ChangeEvent[] = [];
        const stream = streamOf(watched, part, { slotName, publicationName })
          .onChange((event) => void events.push(event));
        assertEquals((await stream.setup()).publication, "created");
        assertEquals((await stream.setup()).publication, "found");
        const changed = { ...part, where: '"i""d.)" <> 1 --' };
        assertEquals(
          (await streamOf(watched, changed, { slotName, publicationName }).setup()).changed,
          [
            `public.${sqlName}`,
          ],
        );
        await stream.setup();
        const running = await started(stream);
        await db.query(`INSERT INTO ${sqlName} VALUES (0, 'x', 1), (1, 'x', 2)`);
        await until("its row", () => events.length === 1);
        assertEquals([events[0]!.table, ...told(events[0]!)], [
          table,
          "insert",
          "1",
          [['i"d.)', "1"], ["--", "2"]],
        ]);
        await running.stop();
        await stream.teardown();
      },
    );

    testIt("what cannot be published is refused, named, and nothing is changed", async () => {
      const table = await newTable("refused");
      const slotName = uniqueName();
      const cases: [Part, string, RegExp][] = [
        [{ columns: ["id", "A"] }, "column-missing", /no column A\. It has id, a, b/],
        [{ where: "nope > 1" }, "row-filter", /nope/],
        [{ where: "id" }, "row-filter", /boolean/],
        [{ where: "id::no_type > 1" }, "row-filter", /no_type/],
        [{ where: "id > " }, "row-filter", /syntax error/],
        [{ where: "id > 1) OR (true" }, "row-filter", /not one condition: a parenthesis/],
        [{ where: "id > (SELECT 1)" }, "row-filter", /immutable/],
        [{ where: "now() > '2020-01-01'" }, "row-filter", /mutable/],
        [{ where: "ctid <> '(0,1)'" }, "row-filter", /[Ss]ystem columns/],
      ];
      for (const existing of [false, true]) {
        if (existing) await streamOf(table, { where: "id > 0" }, { slotName }).setup();
        const before = await catalogued(slotName);
        for (const [part, kind, message] of cases) {
          const error = await refusal(streamOf(table, part, { slotName }).setup());
          assertEquals(error.kind, kind, error.message);
          assertMatch(error.message, message);
          assertEquals(await catalogued(slotName), before);
          assertEquals(await exists(slotName), existing);
        }
      }
      await streamOf(table, null, { slotName }).teardown();
    });

    testIt(
      "what stands behind a row filter's parenthesis is neither run nor published",
      async () => {
        const [table, other] = [await newTable("filtered"), await newTable("other")];
        const slotName = uniqueName();
        const make = (where: string) => streamOf(table, { where }, { slotName });
        for (const existing of [false, true]) {
          if (existing) await make("id > 0").setup();
          const before = await catalogued(slotName);
          for (
            const where of [
              `id > 1); DROP TABLE public.${other}; SELECT (1`,
              `id > 1) IS TRUE; DROP TABLE public.${other}; SELECT (1`,
              `id > 1), TABLE public.${other} WHERE (true`,
              `id > length(E'x'\n' \\' ' )); DROP TABLE public.${other}; --'`,
            ]
          ) {
            const error = await refusal(make(where).setup());
            assertEquals([error.kind, await catalogued(slotName)], ["row-filter", before], where);
            if (!existing) continue;
            assertEquals((await refusal(make(where).catchUp())).kind, "row-filter", where);
          }
        }
        assertEquals((await db.query(`SELECT FROM ${other}`)).length, 0);
        await make("id > 0").teardown();
      },
    );

    testIt(
      "a listed column is kept by the server; dropped by CASCADE, it takes the table along",
      async () => {
        const table = await newTable("kept");
        const slotName = uniqueName();
        const stream = streamOf(table, { columns: ["id", "a"] }, { slotName });
        await stream.setup();
        for (const change of ["ALTER a TYPE bigint", "DROP a"]) {
          const code = await db.query(`ALTER TABLE ${table} ${change}`).catch((error) =>
            error.code
          );
          assertMatch(code, /0A000|2BP01/, change);
        }
        await db.query(`ALTER TABLE ${table} DROP a CASCADE`);
        assertEquals(await published(slotName), []);
        const error = await refusal(stream.catchUp());
        assertEquals(error.kind, "table-not-published");
        assertMatch(error.hint!, /setup\(\).*changes since then were missed/);
        const others = streamOf(table, { columns: ["id", "b"] }, { slotName });
        assertEquals((await others.setup()).added, [`public.${table}`]);
        await others.teardown();
      },
    );

    testIt("SlotManager takes parts of tables beside names", async () => {
      const [one, two] = [await newTable("manager"), await newTable("manager")];
      const slotName = uniqueName();
      const part: TablePart = { table: `public.${two}`, columns: ["id"], where: "id > 0" };
      const slots = new SlotManager({ dsn: db.dsn, slotName, tables: [one, two, part] });
      assertEquals((await slots.setup()).added, [`public.${one}`, `public.${two}`]);
      assertEquals(
        new Map(await published(slotName) as [string, unknown][]).size,
        2,
      );
      assert(
        (await published(slotName)).some((entry) =>
          JSON.stringify(entry) === JSON.stringify([two, "id", "(id > 0)"])
        ),
      );
      await slots.teardown();
    });

    testIt(
      "a changed filter is published by one transaction's changes as by the next one's",
      async () => {
        const table = await newTable("atomic");
        const slotName = uniqueName();
        const events: ChangeEvent[] = [];
        const stream = streamOf(table, { where: "id < 10" }, { slotName })
          .onChange((event) => void events.push(event));
        await stream.setup();
        await db.query(`INSERT INTO ${table} VALUES (1), (11)`);
        stream.watch(table, { where: "id > 10" });
        await stream.setup();
        await db.query(`INSERT INTO ${table} VALUES (2), (12)`);
        const running = await started(stream);
        await until("both", () => events.length === 2);
        await running.stop();
        assertEquals(events.map(({ key }) => key), ["1", "12"]);
        await stream.teardown();
      },
    );
  });
}

for (const major of testMajors(18)) {
  describe(`generated columns on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    const testIt = (name: string, body: () => Promise<void>) =>
      test(name, async () => {
        if (db.major >= 18) await body();
      });
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    async function newTable(identity = ""): Promise<string> {
      const table = uniqueName("generated");
      await db.query(`CREATE TABLE ${table} (id int PRIMARY KEY, a int,
        twice int GENERATED ALWAYS AS (a * 2) STORED);
        ${identity === "" ? "" : `ALTER TABLE ${table} REPLICA IDENTITY ${identity};`}
        INSERT INTO ${table} VALUES (1, 1)`);
      return table;
    }

    async function setting(publication: string): Promise<string> {
      const [row] = await db.query<{ is: string }>(
        `SELECT pubgencols::text AS is FROM pg_publication WHERE pubname = $1`,
        [publication],
      );
      return row!.is;
    }

    /** The rows that are there and the next one, as a stream has them. */
    async function rows(stream: PgStream, table: string): Promise<unknown[]> {
      const events: ChangeEvent[] = [];
      stream.onChange((event) => void events.push(event));
      const running = await started(stream);
      await db.query(`INSERT INTO ${table} VALUES (2, 2)`);
      await until("the next row", () => events.some(({ key }) => key === "2"));
      await stream.backfill(table, { keys: ["1"] });
      await running.stop();
      await db.query(`DELETE FROM ${table} WHERE id = 2`);
      return events.map((event) => Object.entries(event.row));
    }

    function streamOf(table: string, options: PgStreamOptions, part: Part = {}): PgStream {
      return new PgStream({ dsn: db.dsn, logger: false, ...options }).watch(table, part);
    }

    testIt("are published when that is asked for, by the stream and by a backfill", async () => {
      const table = await newTable();
      const without = uniqueName();
      const bare = streamOf(table, { slotName: without });
      await bare.setup();
      assertEquals(await setting(without), "n");
      assertEquals(await rows(bare, table), [[["id", "2"], ["a", "2"]], [["id", "1"], ["a", "1"]]]);
      await bare.teardown();

      const slotName = uniqueName();
      const stream = streamOf(table, { slotName, publishGeneratedColumns: true });
      await stream.setup();
      assertEquals(await setting(slotName), "s");
      const all = [
        [["id", "2"], ["a", "2"], ["twice", "4"]],
        [["id", "1"], ["a", "1"], ["twice", "2"]],
      ];
      assertEquals(await rows(stream, table), all);
      assertEquals((await stream.setup()).publication, "found");
      // What is not said stays.
      assertEquals((await streamOf(table, { slotName }).setup()).publication, "found");
      const none = streamOf(table, { slotName, publishGeneratedColumns: false });
      assertEquals((await none.setup()).publication, "altered");
      assertEquals(await setting(slotName), "n");
      assertEquals((await stream.setup()).publication, "altered");
      assertEquals(await setting(slotName), "s");
      await stream.teardown();
    });

    testIt("are published when a list names them, whatever is said of the others", async () => {
      const table = await newTable();
      const slotName = uniqueName();
      const stream = streamOf(table, { slotName }, { columns: ["id", "twice"] });
      await stream.setup();
      assertEquals(await rows(stream, table), [
        [["id", "2"], ["twice", "4"]],
        [["id", "1"], ["twice", "2"]],
      ]);
      await stream.teardown();
    });

    testIt(
      "stop no writer under REPLICA IDENTITY FULL, and virtual ones are refused (17)",
      async () => {
        const table = await newTable("FULL");
        const slotName = uniqueName();
        const refused = await refusal(streamOf(table, { slotName }).setup());
        assertEquals(refused.kind, "replica-identity");
        assertMatch(refused.hint!, /publishGeneratedColumns: true/);
        const stream = streamOf(table, { slotName, publishGeneratedColumns: true });
        await stream.setup();
        await db.query(`UPDATE ${table} SET a = 5; DELETE FROM ${table}`);
        // Nor may they be taken away again.
        const none = streamOf(table, { slotName, publishGeneratedColumns: false });
        assertEquals((await refusal(none.setup())).kind, "replica-identity");
        assertEquals(await setting(slotName), "s");
        await stream.teardown();

        await db.query(`ALTER TABLE ${table} ADD half int GENERATED ALWAYS AS (a / 2) VIRTUAL`);
        const virtual = await refusal(stream.setup());
        assertEquals(virtual.kind, "replica-identity");
        assertMatch(virtual.message, /half/);
        await db.query(`ALTER TABLE ${table} REPLICA IDENTITY DEFAULT`);
        const listed = await refusal(
          streamOf(table, { slotName }, { columns: ["id", "half"] }).setup(),
        );
        assertEquals(listed.kind, "column-list");
      },
    );

    testIt("of somebody else's publication stay as they are, and what to run is told", async () => {
      const table = await newTable();
      const [slotName, publicationName] = [uniqueName(), uniqueName("theirs")];
      await db.query(`CREATE PUBLICATION ${publicationName} FOR TABLE ${table}`);
      const stream = streamOf(table, { slotName, publicationName, publishGeneratedColumns: true });
      const report = await stream.setup();
      assertEquals([report.publication, await setting(publicationName)], ["found", "n"]);
      assertEquals(report.warnings.length, 1);
      await db.query(statementsIn(report.warnings[0]!));
      assertEquals((await stream.setup()).warnings, []);
      await stream.teardown();
      await db.query(`DROP PUBLICATION ${publicationName}`);
    });
  });
}

for (const major of testMajors(18, 14)) {
  describe(`partitions on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    test("that are truncated, detached or dropped are never taken for the root (42)", async () => {
      const root = uniqueName("root");
      await db.query(`CREATE TABLE ${root} (id int, region text, PRIMARY KEY (id, region))
        PARTITION BY LIST (region)`);
      for (const region of ["a", "b", "c"]) {
        await db.query(`CREATE TABLE ${root}_${region} PARTITION OF ${root}
          FOR VALUES IN ('${region}')`);
      }
      const events: ChangeEvent[] = [];
      const slotName = uniqueName();
      const stream = new PgStream({ dsn: db.dsn, slotName, logger: false }).watch(root)
        .onChange((event) => void events.push(event));
      await stream.setup();
      const running = await started(stream);
      await db.query(`INSERT INTO ${root} VALUES (1, 'a'), (2, 'b'), (3, 'c')`);
      await db.query(`TRUNCATE ${root}_a`);
      await db.query(`ALTER TABLE ${root} DETACH PARTITION ${root}_b`);
      await db.query(`DROP TABLE ${root}_c`);
      await db.query(`DELETE FROM ${root}_b`);
      await db.query(`INSERT INTO ${root} VALUES (4, 'a')`);
      await db.query(`TRUNCATE ${root}`);
      await until(
        "the root's own truncate",
        () => events.some(({ operation }) => operation === "truncate"),
      );
      await running.stop();
      assertEquals(events.map(({ operation, table, key }) => [operation, table, key]), [
        ["insert", root, '["1","a"]'],
        ["insert", root, '["2","b"]'],
        ["insert", root, '["3","c"]'],
        // Up to 14 the server does not notice, within a connection, that a partition was detached.
        ...db.major < 15 ? [["delete", root, '["2","b"]']] : [],
        ["insert", root, '["4","a"]'],
        ["truncate", root, null],
      ]);
      await stream.teardown();
    });
  });
}

for (const major of testMajors(14, 12, 10)) {
  describe(`what PostgreSQL ${major} cannot publish`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    test("is refused, with the version that can, and nothing is made", async () => {
      await db.query("CREATE TABLE documents (id int PRIMARY KEY, a int)");
      const slotName = uniqueName();
      const make = (options: PgStreamOptions = {}) =>
        new PgStream({ dsn: db.dsn, slotName, logger: false, ...options });
      const cases: [PgStream, RegExp][] = [
        [make().watch("documents", { columns: ["id"] }), /15/],
        [make().watch("documents", { where: "id > 1" }), /15/],
        [make({ publishGeneratedColumns: true }).watch("documents"), /18/],
      ];
      if (db.major < 15) {
        for (const [stream, version] of cases) {
          const error = await refusal(stream.setup());
          assertEquals(error.kind, "not-supported");
          assertMatch(error.message, new RegExp(`PostgreSQL ${db.major}`));
          assertMatch(error.hint!, version);
        }
      }
      assertEquals(await db.query("SELECT FROM pg_publication"), []);
      const plain = make({ publishGeneratedColumns: false }).watch("documents", {});
      assertEquals((await plain.setup()).publication, "created");
      await plain.teardown();
    });

    test("the root of partitions is refused before 13: watch the partitions", async () => {
      await db.query(`CREATE TABLE root (id int NOT NULL) PARTITION BY LIST (id);
        CREATE TABLE leaf PARTITION OF root FOR VALUES IN (1);
        ALTER TABLE leaf ADD PRIMARY KEY (id)`);
      const stream = new PgStream({ dsn: db.dsn, slotName: uniqueName(), logger: false });
      if (db.major < 13) {
        const error = await refusal(stream.watch("root").setup());
        assertEquals(error.kind, "table-not-publishable");
        assertMatch(error.hint!, /from 13 on\. Watch its partitions/);
      }
      const leaf = new PgStream({ dsn: db.dsn, slotName: uniqueName(), logger: false })
        .watch("leaf");
      assertEquals((await leaf.setup()).added, ["public.leaf"]);
      await leaf.teardown();
    });

    test("would stop a table's writers: the server says so before anything is committed (17)", async () => {
      await db.query("CREATE TABLE keyless (id int); CREATE TABLE keyed (id int PRIMARY KEY)");
      const connection = await new Connector({ dsn: db.dsn, logger: false }).connect();
      try {
        for (
          const operations of [{ update: true, delete: false }, { update: true, delete: true }]
        ) {
          await connection.query(
            "BEGIN; CREATE PUBLICATION judged FOR TABLE public.keyless, public.keyed",
          );
          const [keyless, keyed] = await readTables(connection, [
            { schema: "public", table: "keyless" },
            { schema: "public", table: "keyed" },
          ]);
          await checkWriters(connection, [keyed!], operations);
          const error = await refusal(checkWriters(connection, [keyed!, keyless!], operations));
          assertEquals(error.kind, "identity-not-covered");
          assertMatch(error.message, /public\.keyless.*replica identity/);
          await connection.query("ROLLBACK");
        }
      } finally {
        await connection.close();
      }
    });
  });
}

describe("a standby", { skip: needsOwnServer }, () => {
  test("says what to run on the primary where something else is published than is watched", async () => {
    let primary: PostgresServer | undefined;
    let standby: PostgresServer | undefined;
    try {
      primary = await startPostgres({ major: 18 });
      standby = await startStandby(primary, {
        slotName: "standby",
        settings: { hot_standby_feedback: "on" },
      });
      await primary.query("CREATE TABLE documents (id int PRIMARY KEY, a int, b text)");
      await replayed(primary, standby);
      const stream = new PgStream({
        dsn: standby.dsn,
        logger: false,
        publishGeneratedColumns: true,
      }).watch("documents", { columns: ["id", "a"], where: "id > 1" });
      const missing = await refusal(stream.setup());
      assertEquals(missing.kind, "publication-missing");
      await primary.query(statementsIn(missing.hint!));
      await replayed(primary, standby);
      const first = await loggingSnapshots(primary, () => stream.setup());
      assertEquals([first.publication, first.changed, first.warnings], ["found", [], []]);
      stream.watch("documents", { columns: ["id", "b"], where: "id > 1+1" });
      const { warnings } = await stream.setup();
      assertEquals(warnings.length, 1);
      assertMatch(warnings[0]!, /a standby cannot change it\. Run on the primary: /);
      await primary.query(statementsIn(warnings[0]!));
      await replayed(primary, standby);
      assertEquals((await stream.setup()).warnings, []);
      const keys: string[] = [];
      const running = await started(stream.onChange((event) => void keys.push(event.key!)));
      await primary.query("INSERT INTO documents VALUES (1, 1, 'b'), (3, 1, 'b')");
      await until("the row", () => keys.length === 1);
      await running.stop();
      assertEquals(keys, ["3"]);
      await stream.teardown();
    } finally {
      await standby?.stop();
      await primary?.stop();
    }
  });
});
