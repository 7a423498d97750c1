/**
 * Keeps a Qdrant collection in step with a table of texts.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     QDRANT_URL=http://localhost:6333 deno run --allow-net --allow-env="DATABASE_URL,QDRANT_*,PG*" --allow-read=node_modules examples/qdrant.ts
 *
 * Ctrl+C stops it; the slot "qdrant_example" stays, and holds on to the WAL until it is read or dropped.
 *
 * Reads DATABASE_URL, or the PG* variables; QDRANT_URL, and QDRANT_API_KEY where the server wants one.
 */
import process from "node:process";
import { PgStream } from "@pgstream/pgstream";
import { QdrantSink } from "@pgstream/pgstream/qdrant";
import { documents, type Tables } from "./documents.ts";
import { embed, EMBEDDING_DIMENSIONS } from "./embed.ts";

const { QDRANT_URL: url = "http://localhost:6333", QDRANT_API_KEY: apiKey } = process.env;

const stream = new PgStream<Tables>({ slotName: "qdrant_example" });
stream.sink(
  new QdrantSink({
    url,
    collectionName: "documents",
    createCollection: { size: EMBEDDING_DIMENSIONS, distance: "Cosine" },
    payloadIndexes: { id: "integer" }, // for searches with filter: { id: … }
    ...(apiKey === undefined ? {} : { apiKey }),
  }),
);
stream.sync("documents", documents(embed));
// Called once the store has it.
stream.onChange(({ operation, key }) => console.log(operation, key ?? "all"));

await stream.setup();
console.log("streaming");
await stream.start({ signals: true });
