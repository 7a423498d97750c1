/** Handlers side by side: whatever the server tells of a key, the changes of one key keep their order. */

import { assertEquals, assertGreater } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, parseLsn, PgStream } from "../../mod.ts";
import { seededRandom } from "../support/random.ts";
import { testMajors, type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { sleep, started, uniqueName, until } from "../support/streams.ts";

/** Keys that are written to: few, so that they meet. */
const KEYS = 6;
const ROUNDS = 120;

for (const major of testMajors(18, 14)) {
  describe(`lanes on PostgreSQL ${major}`, () => {
    let db: TestPostgres;
    before(async () => {
      db = await testPostgres({ major });
    });
    after(() => db?.stop());

    const identities: { name: string; alter: string; sideBySide: boolean }[] = [
      { name: "DEFAULT", alter: "", sideBySide: true },
      { name: "FULL", alter: "ALTER TABLE $t REPLICA IDENTITY FULL", sideBySide: true },
      {
        name: "USING INDEX with the primary key in it",
        alter: "CREATE UNIQUE INDEX $t_i ON $t (code, id); " +
          "ALTER TABLE $t REPLICA IDENTITY USING INDEX $t_i",
        sideBySide: true,
      },
      {
        name: "USING INDEX without the primary key, where a changed key is not told",
        alter: "CREATE UNIQUE INDEX $t_i ON $t (code); " +
          "ALTER TABLE $t REPLICA IDENTITY USING INDEX $t_i",
        sideBySide: false,
      },
    ];
    for (const { name, alter, sideBySide } of identities) {
      test(`REPLICA IDENTITY ${name}: deletes, reinserts and key changes keep their order (43)`, async () => {
        const seed = Date.now() & 0xffff;
        console.log(`seed ${seed}`);
        const random = seededRandom(seed);
        const table = uniqueName("lanes");
        await db.query(`CREATE TABLE ${table}
          (id int PRIMARY KEY, code int NOT NULL, version int NOT NULL);
          ${alter.replaceAll("$t", table)}`);
        const slotName = uniqueName();
        const stream = new PgStream({
          dsn: db.dsn,
          slotName,
          concurrency: 8,
          logger: false,
          maxQueueBytes: 50_000,
        }).watch(table);
        /** What a store holds in the end where each change is written when its handler is done. */
        const store = new Map<string, string>();
        /** By key, the last change whose handler is done; and changes that were done after a later one. */
        const last = new Map<string, readonly [bigint, bigint]>();
        const overtakings: string[] = [];
        let handled = 0;
        let inHand = 0;
        let most = 0;
        stream.onChange(async (event: ChangeEvent) => {
          most = Math.max(most, ++inHand);
          await sleep(random() * 4);
          const place = [parseLsn(event.lsn), BigInt(event.ordinal)] as const;
          for (
            const key of new Set([keyOf(event), event.oldKey ?? oldCode(event) ?? keyOf(event)])
          ) {
            const [lsn, ordinal] = last.get(key) ?? [-1n, -1n];
            const overtaken = lsn > place[0] || (lsn === place[0] && ordinal > place[1]);
            if (overtaken) overtakings.push(`${event.operation} of ${key} at ${event.lsn}`);
            last.set(key, place);
          }
          const { version, id } = event.row as { version: string; id: string };
          if (event.operation === "delete") store.delete(keyOf(event));
          else {
            const oldKey = event.oldKey ?? oldCode(event);
            if (oldKey !== null) store.delete(oldKey);
            store.set(id, version);
          }
          inHand--;
          handled++;
        });
        /** Under an index that lacks the primary key the old row tells the code alone: 10 × its key. */
        const keyOf = (event: ChangeEvent) => {
          const { id, code } = event.row as { id?: string; code?: string };
          return id ?? String(Number(code) / 10);
        };
        const oldCode = (event: ChangeEvent) => {
          const { code } = (event.oldRow ?? {}) as { code?: string };
          return code === undefined ? null : String(Number(code) / 10);
        };
        await stream.setup();
        const running = await started(stream);
        let changes = 0;
        const rows = new Set<number>();
        for (let version = 0; version < ROUNDS; version++) {
          const statements: string[] = [];
          for (const id of Array.from({ length: KEYS }, (_, id) => id)) {
            const dice = random();
            const other = Math.floor(random() * KEYS);
            if (!rows.has(id)) {
              statements.push(`INSERT INTO ${table} VALUES (${id}, ${id * 10}, ${version})`);
              rows.add(id);
            } else if (dice < 0.35) {
              statements.push(`DELETE FROM ${table} WHERE id = ${id}`);
              rows.delete(id);
            } else if (dice < 0.6 && !rows.has(other)) {
              statements.push(`UPDATE ${table} SET id = ${other}, code = ${other * 10},
                version = ${version} WHERE id = ${id}`);
              rows.delete(id);
              rows.add(other);
            } else {
              statements.push(`UPDATE ${table} SET version = ${version} WHERE id = ${id}`);
            }
          }
          changes += statements.length;
          await db.query(statements.join("; "));
        }
        await until("all changes", () => handled === changes, 60_000);
        await running.stop();
        assertEquals(overtakings, [], `seed ${seed}`);
        const left = await db.query<{ id: string; version: string }>(
          `SELECT id::text, version::text FROM ${table} ORDER BY 1`,
        );
        assertEquals(
          [...store].sort(([a], [b]) => a < b ? -1 : 1),
          left.map(({ id, version }) => [id, version]),
          `seed ${seed}`,
        );
        if (sideBySide) assertGreater(most, 1, "nothing ran side by side");
        else assertEquals(most, 1);
        await stream.teardown();
      });
    }
  });
}
