/** What cannot be watched: said by setup(), before anything is made. */

import { type Shape, since } from "../shape.ts";

function refusal(
  name: string,
  before: string,
  kind: string,
  more: { cannot?: NonNullable<Shape["cannot"]>; database?: string } = {},
): Shape {
  const { cannot, database } = more;
  return {
    name,
    ...cannot === undefined ? {} : { cannot },
    script: () => ({
      before,
      watch: ["t"],
      ...database === undefined ? {} : { database },
      refused: kind,
      steps: [],
      transactions: [],
    }),
  };
}

/** A reason each. */
export const REFUSALS: Shape[] = [
  refusal(
    "a table that is not logged is refused",
    "CREATE UNLOGGED TABLE t (id int PRIMARY KEY)",
    "table-not-publishable",
  ),
  refusal(
    "a view that is kept is refused",
    "CREATE MATERIALIZED VIEW t AS SELECT 1 AS id; CREATE UNIQUE INDEX ON t (id)",
    "table-not-publishable",
  ),
  refusal("a view is refused", "CREATE VIEW t AS SELECT 1 AS id", "table-not-publishable"),
  refusal("a sequence is refused", "CREATE SEQUENCE t", "table-not-publishable"),
  refusal(
    "a foreign table is refused",
    `CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nobody FOREIGN DATA WRAPPER nowhere;
    CREATE FOREIGN TABLE t (id int) SERVER nobody`,
    "table-not-publishable",
  ),
  refusal("a table that is not there is refused", "", "table-missing"),
  refusal("a table without a key is refused", "CREATE TABLE t (id int)", "replica-identity"),
  refusal(
    "a table whose only key is deferrable is refused",
    "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE)",
    "replica-identity",
  ),
  refusal(
    "identity NOTHING is refused",
    "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING",
    "replica-identity",
  ),
  refusal(
    "identity USING INDEX whose index was dropped is refused",
    `CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL); CREATE UNIQUE INDEX t_code ON t (code);
    ALTER TABLE t REPLICA IDENTITY USING INDEX t_code; DROP INDEX t_code`,
    "replica-identity",
  ),
  refusal(
    "a partitioned table is refused where it cannot be published",
    `CREATE TABLE t (id int, v text) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF t FOR VALUES IN (1)`,
    "table-not-publishable",
    { cannot: (major) => major < 13 ? null : "partitioned tables are published from 13 on" },
  ),
  refusal(
    "a partitioned table without a key is refused",
    "CREATE TABLE t (id int, v text) PARTITION BY LIST (id); CREATE TABLE leaf PARTITION OF t FOR VALUES IN (1)",
    "replica-identity",
    { cannot: since(13, "partitioned tables are published by their root") },
  ),
  refusal(
    "a database without an encoding is refused",
    "CREATE TABLE t (id int PRIMARY KEY)",
    "server-encoding",
    { database: "ENCODING 'SQL_ASCII'" },
  ),
];
