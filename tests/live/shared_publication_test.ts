/** One publication for several slots: nobody's tables are taken away, and everybody is told. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { PgStream, type SetupReport } from "../../mod.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { started, uniqueName, until } from "../support/streams.ts";

for (const major of testMajors(18, 14)) {
  describe(`a shared publication on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
      await db.query(`CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY);
        CREATE TABLE three (id int PRIMARY KEY)`);
    });
    after(() => db?.stop());

    /** Two slots of one publication. */
    function pair() {
      const publicationName = uniqueName("shared");
      const slotA = uniqueName("a");
      const slotB = uniqueName("b");
      const of = (slotName: string, tables: string[], dsn = db.dsn) =>
        new PgStream({ dsn, slotName, publicationName, logger: false }).watch(...tables)
          .onChange(() => {});
      return { publicationName, slotA, slotB, of };
    }

    async function publishedBy(publication: string): Promise<string[]> {
      const rows = await db.query<{ name: string }>(
        "SELECT tablename AS name FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1",
        [publication],
      );
      return rows.map(({ name }) => name);
    }

    async function commentOn(publication: string): Promise<string | null> {
      const [row] = await db.query<{ comment: string | null }>(
        `SELECT obj_description(oid, 'pg_publication') AS comment FROM pg_publication
        WHERE pubname = $1`,
        [publication],
      );
      return row!.comment;
    }

    /** What warns the second slot: whose the publication was. */
    function checkTold(report: SetupReport, publicationName: string, owner: string): void {
      const told = report.warnings.filter((warning) =>
        warning.includes(publicationName) && warning.includes(owner)
      );
      assertEquals(told.length, 1, JSON.stringify(report.warnings));
    }

    test("another slot's table stays when the first slot is set up again", async () => {
      const { publicationName, slotA, slotB, of } = pair();
      const keys: string[] = [];
      assertEquals((await of(slotA, ["one"]).setup()).warnings, []);
      const owned = await commentOn(publicationName);
      assertStringIncludes(owned!, slotA);

      const second = of(slotB, ["two"]).onChange((event) => void keys.push(event.key!));
      const report = await second.setup();
      assertEquals([report.slot, report.publication], ["created", "altered"]);
      assertEquals([report.added, report.removed], [["public.two"], []]);
      checkTold(report, publicationName, slotA);
      const shared = await commentOn(publicationName);
      assert(shared !== owned && !shared!.includes("owned by"), `COMMENT: ${shared}`);
      assertMatch(shared!, /shared/i);

      const running = await started(second);
      const again = await of(slotA, ["one"]).setup();
      assertEquals([again.publication, again.added, again.removed], ["found", [], []]);
      assertEquals(await publishedBy(publicationName), ["one", "two"]);
      await db.query("INSERT INTO two VALUES (1)");
      await until("the second slot's row", () => keys.length > 0);
      await running.stop();
      assertEquals(keys, ["1"]);

      // Who shrinks does not take away either: it might be another's by now.
      assertEquals((await of(slotA, ["three"]).setup()).removed, []);
      assertEquals((await second.setup()).removed, []);
      assertEquals(await publishedBy(publicationName), ["one", "three", "two"]);
      assertEquals(await commentOn(publicationName), shared);

      await of(slotA, ["one"]).teardown();
      assertEquals(await publishedBy(publicationName), ["one", "three", "two"]);
      await second.teardown();
      assertEquals(await publishedBy(publicationName), ["one", "three", "two"]);
      const slots = await db.query("SELECT FROM pg_replication_slots WHERE slot_name IN ($1, $2)", [
        slotA,
        slotB,
      ]);
      assertEquals(slots.length, 0);
      await db.query(`DROP PUBLICATION ${publicationName}; DELETE FROM two`);
    });

    test("a table that the publication has already is shared from then on, too", async () => {
      const { publicationName, slotA, slotB, of } = pair();
      await of(slotA, ["one", "two"]).setup();
      const report = await of(slotB, ["two"]).setup();
      assertEquals([report.added, report.removed], [[], []]);
      checkTold(report, publicationName, slotA);
      assertEquals((await of(slotA, ["one"]).setup()).removed, []);
      assertEquals(await publishedBy(publicationName), ["one", "two"]);
      await of(slotA, ["one"]).teardown();
      assertEquals(await publishedBy(publicationName), ["one", "two"]);
      await of(slotB, ["two"]).teardown();
      await db.query(`DROP PUBLICATION ${publicationName}`);
    });

    test("a role that may not alter it is warned, and no more", async () => {
      const { publicationName, slotA, slotB, of } = pair();
      const role = uniqueName("role");
      await db.query(`CREATE ROLE ${role} LOGIN REPLICATION PASSWORD '${role}'`);
      const dsn = new URL(db.dsn);
      [dsn.username, dsn.password] = [role, role];
      await of(slotA, ["one", "two"]).setup();
      const owned = await commentOn(publicationName);

      const report = await of(slotB, ["two"], dsn.href).setup();
      assertEquals([report.slot, report.publication], ["created", "found"]);
      checkTold(report, publicationName, slotA);
      assertEquals(await commentOn(publicationName), owned);
      assertEquals(await publishedBy(publicationName), ["one", "two"]);
      await (await started(of(slotB, ["two"], dsn.href))).stop();

      await of(slotB, ["two"]).teardown();
      assertEquals(await publishedBy(publicationName), ["one", "two"]);
      await of(slotA, ["one", "two"]).teardown();
      assertEquals(await publishedBy(publicationName), []);
      await db.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    });

    test("a publication that is younger than the slot is told: earlier WAL cannot be read", async () => {
      const { publicationName, slotA, of } = pair();
      const stream = of(slotA, ["one"]);
      assertEquals((await stream.setup()).warnings, []);
      await db.query(`DROP PUBLICATION ${publicationName}`);
      const report = await stream.setup();
      assertEquals([report.slot, report.publication], ["found", "created"]);
      assertEquals(report.warnings.length, 1);
      assertStringIncludes(report.warnings[0]!, slotA);
      assertStringIncludes(report.warnings[0]!, publicationName);
      assertMatch(report.warnings[0]!, /before/);
      assertEquals((await stream.setup()).warnings, []);
      await stream.teardown();
      assertEquals((await stream.setup()).warnings, []);
      await stream.teardown();
    });
  });
}
