/**
 * Keeps a pgvector table in step with a table of texts, and finds texts by what they mean.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     VECTOR_URL=postgresql://… deno run --allow-net --allow-env="DATABASE_URL,VECTOR_URL,PG*" --allow-read=node_modules examples/pgvector.ts
 *
 * With a question behind it, it answers that and ends. Ctrl+C stops it; the slot "pgvector_example" stays, and holds on to the WAL until it is read or dropped.
 *
 * DATABASE_URL is where the texts are; VECTOR_URL, by default the same, is where the vectors go. Needs
 * the extension pgvector there: https://github.com/pgvector/pgvector
 */
import process from "node:process";
import { PgStream } from "@pgstream/pgstream";
import { PgVectorSink } from "@pgstream/pgstream/pgvector";
import { documents, type Tables } from "./documents.ts";
import { embed, EMBEDDING_DIMENSIONS } from "./embed.ts";

const dsn = process.env.VECTOR_URL ?? process.env.DATABASE_URL;
if (dsn === undefined) throw new Error("Set VECTOR_URL or DATABASE_URL");

const stream = new PgStream<Tables>({ slotName: "pgvector_example" });
stream.sink(
  new PgVectorSink({
    dsn,
    table: "document_embeddings",
    // The index is made once the rows are there that were there before.
    createTable: { dimensions: EMBEDDING_DIMENSIONS, index: "hnsw" },
  }),
);
stream.sync("documents", documents(embed));
// Called once the store has it.
stream.onChange(({ operation, key }) => console.log(operation, key ?? "all"));

await stream.setup();
const question = process.argv[2];
if (question === undefined) {
  console.log("streaming");
  await stream.start({ signals: true });
} else {
  for (const { score, payload } of await stream.search("documents", question, { limit: 3 })) {
    console.log(score.toFixed(2), payload.id, payload.content);
  }
  await stream.stop();
}
