/**
 * Keeps a pgvector table in step with a table of texts.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     VECTOR_URL=postgresql://… deno run -A examples/pgvector.ts
 *
 * Ctrl+C stops it; the slot "pgvector_example" stays, and holds on to the WAL until it is read or dropped.
 *
 * DATABASE_URL is where the texts are; VECTOR_URL, by default the same, is where the vectors go. Needs
 * the extension pgvector there: https://github.com/pgvector/pgvector
 */
import process from "node:process";
import { PgStream } from "@pgstream/pgstream";
import { PgVectorSink } from "@pgstream/pgstream/pgvector";
import { embed, EMBEDDING_DIMENSIONS } from "./embed.ts";

const dsn = process.env.VECTOR_URL ?? process.env.DATABASE_URL;
if (dsn === undefined) throw new Error("Set VECTOR_URL or DATABASE_URL");

const stream = new PgStream({ slotName: "pgvector_example" });
stream.watch("documents");
stream.sink(
  new PgVectorSink({
    dsn,
    table: "document_embeddings",
    createTable: { dimensions: EMBEDDING_DIMENSIONS },
  }),
);
stream.onChange(async (event, sink) => {
  if (event.operation === "insert" || event.operation === "update") {
    if (event.oldKey !== null) await sink.delete(event.oldKey); // the key itself was changed
    if (event.unchanged.includes("content")) return; // the embedded text is what it was
    const { content } = event.row;
    if (content) {
      await sink.upsert({ id: event.key, vector: await embed(content), payload: { content } });
    } else await sink.delete(event.key); // NULL or empty: no vector
  } else if (event.operation === "delete") {
    await sink.delete(event.key);
  }
  console.log(event.operation, event.key);
});

await stream.setup();
console.log("streaming");
await stream.start({ signals: true });
