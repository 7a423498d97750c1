/**
 * What publications leave out: rows and columns.
 * https://www.postgresql.org/docs/current/logical-replication-row-filter.html
 */

import { deleted, inserted, type Script, type Shape, since, truncated, updated } from "../shape.ts";

const cannot = since(15, "publications have filters and column lists");
const BIG = "x".repeat(5000);

/** What CREATE PUBLICATION is told, in a publication that was made before, or by setup(). */
function both(
  name: string,
  table: { columns?: string[]; where?: string },
  script: Omit<Script, "publication" | "options" | "watch">,
): Shape[] {
  const { columns, where } = table;
  const list = columns === undefined ? "" : ` (${columns.join()})`;
  const filter = where === undefined ? "" : ` WHERE (${where})`;
  const watch = ["t"];
  return [
    {
      name,
      cannot,
      script: () => ({ ...script, watch, options: { t: table } }),
    },
    {
      name: `${name}, as the publication that is found has it`,
      cannot,
      script: () => ({
        ...script,
        watch,
        options: { t: table },
        publication: `FOR TABLE t${list}${filter}, TABLE $marker`,
      }),
    },
  ];
}

/** Row filters and column lists. */
export const FILTERS: Shape[] = [
  ...both("rows that cross a row filter are inserts and deletes", { where: "live" }, {
    before:
      `CREATE TABLE t (id int PRIMARY KEY, live boolean, v text); ALTER TABLE t REPLICA IDENTITY FULL`,
    steps: [
      "INSERT INTO t VALUES (1, true, 'a'), (2, false, 'b'), (3, NULL, 'c')",
      "UPDATE t SET v = v || '!'",
      "UPDATE t SET live = true WHERE id = 2",
      "UPDATE t SET live = false WHERE id = 1",
      "UPDATE t SET live = NULL WHERE id = 2",
      "UPDATE t SET live = true, id = 4 WHERE id = 3",
      "DELETE FROM t WHERE id < 3",
      "TRUNCATE t",
    ],
    transactions: [
      [inserted("t", "1", { id: "1", live: "t", v: "a" })],
      [
        updated("t", "1", { id: "1", live: "t", v: "a!" }, {
          oldRow: { id: "1", live: "t", v: "a" },
        }),
      ],
      [inserted("t", "2", { id: "2", live: "t", v: "b!" })],
      [deleted("t", "1", { id: "1", live: "t", v: "a!" })],
      [deleted("t", "2", { id: "2", live: "t", v: "b!" })],
      [inserted("t", "4", { id: "4", live: "t", v: "c!" })],
      [truncated("t")],
    ],
    model: { t: { where: "live" } },
  }),
  ...both("a key that crosses a row filter comes and goes", { where: "id > 10" }, {
    before: "CREATE TABLE t (id int PRIMARY KEY, v text)",
    steps: [
      "INSERT INTO t VALUES (1, 'a'), (11, 'b')",
      "UPDATE t SET id = 12 WHERE id = 1",
      "UPDATE t SET id = 13 WHERE id = 12",
      "UPDATE t SET id = 2 WHERE id = 13",
      "DELETE FROM t",
    ],
    transactions: [
      [inserted("t", "11", { id: "11", v: "b" })],
      [inserted("t", "12", { id: "12", v: "a" })],
      [updated("t", "13", { id: "13", v: "a" }, { oldKey: "12", oldRow: { id: "12" } })],
      [deleted("t", "13", { id: "13" })],
      [deleted("t", "11", { id: "11" })],
    ],
    model: { t: { where: "id > 10" } },
  }),
  ...both("a row that enters a row filter tells which of its columns did not come", {
    where: "live",
  }, {
    before: `CREATE TABLE t (id int PRIMARY KEY, live boolean NOT NULL, big text);
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL; CREATE UNIQUE INDEX t_both ON t (id, live);
        ALTER TABLE t REPLICA IDENTITY USING INDEX t_both`,
    steps: [
      `INSERT INTO t VALUES (1, false, '${BIG}')`,
      "UPDATE t SET live = true",
      "UPDATE t SET big = 'small'",
      "UPDATE t SET live = false",
    ],
    transactions: [
      [{ ...inserted("t", "1", { id: "1", live: "t" }), unchanged: ["big"] }],
      [updated("t", "1", { id: "1", live: "t", big: "small" })],
      [deleted("t", "1", { id: "1", live: "t" })],
    ],
    model: { t: { where: "live" } },
  }),
  ...both("of a column list, these columns come and no others", { columns: ["v", "id"] }, {
    before: `CREATE TABLE t (secret text, id int PRIMARY KEY, big text, v text);
        ALTER TABLE t ALTER big SET STORAGE EXTERNAL`,
    steps: [
      `INSERT INTO t VALUES ('s', 1, '${BIG}', 'a')`,
      "UPDATE t SET secret = 'S'",
      "UPDATE t SET id = 2, v = NULL",
      "DELETE FROM t",
      "INSERT INTO t VALUES ('s', 3, NULL, 'c')",
      "ALTER TABLE t ADD more int DEFAULT 1; UPDATE t SET v = 'd'",
    ],
    transactions: [
      [inserted("t", "1", { id: "1", v: "a" })],
      [updated("t", "1", { id: "1", v: "a" })],
      [updated("t", "2", { id: "2", v: null }, { oldKey: "1", oldRow: { id: "1" } })],
      [deleted("t", "2", { id: "2" })],
      [inserted("t", "3", { id: "3", v: "c" })],
      [updated("t", "3", { id: "3", v: "d" })],
    ],
    model: { t: { columns: ["id", "v"] } },
  }),
  {
    name: "a publication of inserts only brings inserts only",
    script: (major) => ({
      before: "CREATE TABLE t (id int PRIMARY KEY, v text)",
      watch: ["t"],
      publication: "FOR TABLE t, $marker WITH (publish = 'insert')",
      steps: [
        "INSERT INTO t VALUES (1, 'a')",
        "UPDATE t SET v = 'b'",
        "DELETE FROM t",
        ...major >= 11 ? ["TRUNCATE t"] : [],
        "INSERT INTO t VALUES (1, 'c')",
      ],
      transactions: [
        [inserted("t", "1", { id: "1", v: "a" })],
        [inserted("t", "1", { id: "1", v: "c" })],
      ],
      model: "what is not published cannot be told",
    }),
  },
];
