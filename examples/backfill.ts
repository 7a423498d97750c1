/**
 * The rows that are there already, then every change. Start it again: it goes on where it was.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/backfill.ts
 *
 * The first run makes the slot "backfill_example", which holds on to the WAL until it is dropped, and the
 * table pgstream.state. Reads DATABASE_URL, or the PG* variables.
 */
import { PgStream } from "@pgstream/pgstream";

const stream = new PgStream({ slotName: "backfill_example", backfill: "initial" });
stream.watch("documents");
stream.onChange((event) => {
  if (event.operation === "truncate") console.log("all rows are gone, or come again");
  else console.log(event.backfill ? "was there" : event.operation, event.key);
});

await stream.setup();
const progress = setInterval(() => {
  const { backfill } = stream.status();
  if (backfill === null) return;
  console.log(`${backfill.table}: ${backfill.rows} rows, ${backfill.secondsLeft ?? "?"} s left`);
}, 1000);
await stream.start({ signals: true });
clearInterval(progress);
