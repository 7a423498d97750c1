/** What is as large, or as small, as it may be. */

import { deleted, inserted, range, type Shape, type Texts, updated } from "../shape.ts";

/** 1,600 less what is left for the key. */
const WIDE = range(1, 1599).map((n) => `c${n}`);
/** Bytes. */
const HUGE = 100_000_000;

/** Tables and values. */
export const SIZES: Shape[] = [
  {
    name: "a table of 1,600 columns comes whole",
    script: () => {
      const row: Texts = Object.fromEntries([
        ["id", "1"],
        ...WIDE.map((name, n) => [name, n % 2 ? null : "1"]),
      ]);
      const changed: Texts = { ...row, c1599: "0", c2: "0" };
      return {
        before: `CREATE TABLE t (id int PRIMARY KEY, ${
          WIDE.map((name) => `${name} smallint`).join()
        }); ALTER TABLE t REPLICA IDENTITY FULL`,
        watch: ["t"],
        steps: [
          `INSERT INTO t VALUES (1, ${WIDE.map((_, n) => n % 2 ? "NULL" : "1").join()})`,
          "UPDATE t SET c1599 = 0, c2 = 0",
          "DELETE FROM t",
        ],
        transactions: [
          [inserted("t", "1", row)],
          [updated("t", "1", changed, { oldRow: row })],
          [deleted("t", "1", changed)],
        ],
      };
    },
  },
  {
    name: "a value of 100 MB comes whole, and within a minute",
    heavy: true,
    script: () => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, v text, big text); " +
        "ALTER TABLE t ALTER big SET STORAGE EXTERNAL",
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES (1, 'a', repeat('é', ${HUGE / 2}))`,
        "UPDATE t SET v = 'b'",
        "DELETE FROM t",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a", big: "é".repeat(HUGE / 2) })],
        [updated("t", "1", { id: "1", v: "b" }, { unchanged: ["big"] })],
        [deleted("t", "1", { id: "1" })],
      ],
    }),
  },
  {
    name: "a table without columns has rows all the same",
    script: () => ({
      before: "CREATE TABLE t (); ALTER TABLE t REPLICA IDENTITY FULL",
      watch: ["t"],
      steps: [
        "INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES",
        "ALTER TABLE t ADD v text",
        "INSERT INTO t VALUES ('a')",
        "DELETE FROM t WHERE v IS NOT NULL",
      ],
      transactions: [
        [inserted("t", "[]", {}), inserted("t", "[]", {})],
        [inserted("t", "a", { v: "a" })],
        [deleted("t", "a", { v: "a" })],
      ],
      model: "rows without a column have nothing to be known by",
    }),
  },
  {
    name: "a row of empty texts, and one of NULLs, are two",
    script: () => ({
      before:
        "CREATE TABLE t (id int PRIMARY KEY, a text, b bytea, c char(3), d varchar, e text[])",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, '', '', '', '', '{}'), (2, NULL, NULL, NULL, NULL, NULL)",
        "UPDATE t SET a = NULL, b = NULL WHERE id = 1",
        "UPDATE t SET a = '', b = '' WHERE id = 2",
      ],
      transactions: [
        [
          inserted("t", "1", { id: "1", a: "", b: "\\x", c: "   ", d: "", e: "{}" }),
          inserted("t", "2", { id: "2", a: null, b: null, c: null, d: null, e: null }),
        ],
        [updated("t", "1", { id: "1", a: null, b: null, c: "   ", d: "", e: "{}" })],
        [updated("t", "2", { id: "2", a: "", b: "\\x", c: null, d: null, e: null })],
      ],
    }),
  },
];
