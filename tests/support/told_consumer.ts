/**
 * A consumer to be killed: `told_consumer.ts DSN SLOT TABLE JSON`. The JSON tells the options of its
 * stream, the limits of its batches where it takes batches, and the keys at which it hangs. It prints
 * `+` and the keys when a handler begins, `-` and the keys when one is about to end; first of all its PID,
 * where it is told to.
 */
import { writeSync } from "node:fs";
import process from "node:process";
import { type ChangeEvent, PgStream, type PgStreamOptions } from "../../mod.ts";

/** What a consumer is told. */
export interface Told {
  options?: PgStreamOptions;
  /** Where it takes batches. */
  batch?: { maxEvents?: number; maxBytes?: number; maxDelayMs?: number };
  hangOn?: string[];
  printPid?: boolean;
}

if (process.argv[1]?.endsWith("told_consumer.ts")) {
  const [dsn, slotName, table, json] = process.argv.slice(2);
  const { options = {}, batch, hangOn = [], printPid } = JSON.parse(json!) as Told;
  const stream = new PgStream({ dsn: dsn!, slotName: slotName!, logger: false, ...options });
  stream.watch(table!);
  if (printPid) writeSync(1, `${process.pid}\n`);
  const print = (sign: string, events: ChangeEvent[]) =>
    writeSync(1, `${sign} ${events.map(({ key }) => key).join(" ")}\n`);
  const handle = async (events: ChangeEvent[]) => {
    print("+", events);
    const hangs = events.some(({ key }) => hangOn.includes(key!));
    await new Promise((resolve) => hangs ? setInterval(() => {}, 1000) : setTimeout(resolve, 1));
    print("-", events);
  };
  if (batch !== undefined) stream.onBatch(handle, batch);
  else stream.onChange((event) => handle([event]));
  await stream.start();
}
