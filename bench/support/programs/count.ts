/**
 * Takes events of a table from a temporary slot, and does nothing with them: `count.ts DSN PUBLICATION TABLE EVENTS`.
 * Says `Watching` on stderr, as `pgstream tail` does, and ends after so many.
 */
import process from "node:process";
import { PgStream } from "../../../mod.ts";

const [dsn, publicationName, table, events] = process.argv.slice(2);
const stream = new PgStream({
  dsn: dsn!,
  slotName: `bench_${process.pid}`,
  publicationName: publicationName!,
  temporary: true,
});
const enough = new AbortController();
let count = 0;
stream.watch(table!).onBatch((batch) => {
  count += batch.length;
  if (count >= Number(events)) enough.abort();
}, { maxEvents: 1000, maxDelayMs: 0 });
stream.onStateChange((state) => {
  if (state === "streaming") process.stderr.write("Watching\n");
});
await stream.start({ signal: enough.signal });
