/**
 * Columns that are stored out of line, under each replica identity.
 * https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
 */

import { deleted, inserted, type Shape, since, type Texts, updated } from "../shape.ts";

const BIG = "0123456789".repeat(500);
/** As long as an index takes, and long enough to be stored out of line. */
const LONG_KEY = "0123456789".repeat(250);
const BIGGER = "9876543210".repeat(700);
const TABLE = (more: string) =>
  `CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL UNIQUE, note text, big text);
  ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ${more}`;
/** The same for all. */
const STEPS = [
  `INSERT INTO t VALUES (1, 'a', 'n', '${BIG}')`,
  "UPDATE t SET note = NULL",
  "UPDATE t SET id = 2",
  "UPDATE t SET code = 'b'",
  "UPDATE t SET id = 3, code = 'c', note = ''",
  `UPDATE t SET big = '${BIGGER}'`,
  "UPDATE t SET big = NULL, note = 'm'",
  "UPDATE t SET note = 'l'",
  "UPDATE t SET big = ''",
  "UPDATE t SET note = note",
  `UPDATE t SET id = 4, big = '${BIG}'`,
  "DELETE FROM t",
];
/** What the row is after each of them. */
const ROWS: Texts[] = [
  { id: "1", code: "a", note: "n", big: BIG },
  { id: "1", code: "a", note: null, big: BIG },
  { id: "2", code: "a", note: null, big: BIG },
  { id: "2", code: "b", note: null, big: BIG },
  { id: "3", code: "c", note: "", big: BIG },
  { id: "3", code: "c", note: "", big: BIGGER },
  { id: "3", code: "c", note: "m", big: null },
  { id: "3", code: "c", note: "l", big: null },
  { id: "3", code: "c", note: "l", big: "" },
  { id: "3", code: "c", note: "l", big: "" },
  { id: "4", code: "c", note: "l", big: BIG },
];
const UNTOUCHED = [1, 2, 3, 4];

/** What of a row is told of it when it is old. */
function shapeOf(name: string, more: string, identity: string[], full = false): Shape {
  return {
    name,
    script: () => ({
      before: TABLE(more),
      watch: ["t"],
      steps: STEPS,
      transactions: [
        [inserted("t", "1", ROWS[0]!)],
        ...ROWS.slice(1).map((row, index) => {
          const old = ROWS[index]!;
          const unchanged = !full && UNTOUCHED.includes(index + 1) ? ["big"] : [];
          const changed = identity.some((column) => old[column] !== row[column]);
          const oldRow = full ? old : changed ? only(old, identity) : null;
          const tellsKey = oldRow !== null && "id" in oldRow && old.id !== row.id;
          return [
            updated("t", row.id!, without(row, unchanged), {
              unchanged,
              oldRow,
              oldKey: tellsKey ? old.id! : null,
            }),
          ];
        }),
        [deleted("t", "4", full ? ROWS.at(-1)! : only(ROWS.at(-1)!, identity))],
      ],
    }),
  };
}

const only = (row: Texts, names: string[]): Texts =>
  Object.fromEntries(names.map((name) => [name, row[name]!]));
const without = (row: Texts, names: string[]): Texts =>
  Object.fromEntries(Object.entries(row).filter(([name]) => !names.includes(name)));

