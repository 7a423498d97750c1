/** As a user would write it: `first_event.js DSN SLOT TABLE`. Prints a line at the first event, and ends. */
import process from "node:process";
import { PgStream } from "../../../mod.ts";

const [dsn, slotName, table] = process.argv.slice(2);
const stream = new PgStream({ dsn, slotName, logger: false });
let first = true;
stream.watch(table).onChange(() => {
  if (!first) return;
  first = false;
  console.log("event");
  void stream.stop();
});
await stream.start();
