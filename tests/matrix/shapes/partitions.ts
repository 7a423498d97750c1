/** Tables that consist of others. https://www.postgresql.org/docs/current/ddl-partitioning.html */

import { deleted, inserted, type Shape, since, truncated, updated } from "../shape.ts";

const LEAVES = `CREATE TABLE t (id int, region text, v text) PARTITION BY LIST (region);
  CREATE TABLE eu PARTITION OF t FOR VALUES IN ('eu');
  CREATE TABLE us PARTITION OF t FOR VALUES IN ('us');`;
const ROOT = `${LEAVES} ALTER TABLE t ADD PRIMARY KEY (id, region);`;
const cannot = since(13, "partitioned tables are published by their root");
const key = (id: string, region: string) => JSON.stringify([id, region]);
const row = (id: string, region: string, v: string | null = null) =>
  inserted("t", key(id, region), { id, region, v });

/** Partitions and heirs. */
export const PARTITIONS: Shape[] = [
  {
    name: "rows of partitions come under the name of their root, wherever they were written",
    cannot,
    script: () => ({
      before: ROOT,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'eu'), (2, 'us')",
        "INSERT INTO eu VALUES (3, 'eu', 'direct')",
        "UPDATE t SET v = 'x' WHERE id = 1",
        "UPDATE us SET id = 4",
        "DELETE FROM eu WHERE id = 3",
      ],
      transactions: [
        [row("1", "eu"), row("2", "us")],
        [row("3", "eu", "direct")],
        [updated("t", key("1", "eu"), { id: "1", region: "eu", v: "x" })],
        [
          updated("t", key("4", "us"), { id: "4", region: "us", v: null }, {
            oldKey: key("2", "us"),
            oldRow: { id: "2", region: "us" },
          }),
        ],
        [deleted("t", key("3", "eu"), { id: "3", region: "eu" })],
      ],
    }),
  },
  {
    name: "a row that moves to another partition is a delete and an insert, in this order",
    cannot,
    script: () => ({
      before: ROOT,
      watch: ["t"],
      steps: ["INSERT INTO t VALUES (1, 'eu', 'a')", "UPDATE t SET region = 'us', v = 'b'"],
      transactions: [
        [row("1", "eu", "a")],
        [deleted("t", key("1", "eu"), { id: "1", region: "eu" }), row("1", "us", "b")],
      ],
    }),
  },
  {
    name: "a partition of another column order, with dropped columns, comes in the root's shape",
    cannot,
    script: () => ({
      before: `${ROOT} CREATE TABLE asia (gone int, v text, region text NOT NULL, id int NOT NULL);
        ALTER TABLE asia DROP gone; INSERT INTO asia VALUES ('before', 'asia', 1)`,
      watch: ["t"],
      steps: [
        "ALTER TABLE t ATTACH PARTITION asia FOR VALUES IN ('asia')",
        "INSERT INTO t VALUES (2, 'asia', 'after')",
        "INSERT INTO asia VALUES ('direct', 'asia', 3)",
        "UPDATE t SET v = 'x' WHERE region = 'asia' AND id > 1",
        "UPDATE t SET id = 4 WHERE id = 2",
        "DELETE FROM asia WHERE id = 3",
      ],
      transactions: [
        [row("2", "asia", "after")],
        [row("3", "asia", "direct")],
        ["2", "3"].map((id) => updated("t", key(id, "asia"), { id, region: "asia", v: "x" })),
        [
          updated("t", key("4", "asia"), { id: "4", region: "asia", v: "x" }, {
            oldKey: key("2", "asia"),
            oldRow: { id: "2", region: "asia" },
          }),
        ],
        [deleted("t", key("3", "asia"), { id: "3", region: "asia" })],
      ],
      // What was there before it was attached never came.
      model: { t: { came: "id <> 1" } },
    }),
  },
  {
    name: "TRUNCATE, DETACH and DROP of a partition send nothing; a TRUNCATE of the root does",
    cannot,
    script: (major) => ({
      before: ROOT,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'eu'), (2, 'us')",
        "TRUNCATE eu",
        "ALTER TABLE t DETACH PARTITION us",
        "INSERT INTO us VALUES (9, 'us')",
        "DROP TABLE eu",
        "CREATE TABLE eu PARTITION OF t FOR VALUES IN ('eu')",
        "INSERT INTO eu VALUES (3, 'eu')",
        "TRUNCATE t",
        "INSERT INTO t VALUES (4, 'eu')",
      ],
      transactions: [
        [row("1", "eu"), row("2", "us")],
        // A walsender of 13 and 14 takes what it once published for a partition, as long as it lives.
        ...major < 15 ? [[row("9", "us")]] : [],
        [row("3", "eu")],
        [truncated("t")],
        [row("4", "eu")],
      ],
    }),
  },
  {
    name: "partitions of partitions come under the name of the root that is watched",
    cannot,
    script: () => ({
      before:
        `CREATE TABLE t (id int, region text, v text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
        CREATE TABLE eu PARTITION OF t FOR VALUES IN ('eu') PARTITION BY RANGE (id);
        CREATE TABLE eu_low PARTITION OF eu FOR VALUES FROM (0) TO (10);
        CREATE TABLE eu_rest PARTITION OF eu DEFAULT; CREATE TABLE rest PARTITION OF t DEFAULT`,
      watch: ["t"],
      steps: [
        "INSERT INTO t VALUES (1, 'eu'), (11, 'eu'), (1, 'us')",
        "INSERT INTO eu_low VALUES (2, 'eu')",
        "UPDATE eu SET id = 12 WHERE id = 2",
      ],
      transactions: [
        [row("1", "eu"), row("11", "eu"), row("1", "us")],
        [row("2", "eu")],
        [deleted("t", key("2", "eu"), { id: "2", region: "eu" }), row("12", "eu")],
      ],
    }),
  },
  {
    name: "partitions that are watched themselves come under their own names",
    script: (major) => ({
      before: `${LEAVES} ALTER TABLE eu ADD PRIMARY KEY (id); ALTER TABLE us ADD PRIMARY KEY (id)`,
      watch: ["eu", "us"],
      steps: [
        "INSERT INTO t VALUES (1, 'eu'), (2, 'us')",
        ...major >= 11 ? ["UPDATE t SET region = 'us' WHERE id = 1", "TRUNCATE t"] : [],
      ],
      transactions: [
        [
          inserted("eu", "1", { id: "1", region: "eu", v: null }),
          inserted("us", "2", { id: "2", region: "us", v: null }),
        ],
        ...major >= 11
          ? [
            [
              deleted("eu", "1", { id: "1" }),
              inserted("us", "1", { id: "1", region: "us", v: null }),
            ],
            [truncated("eu"), truncated("us")],
          ]
          : [],
      ],
    }),
  },
  {
    name: "a table that inherits is a table of its own: rows come under the name where they are",
    script: () => ({
      before: `CREATE TABLE parent (id int PRIMARY KEY, v text);
        CREATE TABLE child (extra int, PRIMARY KEY (id)) INHERITS (parent)`,
      watch: ["parent", "child"],
      steps: [
        "INSERT INTO parent VALUES (1, 'a'); INSERT INTO child VALUES (2, 'b', 3)",
        "UPDATE parent SET v = 'c'",
        "DELETE FROM parent",
        "INSERT INTO parent VALUES (4); INSERT INTO child VALUES (4)",
      ],
      transactions: [
        [
          inserted("parent", "1", { id: "1", v: "a" }),
          inserted("child", "2", { id: "2", v: "b", extra: "3" }),
        ],
        [
          updated("parent", "1", { id: "1", v: "c" }),
          updated("child", "2", { id: "2", v: "c", extra: "3" }),
        ],
        [deleted("parent", "1", { id: "1" }), deleted("child", "2", { id: "2" })],
        [
          inserted("parent", "4", { id: "4", v: null }),
          inserted("child", "4", { id: "4", v: null, extra: null }),
        ],
      ],
      model: { parent: { only: true } },
    }),
  },
];
