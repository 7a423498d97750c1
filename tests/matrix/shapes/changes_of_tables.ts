/** Tables that change their shape, between rows and within a transaction. */

import { deleted, inserted, type Shape, since, updated } from "../shape.ts";

const TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)";

/** ALTER TABLE and its kin. */
export const CHANGES_OF_TABLES: Shape[] = [
  {
    name: "columns that are added, renamed and dropped between rows come from the next row on",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t ADD n int DEFAULT 7",
        "INSERT INTO t VALUES (2, 'b')",
        "UPDATE t SET v = 'A' WHERE id = 1",
        "ALTER TABLE t RENAME v TO w",
        "UPDATE t SET w = 'B' WHERE id = 2",
        "ALTER TABLE t DROP n",
        "UPDATE t SET w = w",
        "ALTER TABLE t ADD n text",
        "UPDATE t SET n = 'again'",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" })],
        [inserted("t", "2", { id: "2", v: "b", n: "7" })],
        [updated("t", "1", { id: "1", v: "A", n: "7" })],
        [updated("t", "2", { id: "2", w: "B", n: "7" })],
        [updated("t", "1", { id: "1", w: "A" }), updated("t", "2", { id: "2", w: "B" })],
        [
          updated("t", "1", { id: "1", w: "A", n: "again" }),
          updated("t", "2", { id: "2", w: "B", n: "again" }),
        ],
      ],
    }),
  },
  {
    name: "a table that changes within a transaction changes between its rows",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ADD n int; INSERT INTO t VALUES (2, 'b', 2);
        ALTER TABLE t RENAME v TO w; INSERT INTO t VALUES (3, 'c', 3); ALTER TABLE t DROP w;
        UPDATE t SET n = id; DELETE FROM t WHERE id = 2; ALTER TABLE t ADD v text;
        INSERT INTO t VALUES (4, 4, 'd')`,
        "UPDATE t SET v = ''",
      ],
      transactions: [
        [
          inserted("t", "1", { id: "1", v: "a" }),
          inserted("t", "2", { id: "2", v: "b", n: "2" }),
          inserted("t", "3", { id: "3", w: "c", n: "3" }),
          updated("t", "1", { id: "1", n: "1" }),
          updated("t", "2", { id: "2", n: "2" }),
          updated("t", "3", { id: "3", n: "3" }),
          deleted("t", "2", { id: "2" }),
          inserted("t", "4", { id: "4", n: "4", v: "d" }),
        ],
        ["1", "3", "4"].map((id) => updated("t", id, { id, n: id, v: "" })),
      ],
    }),
  },
  {
    name: "a change of a table that is rolled back to a savepoint is none",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        `BEGIN; INSERT INTO t VALUES (1, 'a'); SAVEPOINT s; ALTER TABLE t ADD n int; ALTER TABLE t RENAME v TO w;
        INSERT INTO t VALUES (2, 'b', 2); ROLLBACK TO s; INSERT INTO t VALUES (3, 'c'); COMMIT`,
        "BEGIN; ALTER TABLE t DROP v; ROLLBACK",
        "INSERT INTO t VALUES (4, 'd')",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" }), inserted("t", "3", { id: "3", v: "c" })],
        [inserted("t", "4", { id: "4", v: "d" })],
      ],
    }),
  },
  {
    name: "two columns that swap their names swap them from the next row on",
    script: () => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, a text, b text)",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'first', 'second')",
        `ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME c TO b;
        UPDATE t SET id = 2`,
      ],
      transactions: [
        [inserted("t", "1", { id: "1", a: "first", b: "second" })],
        [
          updated("t", "2", { id: "2", b: "first", a: "second" }, {
            oldKey: "1",
            oldRow: { id: "1" },
          }),
        ],
      ],
    }),
  },
  {
    name: "a column of another type brings texts of that type, and the rewriting brings nothing",
    script: () => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, v text, big text); " +
        "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, '7', repeat('x', 5000))",
        "ALTER TABLE t ALTER v TYPE numeric(10,2) USING v::numeric",
        "UPDATE t SET v = v + 1",
        "ALTER TABLE t ALTER id TYPE bigint",
        "UPDATE t SET id = 9007199254740993",
        `INSERT INTO t VALUES (2, 2, NULL); ALTER TABLE t ALTER v TYPE boolean USING v > 5;
        ALTER TABLE t ALTER v SET NOT NULL; UPDATE t SET v = NOT v`,
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "7", big: "x".repeat(5000) })],
        [updated("t", "1", { id: "1", v: "8.00" }, { unchanged: ["big"] })],
        [
          updated("t", "9007199254740993", { id: "9007199254740993", v: "8.00" }, {
            unchanged: ["big"],
            oldKey: "1",
            oldRow: { id: "1" },
          }),
        ],
        [
          inserted("t", "2", { id: "2", v: "2.00", big: null }),
          updated("t", "9007199254740993", { id: "9007199254740993", v: "f" }, {
            unchanged: ["big"],
          }),
          updated("t", "2", { id: "2", v: "t", big: null }),
        ],
      ],
    }),
  },
  {
    name: "a replica identity that changes is the next row's",
    script: () => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, v text); " +
        "CREATE UNIQUE INDEX t_both ON t (id, code)",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a', 'v')",
        "UPDATE t SET id = 2",
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "UPDATE t SET id = 3",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_both",
        "UPDATE t SET code = 'b'",
        "UPDATE t SET v = ''; ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET code = 'c'; DELETE FROM t",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", code: "a", v: "v" })],
        [
          updated("t", "2", { id: "2", code: "a", v: "v" }, { oldKey: "1", oldRow: { id: "1" } }),
        ],
        [
          updated("t", "3", { id: "3", code: "a", v: "v" }, {
            oldKey: "2",
            oldRow: { id: "2", code: "a", v: "v" },
          }),
        ],
        [updated("t", "3", { id: "3", code: "b", v: "v" }, { oldRow: { id: "3", code: "a" } })],
        [
          updated("t", "3", { id: "3", code: "b", v: "" }),
          updated("t", "3", { id: "3", code: "c", v: "" }),
          deleted("t", "3", { id: "3" }),
        ],
      ],
    }),
  },
  {
    name: "a table that is renamed and gets its name back is the same table",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t RENAME TO u",
        "ALTER TABLE u RENAME TO t",
        "INSERT INTO t VALUES (2, 'b')",
        `ALTER TABLE t RENAME TO u; ALTER TABLE u RENAME v TO w; ALTER TABLE u RENAME TO t;
        UPDATE t SET w = 'c'`,
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" })],
        [inserted("t", "2", { id: "2", v: "b" })],
        [updated("t", "1", { id: "1", w: "c" }), updated("t", "2", { id: "2", w: "c" })],
      ],
    }),
  },
  {
    name: "a type that changes brings its new texts",
    script: () => ({
      before:
        `CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN short AS text CHECK (length(VALUE) < 9);
        CREATE TYPE pair AS (a int, b text);
        CREATE TABLE t (id int PRIMARY KEY, m mood, s short, p pair)`,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'ok', 'x', '(1,a)')",
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'o k'",
        "ALTER TYPE mood ADD VALUE 'happy'",
        "UPDATE t SET id = 2",
        "ALTER TYPE pair ADD ATTRIBUTE c bool CASCADE",
        "UPDATE t SET m = 'happy'",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", m: "ok", s: "x", p: "(1,a)" })],
        [
          updated("t", "2", { id: "2", m: "o k", s: "x", p: "(1,a)" }, {
            oldKey: "1",
            oldRow: { id: "1" },
          }),
        ],
        [updated("t", "2", { id: "2", m: "happy", s: "x", p: "(1,a,)" })],
      ],
    }),
  },
  {
    name: "a table that is dropped was there up to then",
    script: () => ({
      before: `${TABLE}; CREATE TABLE other (id int PRIMARY KEY)`,
      watch: ["t", "other"],
      steps: [
        "INSERT INTO t VALUES (1, 'a')",
        "INSERT INTO other VALUES (1); UPDATE t SET v = 'b'; DROP TABLE t",
        "INSERT INTO other VALUES (2)",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" })],
        [inserted("other", "1", { id: "1" }), updated("t", "1", { id: "1", v: "b" })],
        [inserted("other", "2", { id: "2" })],
      ],
      // Whoever comes later is told that it is gone.
      late: { kind: "table-missing", watch: ["other"] },
    }),
  },
  {
    name: "generated columns are not published before 18 unless asked for, and hide none",
    cannot: since(12, "columns are generated"),
    script: () => ({
      before:
        `CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, v text)`,
      watch: ["t"],
      steps: ["INSERT INTO t (id, v) VALUES (1, 'a')", "UPDATE t SET id = 2", "DELETE FROM t"],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" })],
        [updated("t", "2", { id: "2", v: "a" }, { oldKey: "1", oldRow: { id: "1" } })],
        [deleted("t", "2", { id: "2" })],
      ],
    }),
  },
  {
    name: "generated columns that are published come, stored ones, and never virtual ones",
    cannot: since(18, "generated columns are published"),
    script: () => ({
      before: `CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED,
        thrice int GENERATED ALWAYS AS (id * 3) VIRTUAL, v text)`,
      watch: ["t"],
      publication: "FOR TABLE t, $marker WITH (publish_generated_columns = stored)",
      steps: ["INSERT INTO t (id, v) VALUES (1, 'a')", "UPDATE t SET id = 2", "DELETE FROM t"],
      transactions: [
        [inserted("t", "1", { id: "1", twice: "2", v: "a" })],
        [updated("t", "2", { id: "2", twice: "4", v: "a" }, { oldKey: "1", oldRow: { id: "1" } })],
        [deleted("t", "2", { id: "2" })],
      ],
      model: { t: { columns: ["id", "twice", "v"] } },
    }),
  },
];
