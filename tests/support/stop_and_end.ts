/**
 * A process that stops its stream and has nothing else to do: `stop_and_end.ts DSN SLOT TABLE WHEN`.
 * It prints `stopped` once stop() is done; a test looks how long it lives from there.
 */
import process from "node:process";
import { PgStream } from "../../mod.ts";

const [dsn, slotName, table, when] = process.argv.slice(2);
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false });
stream.watch(table!).onChange(() => {});
const running = stream.start();
if (when === "connecting") {
  await sleep(300);
  await stream.stop({ timeoutMs: 20_000 });
} else {
  while (stream.status().state === "connecting") await sleep(5);
  const stops = [stream.stop({ timeoutMs: 20_000 })];
  // While the connection is being closed, and after it.
  for (const ms of [0, 0, 1, 5, 50]) {
    await sleep(ms);
    stops.push(stream.stop({ timeoutMs: 20_000 }));
  }
  await Promise.all(stops);
  await stream.stop({ timeoutMs: 20_000 });
}
await running;
console.log("stopped");
