/**
 * Batches, several at a time, with a place for what cannot be handled.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/dead_letters.ts
 *
 * Ctrl+C stops it; the slot "dead_letters_example" stays, and holds on to the WAL until it is read or
 * dropped. Reads DATABASE_URL, or the PG* variables.
 */
import { type ChangeEvent, PgStream } from "@pgstream/pgstream";

/** What stands for a call that takes many at once, and refuses all of them for the sake of one. */
async function index(events: ChangeEvent[]): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 10));
  if (events.some(({ row }) => row?.content === "poison")) throw new Error("cannot be indexed");
  console.log(`indexed ${events.map(({ operation, key }) => `${operation} ${key}`).join(", ")}`);
}

const stream = new PgStream({
  slotName: "dead_letters_example",
  concurrency: 4,
  retry: { attempts: 3, minDelayMs: 20 },
  onFailure: ({ error, events, attempts }) => {
    // A table, a file, a queue: once this is done, the event counts as handled.
    for (const { key, lsn, ordinal } of events) {
      console.log(`kept aside: ${key} (${lsn}, ${ordinal}) after ${attempts} tries, ${error}`);
    }
    return "skip";
  },
  logger: false,
});
stream.watch("documents");
stream.onBatch((events) => index(events), { maxEvents: 50, maxDelayMs: 100 });

await stream.setup();
console.log("streaming");
await stream.start({ signals: true });
