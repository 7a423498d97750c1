/** What is done to rows of synced tables, on servers of several majors, by what they send of old rows. */

import { assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import { testMajors, testPostgres } from "../support/servers/test_postgres.ts";
import { started, until } from "../support/streams.ts";
import { memoryStore } from "../support/synced_stores.ts";
import { SyncedTable } from "../support/synced_table.ts";

/** So long that it is stored out of line, and not sent where it does not change. */
const large = (name: string) => `'${name}|' || repeat('x', 3000) || '|end of ${name}'`;

/** Each is one transaction; then the store has to agree, with so many more texts embedded. */
const STEPS: [what: string, sql: string, embedded: number][] = [
  [
    "keys that change places",
    `UPDATE $ SET id = -1 WHERE id = 1; UPDATE $ SET id = 1 WHERE id = 2;
    UPDATE $ SET id = 2 WHERE id = -1`,
    0,
  ],
  [
    "keys that go round",
    `UPDATE $ SET id = -id WHERE id IN (3, 4, 5);
    UPDATE $ SET id = CASE id WHEN -3 THEN 4 WHEN -4 THEN 5 ELSE 3 END WHERE id < 0`,
    0,
  ],
  ["another column of a large text", `UPDATE $ SET views = views + 1 WHERE id = 10`, 0],
  [
    "another column, twice",
    `UPDATE $ SET views = 5 WHERE id = 10;
    UPDATE $ SET title = 'other' WHERE id = 10`,
    0,
  ],
  ["a part of a large text", `UPDATE $ SET body = ${large("a")} || '|more' WHERE id = 10`, 1],
  [
    "another column of a text that is changed in the same transaction",
    `
    UPDATE $ SET body = ${large("b")} WHERE id = 10; UPDATE $ SET views = 6 WHERE id = 10`,
    2,
  ],
  ["the key of a large text", `UPDATE $ SET id = 11 WHERE id = 10`, 0],
  [
    "the key, and another column, and the key again",
    `UPDATE $ SET id = 12 WHERE id = 11;
    UPDATE $ SET views = 7 WHERE id = 12; UPDATE $ SET id = 13 WHERE id = 12`,
    0,
  ],
  [
    "a large text that gets short, none, and large again",
    `UPDATE $ SET body = 's' WHERE id = 13;
    UPDATE $ SET body = NULL WHERE id = 13; UPDATE $ SET body = ${large("c")} WHERE id = 13`,
    2,
  ],
  ["none", `UPDATE $ SET body = NULL WHERE id = 13`, 0],
  [
    "a row that goes and comes back as it was",
    `
    DELETE FROM $ WHERE id = 6; INSERT INTO $ VALUES (6, 't', 'text 6')`,
    0,
  ],
  [
    "what is rolled back",
    `SAVEPOINT s; UPDATE $ SET body = 'never' WHERE id = 6; ROLLBACK TO s;
    UPDATE $ SET views = 9 WHERE id = 6`,
    0,
  ],
];

for (const major of testMajors(18, 14, 10)) {
  describe(`on PostgreSQL ${major}`, () => {
    test("rows and their texts are followed, whatever the replica identity, and no text is embedded for nothing", async () => {
      const db = await testPostgres({ major });
      try {
        for (const identity of ["DEFAULT", "FULL"]) {
          for (const concurrency of [1, 4]) {
            const table = await SyncedTable.create(db, { identity });
            const store = memoryStore();
            await table.query(
              `INSERT INTO $ SELECT n, 't', 'text ' || n FROM generate_series(1, 6) n;
              INSERT INTO $ VALUES (10, 't', ${large("a")})`,
            );
            const stream = table.stream(store.open(), {}, { concurrency });
            await stream.setup();
            const { stop } = await started(stream);
            await table.agrees(store);
            table.take();
            for (const [what, sql, embedded] of STEPS) {
              const name = `${what}, ${identity}, ${concurrency} lanes`;
              await table.query(`BEGIN; ${sql}; COMMIT`);
              await table.agrees(store).catch((error) => {
                throw new Error(name, { cause: error });
              });
              const texts = table.take();
              // Lanes handle what a transaction did to several keys, and one of them at several times, as it comes.
              if (concurrency === 1) {
                assertEquals(
                  texts.length,
                  embedded,
                  `${name}: ${texts.map((text) => text.slice(0, 9))}`,
                );
              }
            }
            if (major > 10) {
              await table.query(`BEGIN; TRUNCATE $; INSERT INTO $ VALUES (1, 't', 'one'); COMMIT`);
              await table.agrees(store);
            }
            const report = await stream.verify(table.name);
            assertEquals([report.missing, report.stale, report.orphaned], [0, 0, 0]);
            await stop();
            await until("the slot to be free", () => table.free().then(() => true));
            await table.remove();
          }
        }
      } finally {
        await db.stop();
      }
    });
  });
}
