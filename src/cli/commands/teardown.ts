/** `pgstream teardown`: takes away what `setup` made on the server. */

import process from "node:process";
import { createInterface } from "node:readline/promises";
import { PgStream } from "../../stream/pg_stream.ts";
import type { Command, Invocation } from "../command.ts";
import { usageError } from "../errors.ts";
import { streamOptions } from "../streams.ts";

/** `pgstream teardown`. */
export const teardown: Command = {
  summary: "Drops the replication slot, and the publication that was made for it",
  operands: "",
  description: "What was not handled by then is lost to the slot's consumer, and the next setup " +
    "begins anew, rows that are there included. The store is left as it is. A publication that " +
    "somebody else made stays.",
  options: {
    yes: { type: "boolean", short: "y", help: "do not ask" },
    "keep-publication": { type: "boolean", help: "drop the slot only" },
    json: { type: "boolean", help: "what was dropped, as one line of JSON" },
  },
  examples: [
    ["pgstream teardown", "asks, then drops what the file names"],
    ["pgstream teardown --slot search --yes", "drops the slot search and its publication"],
  ],
  run,
};

async function run({ values, settings, terminal, signal }: Invocation): Promise<number> {
  const told = await settings();
  const { dsn, slotName, publicationName, logger } = told;
  const keep = values["keep-publication"] === true;
  if (values.yes !== true) {
    const what = `slot "${slotName}"${keep ? "" : ` and publication "${publicationName}"`}`;
    if (process.stdin.isTTY !== true) {
      throw usageError(`There is nobody to ask whether to drop ${what}`, "Say --yes");
    }
    const asking = createInterface({ input: process.stdin, output: process.stderr });
    const answer = await asking.question(`Drop ${what}? [y/N] `, { signal }).finally(() =>
      asking.close()
    );
    if (!/^y(es)?$/i.test(answer.trim())) {
      terminal.note("Nothing was dropped");
      return 1;
    }
  }
  const stream = new PgStream({
    ...dsn === undefined ? {} : { dsn },
    ...streamOptions(told),
    // What is known of rows that were handed out goes with the slot.
    backfill: "initial",
    logger,
  });
  await stream.teardown({ dropPublication: !keep });
  if (values.json === true) {
    await terminal.printJson({ slotName, publicationName: keep ? null : publicationName });
  } else {
    await terminal.print(
      `Dropped slot "${slotName}"${keep ? "" : ", and the publication it owned"}`,
    );
  }
  return 0;
}
