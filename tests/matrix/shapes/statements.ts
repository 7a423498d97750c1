/** What else writes to tables, or seems to. */

import { until } from "../../support/streams.ts";
import { deleted, inserted, range, type Shape, since, updated } from "../shape.ts";

const TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const row = (id: number, v: string | null = null) => inserted("t", String(id), { id: `${id}`, v });
const changed = (id: number, v: string | null) => updated("t", String(id), { id: `${id}`, v });
const UNIQUE_VIOLATION = "23505";
const DEADLOCK = "40P01";
const AS = "a".repeat(3000);
const gone = (id: number) => deleted("t", String(id), { id: `${id}` });

/** Statements, one by one. */
export const STATEMENTS: Shape[] = [
  {
    name: "COPY brings every row, also where several share a record of the WAL",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "COPY t FROM PROGRAM 'seq 1 999 | sed ''s/.*/&,row &/''' (FORMAT csv)",
        "INSERT INTO t SELECT n, repeat('x', n - 1000) FROM generate_series(1001, 1600) n",
      ],
      transactions: [
        range(1, 999).map((id) => row(id, `row ${id}`)),
        range(1001, 1600).map((id) => row(id, "x".repeat(id - 1000))),
      ],
    }),
  },
  {
    name: "INSERT … ON CONFLICT is an insert, an update, or nothing",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a')",
        `INSERT INTO t VALUES (1, 'b'), (2, 'b') ON CONFLICT (id) DO UPDATE SET v = excluded.v`,
        "INSERT INTO t VALUES (1, 'c'), (3, 'c') ON CONFLICT DO NOTHING",
        "INSERT INTO t VALUES (2, 'd') ON CONFLICT (id) DO UPDATE SET id = 4",
        "INSERT INTO t VALUES (3, 'e') ON CONFLICT (id) DO UPDATE SET v = 'e' WHERE t.v <> 'c'",
      ],
      transactions: [
        [row(1, "a")],
        [changed(1, "b"), row(2, "b")],
        [row(3, "c")],
        [updated("t", "4", { id: "4", v: "b" }, { oldKey: "2", oldRow: { id: "2" } })],
      ],
    }),
  },
  {
    name: "MERGE brings what it did",
    cannot: since(15, "MERGE is there"),
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        `MERGE INTO t USING (VALUES (1, 'A'), (2, NULL), (3, 'c'), (4, 'D')) s (id, v) ON t.id = s.id
          WHEN MATCHED AND s.v IS NULL THEN DELETE
          WHEN MATCHED AND s.v = t.v THEN DO NOTHING
          WHEN MATCHED THEN UPDATE SET v = s.v
          WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)`,
      ],
      transactions: [
        [row(1, "a"), row(2, "b"), row(3, "c")],
        [changed(1, "A"), gone(2), row(4, "D")],
      ],
    }),
  },
  {
    name: "row locks bring nothing, and hide no change",
    script: () => ({
      before: `${TABLE}; CREATE TABLE child (id int PRIMARY KEY, t int REFERENCES t)`,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        { sql: "BEGIN; SELECT FROM t FOR KEY SHARE", session: "other" },
        `BEGIN; SELECT FROM t FOR NO KEY UPDATE; UPDATE t SET v = 'c' WHERE id = 1;
        SAVEPOINT s; SELECT FROM t FOR NO KEY UPDATE; ROLLBACK TO s; UPDATE t SET v = 'd' WHERE id = 1; COMMIT`,
        { sql: "INSERT INTO child VALUES (1, 1); COMMIT", session: "other" },
        "BEGIN; SELECT FROM t FOR UPDATE; DELETE FROM t WHERE id = 2; COMMIT",
      ],
      transactions: [
        [row(1, "a"), row(2, "b")],
        [changed(1, "c"), changed(1, "d")],
        [gone(2)],
      ],
    }),
  },
  {
    name: "an UPDATE that changes nothing is an update all the same",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: ["INSERT INTO t VALUES (1, 'a')", "UPDATE t SET v = v", "UPDATE t SET id = id"],
      transactions: [[row(1, "a")], [changed(1, "a")], [changed(1, "a")]],
    }),
  },
  {
    name: "a key that is deleted and inserted again in one transaction is both, in this order",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a')",
        "DELETE FROM t; INSERT INTO t VALUES (1, 'b'); DELETE FROM t; INSERT INTO t VALUES (1, 'c')",
        "UPDATE t SET id = 2; INSERT INTO t VALUES (1, 'd'); UPDATE t SET id = 3 WHERE id = 2",
      ],
      transactions: [
        [row(1, "a")],
        [gone(1), row(1, "b"), gone(1), row(1, "c")],
        [
          updated("t", "2", { id: "2", v: "c" }, { oldKey: "1", oldRow: { id: "1" } }),
          row(1, "d"),
          updated("t", "3", { id: "3", v: "c" }, { oldKey: "2", oldRow: { id: "2" } }),
        ],
      ],
    }),
  },
  {
    name: "a statement that writes several tables keeps the order of its writes",
    script: () => ({
      before: `${TABLE}; CREATE TABLE log (n int PRIMARY KEY, what text)`,
      watch: ["t", "log"],
      steps: [
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        `WITH gone AS (DELETE FROM t RETURNING *), logged AS (INSERT INTO log SELECT * FROM gone RETURNING *)
        SELECT count(*) FROM logged`,
      ],
      transactions: [
        [row(1, "a"), row(2, "b")],
        [
          gone(1),
          inserted("log", "1", { n: "1", what: "a" }),
          gone(2),
          inserted("log", "2", { n: "2", what: "b" }),
        ],
      ],
    }),
  },
  {
    name: "what triggers write comes where they wrote it",
    script: () => ({
      before:
        `${TABLE}; CREATE TABLE log (n int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          INSERT INTO log (what) VALUES (TG_WHEN || ' ' || NEW.id);
          NEW.v := NEW.v || '!';
          RETURN NEW;
        END $$;
        CREATE TRIGGER first BEFORE INSERT ON t FOR EACH ROW EXECUTE PROCEDURE note();
        CREATE TRIGGER last AFTER INSERT ON t FOR EACH ROW EXECUTE PROCEDURE note();
        CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE PROCEDURE note()`,
      watch: ["t", "log"],
      steps: [
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "UPDATE t SET v = 'c' WHERE id = 1; INSERT INTO t VALUES (3, 'd')",
      ],
      transactions: [
        [
          inserted("log", "1", { n: "1", what: "BEFORE 1" }),
          row(1, "a!"),
          inserted("log", "2", { n: "2", what: "BEFORE 2" }),
          row(2, "b!"),
          inserted("log", "3", { n: "3", what: "AFTER 1" }),
          inserted("log", "4", { n: "4", what: "AFTER 2" }),
        ],
        [
          changed(1, "c"),
          inserted("log", "5", { n: "5", what: "BEFORE 3" }),
          row(3, "d!"),
          inserted("log", "6", { n: "6", what: "AFTER 3" }),
          inserted("log", "7", { n: "7", what: "AFTER 1" }),
        ],
      ],
    }),
  },
  {
    name: "foreign keys that cascade bring each row that they touch",
    script: () => ({
      before: `${TABLE}; CREATE TABLE child (id int PRIMARY KEY,
        t int REFERENCES t ON DELETE SET NULL ON UPDATE CASCADE);
        CREATE TABLE grand (t int PRIMARY KEY REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE)`,
      watch: ["t", "child", "grand"],
      steps: [
        "INSERT INTO t VALUES (1, 'a'); INSERT INTO child VALUES (7, 1); INSERT INTO grand VALUES (1)",
        "UPDATE t SET id = 2",
        "DELETE FROM t",
      ],
      transactions: [
        [
          row(1, "a"),
          inserted("child", "7", { id: "7", t: "1" }),
          inserted("grand", "1", { t: "1" }),
        ],
        [
          updated("t", "2", { id: "2", v: "a" }, { oldKey: "1", oldRow: { id: "1" } }),
          updated("child", "7", { id: "7", t: "2" }),
          updated("grand", "2", { t: "2" }, { oldKey: "1", oldRow: { t: "1" } }),
        ],
        [
          gone(2),
          updated("child", "7", { id: "7", t: null }),
          deleted("grand", "2", { t: "2" }),
        ],
      ],
    }),
  },
  {
    name: "keys that are shifted by one statement leave no row behind",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (3, 'c'), (2, 'b'), (1, 'a')",
        "UPDATE t SET id = id + 1",
      ],
      transactions: [
        [row(3, "c"), row(2, "b"), row(1, "a")],
        [[3, "c"], [2, "b"], [1, "a"]].map(([id, v]) =>
          updated("t", String(Number(id) + 1), { id: String(Number(id) + 1), v: String(v) }, {
            oldKey: String(id),
            oldRow: { id: String(id) },
          })
        ),
      ],
    }),
  },
  {
    name: "keys that are swapped under a deferred constraint are two updates",
    script: () => ({
      before: `CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text);
        ALTER TABLE t REPLICA IDENTITY FULL`,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "UPDATE t SET id = 3 - id",
      ],
      transactions: [
        [row(1, "a"), row(2, "b")],
        [
          updated("t", "2", { id: "2", v: "a" }, { oldKey: "1", oldRow: { id: "1", v: "a" } }),
          updated("t", "1", { id: "1", v: "b" }, { oldKey: "2", oldRow: { id: "2", v: "b" } }),
        ],
      ],
      // By key alone the second row, under its old key, would be taken for the first under its new one.
      by: "row",
    }),
  },
  {
    name: "what is written through a view comes under the name of its table",
    script: () => ({
      before: `${TABLE}; CREATE VIEW w AS SELECT id + 0 AS computed, * FROM t WHERE id > 0`,
      watch: ["t"],
      steps: ["INSERT INTO w (id, v) VALUES (1, 'a')", "UPDATE w SET v = 'b'", "DELETE FROM w"],
      transactions: [[row(1, "a")], [changed(1, "b")], [gone(1)]],
    }),
  },
  {
    name: "sessions that insert the same keys at once leave each key once",
    script: () => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, v int, u int UNIQUE, big text); " +
        "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
      watch: ["t"],
      steps: [
        ({ query }) =>
          Promise.all(["a", "b", "c"].map(async (session, offset) => {
            for (const n of range(offset, 79 + offset)) {
              await query(
                `INSERT INTO t VALUES (${n % 5}, 1, ${n % 11}, repeat('${session}', 3000))
                ON CONFLICT (id) DO UPDATE SET v = t.v + 1`,
                session,
              ).catch((error) => {
                if (error.code !== UNIQUE_VIOLATION && error.code !== DEADLOCK) throw error;
              });
              if (n % 3 === 0) await query(`DELETE FROM t WHERE id = ${n % 5}`, session);
            }
          })),
      ],
      transactions: null,
    }),
  },
  {
    name:
      "an insertion that loses the race for its key never comes, nor what it stored out of line",
    script: () => ({
      // It waits between its row and its entry in the index, where it then meets the other's.
      before:
        `CREATE TABLE t (id int, v text, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
        ALTER TABLE t REPLICA IDENTITY FULL;
        CREATE FUNCTION waiting(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
          IF current_setting('application_name') = 'loser' AND NOT pg_try_advisory_xact_lock(4712) THEN
            RAISE 'nobody else takes this one';
          END IF;
          IF current_setting('application_name') = 'loser' AND current_setting('race.seen', true) = 'yes' THEN
            PERFORM pg_advisory_xact_lock(4711);
          END IF;
          IF current_setting('application_name') = 'loser' THEN
            PERFORM set_config('race.seen', 'yes', false);
          END IF;
          RETURN $1;
        END $$;
        CREATE UNIQUE INDEX ON t (waiting(id))`,
      watch: ["t"],
      steps: [
        "SELECT pg_advisory_lock(4711)",
        { sql: "SET application_name = 'loser'", session: "loser" },
        async ({ query }) => {
          const insert = (v: string) =>
            `INSERT INTO t VALUES (1, '${v}', repeat('${v}', 3000)) ON CONFLICT (waiting(id)) DO UPDATE
              SET v = t.v || ' ${v}'`;
          const losing = query(insert("b"), "loser");
          await until("the loser to wait", async () => {
            const [found] = await query(
              "SELECT count(*)::int AS many FROM pg_locks WHERE locktype = 'advisory' AND NOT granted",
            );
            return found!.many === 1;
          });
          await query(insert("a"));
          await query("SELECT pg_advisory_unlock(4711)");
          await losing;
        },
      ],
      transactions: [
        [inserted("t", JSON.stringify(["1", "a", AS]), { id: "1", v: "a", big: AS })],
        [
          updated("t", JSON.stringify(["1", "a b", AS]), { id: "1", v: "a b", big: AS }, {
            oldKey: JSON.stringify(["1", "a", AS]),
            oldRow: { id: "1", v: "a", big: AS },
          }),
        ],
      ],
    }),
  },
  {
    name: "large objects, sequences, and views that are kept bring nothing",
    script: () => ({
      before: `${TABLE}; CREATE SEQUENCE s; CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
        CREATE UNIQUE INDEX ON m (id)`,
      watch: ["t"],
      steps: [
        "SELECT lo_from_bytea(0, 'large')",
        "SELECT nextval('s'), setval('s', 1000)",
        "INSERT INTO t VALUES (1, 'a')",
        "REFRESH MATERIALIZED VIEW m",
        "INSERT INTO t VALUES (2, 'b')",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY m; SELECT nextval('s'); INSERT INTO t VALUES (3, 'c')",
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
        "CREATE TEMPORARY TABLE mine AS SELECT * FROM t; DROP TABLE mine",
        "CREATE UNLOGGED TABLE fast AS SELECT * FROM t; DROP TABLE fast",
      ],
      transactions: [[row(1, "a")], [row(2, "b")], [row(3, "c")]],
    }),
  },
  {
    name: "tables that are rewritten as they are bring nothing, and their rows go on",
    script: () => ({
      before: `CREATE TABLE t (id int PRIMARY KEY, v text, big text);
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL`,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a', repeat('x', 5000))",
        "VACUUM FULL t",
        "UPDATE t SET v = 'b'",
        "CLUSTER t USING t_pkey",
        "VACUUM FULL pg_class",
        "VACUUM FULL pg_attribute",
        "UPDATE t SET v = 'c'",
        "BEGIN; UPDATE t SET v = 'd'; CLUSTER t; UPDATE t SET id = 2; COMMIT",
        "CREATE INDEX CONCURRENTLY ON t (v)",
        "REINDEX TABLE t",
        "VACUUM FREEZE t",
        "DELETE FROM t",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a", big: "x".repeat(5000) })],
        [updated("t", "1", { id: "1", v: "b" }, { unchanged: ["big"] })],
        [updated("t", "1", { id: "1", v: "c" }, { unchanged: ["big"] })],
        [
          updated("t", "1", { id: "1", v: "d" }, { unchanged: ["big"] }),
          updated("t", "2", { id: "2", v: "d" }, {
            unchanged: ["big"],
            oldKey: "1",
            oldRow: { id: "1" },
          }),
        ],
        [deleted("t", "2", { id: "2" })],
      ],
    }),
  },
];
