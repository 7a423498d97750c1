/** Who has installed the package: `consumer.js DSN` streams three rows, and imports every entry point. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { PgStream } from "@pgstream/pgstream";

const [dsn] = process.argv.slice(2);
const stream = new PgStream({ dsn, slotName: "consumer", backfill: "initial", logger: false });
let seen = 0;
stream.watch("documents").onChange(({ operation, key, backfill }) => {
  console.log(operation, key, backfill);
  if (++seen === 3) stream.stop();
});
await stream.setup();
await stream.start();
await stream.teardown();

const installed = new URL("node_modules/@pgstream/pgstream/package.json", import.meta.url);
for (const entry of Object.keys(JSON.parse(readFileSync(installed, "utf8")).exports)) {
  const found = await import(entry.replace(/^\./, "@pgstream/pgstream"));
  console.log(entry, Object.keys(found).length > 0);
}
