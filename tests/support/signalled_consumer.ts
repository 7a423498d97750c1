/**
 * A consumer that is told to stop by signals: `signalled_consumer.ts DSN SLOT TABLE ROUNDS SEED`. It
 * sends itself SIGINT or SIGTERM at a random moment of each run, starts again, and prints for each the
 * keys that were handled. With 0 rounds it prints `begun` at its first event, whose handler never ends.
 */
import process from "node:process";
import { PgStream } from "../../mod.ts";
import { seededRandom } from "./random.ts";

const [dsn, slotName, table, rounds, seed] = process.argv.slice(2);
const random = seededRandom(Number(seed));
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const hangs = Number(rounds) === 0;

let keys: number[] = [];
let begun = 0;
const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false });
stream.watch(table!).onChange(async (event) => {
  begun++;
  if (hangs) {
    console.log("begun");
    await new Promise(() => setInterval(() => {}, 1000));
  }
  if (random() < 0.5) await sleep(random() * 4);
  keys.push(Number(event.key));
});
for (let round = 0; round < Number(rounds); round++) {
  const running = stream.start({ signals: true });
  // Half of them while it connects, perhaps; the others while it handles events.
  while (round % 2 === 1 && stream.status().state === "connecting") await sleep(1);
  const signal = random() < 0.5 ? "SIGINT" : "SIGTERM";
  setTimeout(() => process.kill(process.pid, signal), random() * 80);
  await running;
  if (begun !== keys.length) throw new Error(`${begun} were begun, and ${keys.length} finished`);
  console.log(JSON.stringify(keys));
  keys = [];
  begun = 0;
}
if (hangs) await stream.start({ signals: true });
