/**
 * A process that stops its stream and has nothing else to do: `stop_and_end.ts DSN SLOT TABLE WHEN`.
 * It prints `stopped` once stop() is done; a test looks how long it lives from there.
 */
import process from "node:process";
import { setImmediate } from "node:timers";
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
  let ended = false;
  void running.then(() => ended = true);
  // At each step until it has ended: while the handler is waited for, and while the connection closes.
  const stops: Promise<void>[] = [];
  while (!ended) {
    for (let tick = 0; tick < 100; tick++) {
      stops.push(stream.stop({ timeoutMs: 20_000 }));
      await null;
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(stops);
  await stream.stop({ timeoutMs: 20_000 });
}
await running;
console.log("stopped");
