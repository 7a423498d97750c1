/**
 * An outbox without a table: what a transaction writes by pg_logical_emit_message is sent once it is committed,
 * and never where it was rolled back. With typed values, for the table that is watched beside it.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/outbox.ts
 *     psql "$DATABASE_URL" -c "BEGIN; INSERT INTO documents VALUES (1, 'paid');
 *       SELECT pg_logical_emit_message(true, 'mail', '{\"document\": 1}'); COMMIT"
 *
 * Needs PostgreSQL 14 or later. Ctrl+C stops it; the slot "outbox_example" stays, and holds on to the WAL until it is
 * read or dropped.
 */
import { PgStream } from "@pgstream/pgstream";

interface Tables {
  documents: { id: bigint; content: string | null };
}

const stream = new PgStream<Tables>({ slotName: "outbox_example", values: "js" });
stream.watch("documents");
stream.onChange((event) => {
  if (event.operation === "insert") {
    console.log(`document ${event.row.id + 0n}:`, event.row.content);
  }
});
// In its place: the changes before it are handled, and those behind it wait.
stream.onMessage("mail", ({ content, lsn, ordinal }) => {
  const mail = JSON.parse(new TextDecoder().decode(content));
  // It may come again after a crash: a mail server that knows the id sends it once.
  console.log(`mail ${lsn}/${ordinal}: to send of document ${mail.document}`);
});

await stream.setup();
console.log("waiting for mail");
await stream.start({ signals: true });