/** An identity each. */
export const IDENTITIES: Shape[] = [
  shapeOf("identity DEFAULT tells unchanged from NULL, and the old key when it changes", "", [
    "id",
  ]),
  shapeOf(
    "identity FULL brings all of the old row, and with it what is stored out of line",
    "ALTER TABLE t REPLICA IDENTITY FULL",
    ["id", "code", "note", "big"],
    true,
  ),
  shapeOf(
    "identity USING INDEX that holds the primary key tells both",
    "CREATE UNIQUE INDEX t_both ON t (code, id); ALTER TABLE t REPLICA IDENTITY USING INDEX t_both",
    ["id", "code"],
  ),
  {
    name: "identity USING INDEX without the primary key knows the row by the index",
    script: () => ({
      before: TABLE("ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key"),
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES (1, 'a', 'n', '${BIG}')`,
        "UPDATE t SET note = NULL",
        "UPDATE t SET code = 'b'",
        "DELETE FROM t",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", code: "a", note: "n", big: BIG })],
        [updated("t", "1", { id: "1", code: "a", note: null }, { unchanged: ["big"] })],
        [
          updated("t", "1", { id: "1", code: "b", note: null }, {
            unchanged: ["big"],
            oldRow: { code: "a" },
          }),
        ],
        [deleted("t", '{"code":"b"}', { code: "b" })],
      ],
      model: "a delete tells no primary key, of which setup() warns",
    }),
  },
  {
    name: "without a primary key, identity FULL knows the row by all of it",
    script: () => ({
      before: `CREATE TABLE t (a text, b int, big text); ALTER TABLE t REPLICA IDENTITY FULL;
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL`,
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES ('x', 1, '${BIG}'), ('x', 1, NULL), (NULL, NULL, NULL)`,
        "UPDATE t SET b = 2 WHERE big IS NOT NULL",
        "DELETE FROM t WHERE a IS NULL",
      ],
      transactions: [
        [
          inserted("t", JSON.stringify(["x", "1", BIG]), { a: "x", b: "1", big: BIG }),
          inserted("t", '["x","1",null]', { a: "x", b: "1", big: null }),
          inserted("t", "[null,null,null]", { a: null, b: null, big: null }),
        ],
        [
          updated("t", JSON.stringify(["x", "2", BIG]), { a: "x", b: "2", big: BIG }, {
            oldRow: { a: "x", b: "1", big: BIG },
            oldKey: JSON.stringify(["x", "1", BIG]),
          }),
        ],
        [deleted("t", "[null,null,null]", { a: null, b: null, big: null })],
      ],
    }),
  },
  {
    name: "a key of several columns comes in the key's order, whatever is in its texts",
    script: () => ({
      before: "CREATE TABLE t (v int, b text, a text, PRIMARY KEY (a, b))",
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES (1, 'x,"y"', ''), (2, '["', E'\\\\'), (3, '', 'x,"y"')`,
        "UPDATE t SET b = '' WHERE v = 1",
        "DELETE FROM t WHERE v = 2",
      ],
      transactions: [
        [
          inserted("t", JSON.stringify(["", 'x,"y"']), { v: "1", b: 'x,"y"', a: "" }),
          inserted("t", JSON.stringify(["\\", '["']), { v: "2", b: '["', a: "\\" }),
          inserted("t", JSON.stringify(['x,"y"', ""]), { v: "3", b: "", a: 'x,"y"' }),
        ],
        [
          updated("t", JSON.stringify(["", ""]), { v: "1", b: "", a: "" }, {
            oldRow: { b: 'x,"y"', a: "" },
            oldKey: JSON.stringify(["", 'x,"y"']),
          }),
        ],
        [deleted("t", JSON.stringify(["\\", '["']), { b: '["', a: "\\" })],
      ],
    }),
  },
  {
    name: "a key that is an empty text is a key",
    script: () => ({
      before: "CREATE TABLE t (id text PRIMARY KEY, v text)",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES ('', '')",
        "UPDATE t SET id = 'a'",
        "UPDATE t SET id = ''",
        "DELETE FROM t",
      ],
      transactions: [
        [inserted("t", "", { id: "", v: "" })],
        [updated("t", "a", { id: "a", v: "" }, { oldKey: "", oldRow: { id: "" } })],
        [updated("t", "", { id: "", v: "" }, { oldKey: "a", oldRow: { id: "a" } })],
        [deleted("t", "", { id: "" })],
      ],
    }),
  },
  {
    name: "a key that is stored out of line itself is told with each change",
    script: () => ({
      before: "CREATE TABLE t (id text PRIMARY KEY, v text); " +
        "ALTER TABLE t ALTER id SET STORAGE EXTERNAL",
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES ('${LONG_KEY}', 'a')`,
        "UPDATE t SET v = 'b'",
        "UPDATE t SET v = 'b'; UPDATE t SET v = NULL",
        "DELETE FROM t",
      ],
      transactions: [
        [inserted("t", LONG_KEY, { id: LONG_KEY, v: "a" })],
        [updated("t", LONG_KEY, { id: LONG_KEY, v: "b" }, { oldRow: { id: LONG_KEY } })],
        [
          updated("t", LONG_KEY, { id: LONG_KEY, v: "b" }, { oldRow: { id: LONG_KEY } }),
          updated("t", LONG_KEY, { id: LONG_KEY, v: null }, { oldRow: { id: LONG_KEY } }),
        ],
        [deleted("t", LONG_KEY, { id: LONG_KEY })],
      ],
    }),
  },
  {
    name: "columns that a primary key only includes are no part of the key",
    cannot: since(11, "indexes include columns"),
    script: () => ({
      before: "CREATE TABLE t (v text, id int, PRIMARY KEY (id) INCLUDE (v))",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES ('a', 1)",
        "UPDATE t SET v = 'b'",
        "UPDATE t SET id = 2",
        "DELETE FROM t",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" })],
        [updated("t", "1", { id: "1", v: "b" })],
        [updated("t", "2", { id: "2", v: "b" }, { oldKey: "1", oldRow: { id: "1" } })],
        [deleted("t", "2", { id: "2" })],
      ],
    }),
  },
  {
    name: "a key that is equal and printed otherwise is a key that changed",
    script: () => ({
      before: "CREATE TABLE t (n numeric, f float8, v text, PRIMARY KEY (n, f))",
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1.0, '-0', 'a')",
        "UPDATE t SET n = 1.00, f = 0",
        "INSERT INTO t VALUES (1, '-0', 'b') ON CONFLICT (n, f) DO UPDATE SET v = 'b'",
        "DELETE FROM t WHERE n = 1",
      ],
      transactions: [
        [inserted("t", '["1.0","-0"]', { n: "1.0", f: "-0", v: "a" })],
        [
          updated("t", '["1.00","0"]', { n: "1.00", f: "0", v: "a" }, {
            oldKey: '["1.0","-0"]',
            oldRow: { n: "1.0", f: "-0" },
          }),
        ],
        [updated("t", '["1.00","0"]', { n: "1.00", f: "0", v: "b" })],
        [deleted("t", '["1.00","0"]', { n: "1.00", f: "0" })],
      ],
    }),
  },
  {
    name:
      "a row that is stored out of line and changed in one transaction tells what it left alone",
    script: () => ({
      before: TABLE(""),
      watch: ["t"],
      steps: [
        `INSERT INTO t VALUES (1, 'a', 'n', '${BIG}'); UPDATE t SET note = 'm'; UPDATE t SET id = 2;
        DELETE FROM t; INSERT INTO t VALUES (1, 'a', 'n', '${BIGGER}')`,
      ],
      transactions: [[
        inserted("t", "1", { id: "1", code: "a", note: "n", big: BIG }),
        updated("t", "1", { id: "1", code: "a", note: "m" }, { unchanged: ["big"] }),
        updated("t", "2", { id: "2", code: "a", note: "m" }, {
          unchanged: ["big"],
          oldKey: "1",
          oldRow: { id: "1" },
        }),
        deleted("t", "2", { id: "2" }),
        inserted("t", "1", { id: "1", code: "a", note: "n", big: BIGGER }),
      ]],
    }),
  },
  {
    name: "a large value that is compressed in its row comes with each change",
    script: () => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, v int, big text)",
      watch: ["t"],
      steps: ["INSERT INTO t VALUES (1, 1, repeat('x', 20000))", "UPDATE t SET v = 2"],
      transactions: [
        [inserted("t", "1", { id: "1", v: "1", big: "x".repeat(20000) })],
        [updated("t", "1", { id: "1", v: "2", big: "x".repeat(20000) })],
      ],
    }),
  },
];
