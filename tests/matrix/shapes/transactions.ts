/** Savepoints, two-phase commits, and what else ends or fills a transaction. */

import { inserted, range, type Shape, since, updated } from "../shape.ts";

const TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE unwatched (id int)";
const row = (id: number, v: string | null = null) => inserted("t", String(id), { id: `${id}`, v });

/** Their shapes. */
export const TRANSACTIONS: Shape[] = [
  {
    name: "of nested savepoints, what was rolled back never comes, and the rest in order",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        `BEGIN; INSERT INTO t VALUES (1);
        SAVEPOINT a; INSERT INTO t VALUES (2);
          SAVEPOINT b; INSERT INTO t VALUES (3);
            SAVEPOINT c; INSERT INTO t VALUES (4); RELEASE c;
          ROLLBACK TO b; INSERT INTO t VALUES (5);
        RELEASE a; INSERT INTO t VALUES (6);
        SAVEPOINT d; UPDATE t SET v = 'x'; ROLLBACK TO d; UPDATE t SET v = 'y' WHERE id = 6;
        COMMIT`,
      ],
      transactions: [[row(1), row(2), row(5), row(6), updated("t", "6", { id: "6", v: "y" })]],
    }),
  },
  {
    name: "a transaction of 70 subtransactions, more than a session caches, comes whole",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        [
          "BEGIN",
          ...range(1, 70).flatMap((id) => [
            "SAVEPOINT s",
            `INSERT INTO t VALUES (${id})`,
            id % 3 === 0 ? "ROLLBACK TO s" : "RELEASE s",
          ]),
          "COMMIT",
        ].join(";"),
        // Nested: none of them ends before the last.
        [
          "BEGIN",
          ...range(101, 170).flatMap((id) => [`SAVEPOINT s${id}`, `INSERT INTO t VALUES (${id})`]),
          "ROLLBACK TO s150",
          "COMMIT",
        ].join(";"),
      ],
      transactions: [
        range(1, 70).filter((id) => id % 3 !== 0).map((id) => row(id)),
        range(101, 149).map((id) => row(id)),
      ],
    }),
  },
  {
    name: "an exception that PL/pgSQL catches leaves nothing behind",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        `DO $$ BEGIN
          INSERT INTO t VALUES (1);
          BEGIN
            INSERT INTO t VALUES (2);
            INSERT INTO t VALUES (1);
          EXCEPTION WHEN unique_violation THEN INSERT INTO t VALUES (3);
          END;
        END $$`,
      ],
      transactions: [[row(1), row(3)]],
    }),
  },
  {
    name: "a prepared transaction comes when it is committed, in the place of that commit",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'one'",
        "INSERT INTO t VALUES (2)",
        "BEGIN; INSERT INTO t VALUES (3); SAVEPOINT s; INSERT INTO t VALUES (4); ROLLBACK TO s; " +
        "PREPARE TRANSACTION 'two'",
        { sql: "COMMIT PREPARED 'two'", session: "other" },
        "COMMIT PREPARED 'one'",
      ],
      transactions: [[row(2)], [row(3)], [row(1)]],
    }),
  },
  {
    name: "a prepared transaction that is rolled back never comes",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'never'",
        "ROLLBACK PREPARED 'never'",
        "INSERT INTO t VALUES (1, 'again')",
      ],
      transactions: [[row(1, "again")]],
    }),
  },
  {
    name: "transactions of two sessions come in the order of their commits",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        { sql: "BEGIN; INSERT INTO t VALUES (1)", session: "a" },
        { sql: "BEGIN; INSERT INTO t VALUES (2)", session: "b" },
        { sql: "INSERT INTO t VALUES (3)", session: "a" },
        { sql: "INSERT INTO t VALUES (4); COMMIT", session: "b" },
        { sql: "INSERT INTO t VALUES (5); COMMIT", session: "a" },
      ],
      transactions: [[row(2), row(4)], [row(1), row(3), row(5)]],
    }),
  },
  {
    name: "empty transactions, and those of other tables only, bring nothing",
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "BEGIN; COMMIT",
        "INSERT INTO unwatched VALUES (1)",
        "BEGIN; SELECT txid_current(); COMMIT",
        "CREATE TABLE more (id int); DROP TABLE more",
        "BEGIN; INSERT INTO t VALUES (1); ROLLBACK",
        "INSERT INTO unwatched VALUES (2); INSERT INTO t VALUES (2); DELETE FROM unwatched",
        "UPDATE t SET v = 'x' WHERE id = 0; DELETE FROM t WHERE id = 0",
      ],
      transactions: [[row(2)]],
    }),
  },
  {
    name: "messages that nobody asked for do not come, transactional or not",
    cannot: since(10, ""),
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        "SELECT pg_logical_emit_message(false, 'ping', 'alone')",
        "SELECT pg_logical_emit_message(true, 'ping', 'alone')",
        `INSERT INTO t VALUES (1); SELECT pg_logical_emit_message(true, 'ping', 'within');
        SELECT pg_logical_emit_message(false, 'ping', 'beside'); INSERT INTO t VALUES (2)`,
      ],
      transactions: [[row(1), row(2)]],
    }),
  },
  originShape("a transaction that came from another server comes like any other", ""),
  originShape(
    "a transaction of an origin that was dropped since comes like any other",
    "SELECT pg_replication_origin_drop('of $schema')",
  ),
];

function originShape(name: string, afterwards: string): Shape {
  return {
    name,
    script: () => ({
      before: TABLE,
      watch: ["t"],
      steps: [
        `SELECT pg_replication_origin_create('of $schema');
        SELECT pg_replication_origin_session_setup('of $schema')`,
        `SELECT pg_replication_origin_xact_setup('16/B374D848', '2026-01-02 03:04:05Z');
        INSERT INTO t VALUES (1, 'theirs')`,
        `SELECT pg_replication_origin_session_reset(); ${afterwards}`,
        "INSERT INTO t VALUES (2, 'ours')",
      ],
      transactions: [[row(1, "theirs")], [row(2, "ours")]],
    }),
  };
}
