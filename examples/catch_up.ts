/**
 * Handles what was committed since it ran last, and ends: for cron, or a serverless function.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/catch_up.ts
 *
 * The first run makes the slot "catch_up_example"; from then on it holds on to the WAL between two
 * runs, until it is dropped. Reads DATABASE_URL, or the PG* variables.
 */
import { PgStream } from "@pgstream/pgstream";

const stream = new PgStream({ slotName: "catch_up_example" });
stream.watch("documents");
stream.onChange((event) => console.log(event.operation, event.key, JSON.stringify(event.row)));

await stream.setup();
const { events, lsn, busy } = await stream.catchUp({ signal: AbortSignal.timeout(60_000) });
console.log(busy ? "another run is at it" : `${events} events, up to ${lsn}`);
await stream.stop();
