/**
 * Keeps a pgvector table in step with a table of texts.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     VECTOR_URL=postgresql://… deno run --allow-net --allow-env="DATABASE_URL,VECTOR_URL,PG*" --allow-read=node_modules examples/pgvector.ts
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
import { keepInStep } from "./in_step.ts";

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
stream.onChange(keepInStep(embed));
stream.onChange(({ operation, key }) => console.log(operation, key));

await stream.setup();
console.log("streaming");
await stream.start({ signals: true });
