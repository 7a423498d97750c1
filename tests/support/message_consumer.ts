/**
 * A consumer of messages to be killed: `message_consumer.ts DSN SLOT TABLE PREFIX LAST` prints a line for each
 * event and each message. The message whose content is LAST it never finishes with. It never ends by itself.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { PgStream } from "../../mod.ts";

const [dsn, slotName, table, prefix, last] = process.argv.slice(2);
const print = (line: string) => writeSync(1, `${line}\n`);
const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false });
stream.watch(table!);
stream.onChange((event) => print(`row ${event.key}`));
stream.onMessage(prefix!, async (message) => {
  const content = new TextDecoder().decode(message.content);
  print(content);
  if (content === last) await new Promise(() => {});
});
// Keeps the process alive.
setInterval(() => {}, 1000);
await stream.start();
