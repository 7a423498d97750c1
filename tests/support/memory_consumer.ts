/**
 * A consumer that tells what memory it takes: `memory_consumer.ts DSN SLOT TABLE
 * MAX_QUEUE_BYTES TRANSACTIONS EVERY SLEEP_MS`. After each transaction it prints the most that it took
 * meanwhile, and what it takes by then. A process of its own, since that of a test has had a life before.
 * The handler sleeps once in EVERY events, as a slow sink does; the first time of each transaction until the
 * queue has filled, so that one is slower than the server however slow that is.
 */
import process from "node:process";
import { PgStream } from "../../mod.ts";

const [dsn, slotName, table, ...numbers] = process.argv.slice(2);
const [maxQueueBytes, transactions, every, sleepMs] = numbers.map(Number) as [
  number,
  number,
  number,
  number,
];
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** A transaction that is too small to fill the queue is waited for no longer. */
const FILLED_WITHIN_MS = 10_000;

let handled = 0;
let mostBytes = 0;
let mostQueued = 0;
function look(): number {
  const { rss } = process.memoryUsage();
  mostBytes = Math.max(mostBytes, rss);
  mostQueued = Math.max(mostQueued, stream.status().queueBytes);
  return rss;
}
const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false, maxQueueBytes });
stream.watch(table!).onChange(async () => {
  if (++handled % every !== 0) return;
  look();
  const until = Date.now() + (handled === every ? FILLED_WITHIN_MS : 0);
  do await sleep(sleepMs); while (
    stream.status().queueBytes < maxQueueBytes * 0.6 && Date.now() < until
  );
  // After the pause, which is when the queue has filled.
  look();
});
const running = stream.start();
running.catch((error) => {
  console.error(error);
  process.exit(1);
});
for (let done = 1; done <= transactions; done++) {
  while (stream.status().transactions < done) {
    look();
    await sleep(20);
  }
  // Behind the confirmation, when nothing is left to do.
  await sleep(300);
  const nowBytes = look();
  console.log(JSON.stringify({ handled, nowBytes, mostBytes, mostQueued }));
  handled = mostBytes = mostQueued = 0;
}
await stream.stop();
await running;
