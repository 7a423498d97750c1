/**
 * A process that leaves a loop over changes() and has nothing else to do: `leaves_loop.ts DSN SLOT TABLE
 * HOW`. It prints `in` at its first transaction and `left` behind the loop, and is to end by itself.
 */
import process from "node:process";
import { PgStream } from "../../mod.ts";

const [dsn, slotName, table, how] = process.argv.slice(2);
const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false });
stream.watch(table!);
const abort = new AbortController();
try {
  for await (const transaction of stream.changes({ signal: abort.signal })) {
    console.log("in");
    if (how === "ack") transaction.ack();
    if (how === "throw") throw new Error("thrown");
    if (how === "abort") abort.abort();
    else break;
  }
} catch (error) {
  if ((error as Error).message !== "thrown") throw error;
}
console.log("left");
