/**
 * A consumer to be killed: `consumer.ts DSN SLOT TABLE DELAY_MS` prints a line for each event before it
 * counts as handled, `(lsn, ordinal)` and key. It never ends by itself.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { PgStream } from "../../mod.ts";

const [dsn, slotName, table, delayMs] = process.argv.slice(2);
const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false });
stream.watch(table!);
stream.onChange(async (event) => {
  await new Promise((resolve) => setTimeout(resolve, Number(delayMs)));
  writeSync(1, `${JSON.stringify([event.lsn, event.ordinal, event.key])}\n`);
});
for (;;) {
  try {
    await stream.start();
  } catch (error) {
    // The server takes a moment to see that the consumer before this one is gone.
    if ((error as { kind?: string }).kind !== "slot-in-use") throw error;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
