/**
 * A Worker on Cloudflare that a cron trigger wakes: it handles what was committed since it ran last, and keeps
 * a Qdrant collection in step with a table of texts.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     cd examples/workers
 *     npx wrangler secret put DATABASE_URL     # and EMBEDDINGS_KEY, QDRANT_API_KEY
 *     npx wrangler deploy                      # wrangler.jsonc has the other variables
 *
 * Cloudflare has to reach the server: its certificate is of a public authority, or the DSN says
 * sslmode=disable. The first run makes the slot "workers_example", which holds on to the WAL between two
 * runs, until it is dropped.
 */
import { connect } from "cloudflare:sockets";
import { PgStream } from "@pgstream/pgstream";
import { QdrantSink } from "@pgstream/pgstream/qdrant";
import { openAiEmbedder } from "@pgstream/pgstream/sync";
import { workersConnect } from "@pgstream/pgstream/workers";
import { documents, type Tables } from "../documents.ts";

interface Env {
  DATABASE_URL: string;
  QDRANT_URL: string;
  QDRANT_API_KEY?: string;
  /** Of an API like OpenAI's: `https://api.openai.com/v1`. */
  EMBEDDINGS_URL: string;
  EMBEDDINGS_KEY?: string;
  EMBEDDINGS_MODEL: string;
  /** Length of the model's vectors. */
  EMBEDDINGS_DIMENSIONS: string;
}

export default {
  async scheduled(_controller: unknown, env: Env): Promise<void> {
    // Sockets belong to one run, and so does the stream.
    const stream = new PgStream<Tables>({
      dsn: env.DATABASE_URL,
      slotName: "workers_example",
      connect: workersConnect(connect),
    });
    stream.sink(
      new QdrantSink({
        url: env.QDRANT_URL,
        collectionName: "documents",
        createCollection: { size: Number(env.EMBEDDINGS_DIMENSIONS), distance: "Cosine" },
        ...(env.QDRANT_API_KEY ? { apiKey: env.QDRANT_API_KEY } : {}),
      }),
    );
    const embed = openAiEmbedder({
      url: env.EMBEDDINGS_URL,
      model: env.EMBEDDINGS_MODEL,
      ...(env.EMBEDDINGS_KEY ? { apiKey: env.EMBEDDINGS_KEY } : {}),
    });
    stream.sync("documents", documents(embed));
    try {
      await stream.setup();
      const { events, lsn, busy } = await stream.catchUp({ signal: AbortSignal.timeout(60_000) });
      console.log(busy ? "another run is at it" : `${events} events, up to ${lsn}`);
    } finally {
      await stream.stop();
    }
  },
};
