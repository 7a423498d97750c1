/** Names that quote, fold, collide with JavaScript's own, or are as long as they may be. */

import { deleted, inserted, type Shape, updated } from "../shape.ts";

const LONGEST = "n".repeat(63);
// 21 characters of 3 bytes.
const WIDE = "長".repeat(21);
const COLUMNS = [
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "then",
  "1",
  "007",
  "-1",
  "Case",
  "case",
  'qu"ote',
  "do.t",
  "sp ace",
  "back\\slash",
  "tab\there",
  "new\nline",
  "é",
  "e\u0301",
  "🐘",
  "\ufeffmark",
  "select",
  LONGEST,
  WIDE,
];
const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** A table of this name, in a schema of that one. */
function shapeOf(name: string, table: string, schema?: string): Shape {
  const row = Object.fromEntries([["id", "1"], ["k", "1"]] as [string, string][]);
  return {
    name,
    script: () => ({
      ...schema === undefined ? {} : { schema },
      before: `CREATE TABLE ${quote(table)} (id int PRIMARY KEY, k int)`,
      watch: [table],
      steps: [
        `INSERT INTO ${quote(table)} VALUES (1, 1)`,
        `UPDATE ${quote(table)} SET id = 2`,
        `DELETE FROM ${quote(table)}`,
      ],
      transactions: [
        [inserted(table, "1", row)],
        [updated(table, "2", { ...row, id: "2" }, { oldKey: "1", oldRow: { id: "1" } })],
        [deleted(table, "2", { id: "2" })],
      ],
    }),
  };
}

/** Schemas, tables, columns. */
export const NAMES: Shape[] = [
  {
    name: "columns of any name come under that name, own properties each",
    script: () => {
      const first = Object.fromEntries([["id", "1"], ...COLUMNS.map((name, n) => [name, `${n}`])]);
      const second = Object.fromEntries([["id", "1"], ...COLUMNS.map((name) => [name, null])]);
      return {
        before: `CREATE TABLE t (id int PRIMARY KEY, ${
          COLUMNS.map((name) => `${quote(name)} text`).join()
        }); ALTER TABLE t REPLICA IDENTITY FULL`,
        watch: ["t"],
        steps: [
          `INSERT INTO t VALUES (1, ${COLUMNS.map((_, n) => `'${n}'`).join()})`,
          `UPDATE t SET ${COLUMNS.map((name) => `${quote(name)} = NULL`).join()}`,
          "DELETE FROM t",
        ],
        transactions: [
          [inserted("t", "1", first)],
          [updated("t", "1", second, { oldRow: first })],
          [deleted("t", "1", second)],
        ],
      };
    },
  },
  {
    name: "a key of columns called __proto__, constructor and 1 is a key in its order",
    script: () => {
      const row = (value: string, p: string | null = "p") =>
        Object.fromEntries([["constructor", "c"], ["__proto__", p], ["1", value]]);
      return {
        before: `CREATE TABLE t ("constructor" text, "__proto__" text, "1" int,
          PRIMARY KEY ("__proto__", "1", "constructor"))`,
        watch: ["t"],
        steps: ["INSERT INTO t VALUES ('c', 'p', 7)", `UPDATE t SET "1" = 8`, "DELETE FROM t"],
        transactions: [
          [inserted("t", '["p","7","c"]', row("7"))],
          [updated("t", '["p","8","c"]', row("8"), { oldKey: '["p","7","c"]', oldRow: row("7") })],
          [deleted("t", '["p","8","c"]', row("8"))],
        ],
      };
    },
  },
  shapeOf("a table with a dot in a schema with a quote is found", "Ta.ble", 'We"ird'),
  shapeOf(
    "a table called __proto__ in a schema called constructor is a table",
    "__proto__",
    "constructor",
  ),
  shapeOf(
    "a table called toString in a schema called __proto__ is a table",
    "toString",
    "__proto__",
  ),
  shapeOf("a table called 1 in a schema called 0 is a table", "1", "0"),
  shapeOf("a table in capitals is not folded", "Upper", "ÜPPER"),
  shapeOf("names of 63 bytes are whole", LONGEST, WIDE),
  shapeOf("a table with quotes, blanks, a line break and a backslash is found", '" \n\\"', " "),
  shapeOf("a table of emoji is found", "🐘.🦣", "é"),
];
