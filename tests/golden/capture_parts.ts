/**
 * Transactions that come in parts, or are prepared, by each protocol that the server has: captured while
 * they are under way, for from PostgreSQL 18 on a server sends nothing of what it knows to be rolled
 * back.
 */
import { ReplicationStream, type ReplicationStreamOptions } from "../../mod.ts";
import { PgOutputDecoder, type PgOutputMessage } from "../../src/pgoutput/mod.ts";
import { type GoldenMessage, goldenOf, type GoldenSlot, hexOf } from "../support/golden.ts";
import type { TestPostgres } from "../support/servers/test_postgres.ts";
import { openClient, until, within } from "../support/streams.ts";

const TABLES = `
  CREATE SCHEMA parts;
  CREATE TYPE parts.mood AS ENUM ('sad', 'happy');
  CREATE TABLE parts.pieces (id int PRIMARY KEY, note text);
  CREATE TABLE parts.late (id int PRIMARY KEY, mood parts.mood);
  CREATE TABLE parts.emptied (id int PRIMARY KEY);
  CREATE TABLE parts.filler (id int);
  CREATE PUBLICATION parts FOR TABLE parts.pieces, parts.late, parts.emptied;`;

/**
 * Rows that nobody is sent, but that make the server's memory for a transaction overflow: 64 kB.
 * So there are parts, and the files stay small.
 */
const FILL = "INSERT INTO parts.filler SELECT generate_series(1, 600)";

/** By the first major that has it. */
const SLOTS: { slot: GoldenSlot; since: number; options: ReplicationStreamOptions }[] = [
  { slot: "plain", since: 14, options: {} },
  { slot: "streamed", since: 14, options: { streaming: true } },
  { slot: "prepared", since: 15, options: { streaming: true, twoPhase: true } },
  { slot: "parallel", since: 16, options: { streaming: "parallel" } },
];

/** A slot that is being captured. */
interface Capture {
  options: ReplicationStreamOptions;
  messages: PgOutputMessage[];
  /** Resolves to the lines, once the message `end` has come. */
  lines: Promise<GoldenMessage[]>;
}

/** Captures from a database with no transaction under way. */
export async function captureParts(db: TestPostgres): Promise<GoldenMessage[]> {
  await db.query(TABLES);
  const captures: Capture[] = [];
  for (const { slot, since, options } of SLOTS) {
    if (db.major < since) continue;
    await db.query(`SELECT pg_create_logical_replication_slot('golden_${slot}', 'pgoutput')`);
    captures.push(await captureSlot(db, slot, options));
  }
  await write(db, async (id) => {
    // A commit, with which the server reads what was written before it.
    await db.query("INSERT INTO parts.filler VALUES (0)");
    await until(
      `piece ${id} to be sent`,
      () =>
        captures.every(({ options, messages }) =>
          !options.streaming ||
          messages.some((message) => message.type === "insert" && message.row.id === `${id}`)
        ),
    );
  });
  await db.query("SELECT pg_logical_emit_message(false, 'end', '')");
  return (await Promise.all(captures.map(({ lines }) => within("the end", lines)))).flat();
}

async function captureSlot(
  db: TestPostgres,
  slot: GoldenSlot,
  options: ReplicationStreamOptions,
): Promise<Capture> {
  const stream = await ReplicationStream.open({
    dsn: db.dsn,
    slotName: `golden_${slot}`,
    publicationName: "parts",
    messages: true,
    logger: false,
    ...options,
  });
  const decoder = new PgOutputDecoder();
  const messages: PgOutputMessage[] = [];
  const read = async () => {
    const lines: GoldenMessage[] = [];
    for await (const { data } of stream) {
      const message = decoder.decode(data);
      messages.push(message);
      lines.push({ slot, hex: hexOf(data), message: goldenOf(message) });
      if (message.type === "message" && message.prefix === "end") break;
    }
    return lines;
  };
  return { options, messages, lines: read() };
}

/** @param sent resolves once the row with this id has been sent */
async function write(db: TestPostgres, sent: (id: number) => Promise<void>): Promise<void> {
  const one = openClient(db.dsn);
  const other = openClient(db.dsn);
  const insert = (id: number) => `INSERT INTO parts.pieces VALUES (${id}, 'piece ${id}')`;
  try {
    // One that is committed, with subtransactions; another beside it that is rolled back.
    await one.unsafe(`BEGIN; ${insert(1)}; ${FILL}`);
    await other.unsafe(`BEGIN; ${insert(2)}; ${FILL}`);
    await one.unsafe(
      `SAVEPOINT first; INSERT INTO parts.late VALUES (3, 'sad'); ${insert(4)}; ${FILL}`,
    );
    await sent(4);
    await one.unsafe(`ROLLBACK TO SAVEPOINT first`);
    await db.query(insert(5));
    await one.unsafe(`SAVEPOINT second; INSERT INTO parts.late VALUES (6, 'happy');
      UPDATE parts.pieces SET note = NULL WHERE id = 1; ${FILL}; RELEASE SAVEPOINT second`);
    await one.unsafe(`SELECT pg_logical_emit_message(true, 'note', 'Grüße');
      ALTER TABLE parts.late ADD extra text; INSERT INTO parts.late VALUES (7, NULL, 'more');
      INSERT INTO parts.emptied VALUES (1); TRUNCATE parts.emptied; ${FILL}`);
    await sent(7);
    await db.query(insert(8));
    await other.unsafe(`${insert(9)}; ${FILL}`);
    await sent(9);
    await one.unsafe(`DELETE FROM parts.pieces WHERE id = 5; COMMIT`);
    await other.unsafe("ROLLBACK");
    await db.query("SELECT pg_logical_emit_message(false, 'ping', '')");

    // From elsewhere, in parts.
    await one.unsafe("SELECT pg_replication_origin_create('elsewhere')");
    await one.unsafe("SELECT pg_replication_origin_session_setup('elsewhere')");
    await one.unsafe(`BEGIN; ${insert(10)}; ${FILL}`);
    await sent(10);
    await one.unsafe(
      `SELECT pg_replication_origin_xact_setup('16/B374D848', '2026-01-02 03:04:05Z');
      COMMIT`,
    );
    await one.unsafe("SELECT pg_replication_origin_session_reset()");

    // Prepared, and committed or rolled back after that; whole, and in parts.
    for (const gid of ["small", "undone", "large"]) {
      const fill = gid === "large" ? FILL : "SELECT 1";
      await one.unsafe(`BEGIN; ${insert({ small: 11, undone: 12, large: 13 }[gid]!)}; ${fill}`);
      if (gid === "large") await sent(13);
      await one.unsafe(`PREPARE TRANSACTION '${gid}'`);
      await one.unsafe(`${gid === "undone" ? "ROLLBACK" : "COMMIT"} PREPARED '${gid}'`);
    }
    await one.unsafe("SELECT pg_replication_origin_drop('elsewhere')");
  } finally {
    await one.end();
    await other.end();
  }
}
