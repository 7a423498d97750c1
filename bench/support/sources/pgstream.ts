/** `PgStream` with its defaults. */
import process from "node:process";
import { PgStream } from "../../../mod.ts";
import type { Source, SourceOptions } from "./source.ts";

/** As `openSource`. */
export async function open(options: SourceOptions): Promise<Source> {
  const { dsn, slotName, table, onInsert } = options;
  const stream = new PgStream({ dsn, slotName, logger: false });
  stream.watch(table).onChange((event) => {
    if (event.operation === "insert") return onInsert(event.row.id as string);
  });
  const running = stream.start();
  running.catch((error) => {
    console.error(error);
    process.exit(1);
  });
  while (stream.status().state !== "streaming") await new Promise((done) => setTimeout(done, 1));
  return {
    async stop() {
      await stream.stop();
      await running;
    },
  };
}
