/** `pgstream teardown`: takes away what `setup` made on the server. */

import { SlotManager, type TeardownReport } from "../../replication/slot_manager.ts";
import { PgStream } from "../../stream/pg_stream.ts";
import { Asking } from "../asking.ts";
import type { Command, Invocation } from "../command.ts";
import { pick } from "../pick.ts";
import { streamOptions } from "../streams.ts";

/** `pgstream teardown`. */
export const teardown: Command = {
  summary: "Drops the replication slot, and the publication that was made for it",
  operands: "",
  description: "What was not handled by then is lost to the slot's consumer, and the next setup " +
    "begins anew, rows that are there included. The store is left as it is. A publication that " +
    "somebody else made stays, and what is not there is no error.\n\n" +
    "It needs no file: --slot will do. While somebody streams from the slot, nothing is dropped.",
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
  const { slotName, publicationName, logger } = told;
  const keep = values["keep-publication"] === true;
  if (values.yes !== true) {
    const what = `slot "${slotName}"${keep ? "" : ` and publication "${publicationName}"`}`;
    const asking = new Asking(signal, `whether to drop ${what}`, "Say --yes");
    const wanted = await asking.confirm(`Drop ${what}?`).finally(() => asking.close());
    if (!wanted) {
      terminal.note("Nothing was dropped");
      return 1;
    }
  }
  const source = { ...pick(told, "dsn"), logger };
  const slots = new SlotManager({ ...source, slotName, publicationName });
  const report = await slots.teardown({ dropPublication: !keep, signal });
  // What is known of rows that were handed out goes with the slot: a stream keeps that, and its own is gone by now.
  const stream = new PgStream({ ...source, ...streamOptions(told), backfill: "initial" });
  await stream.teardown({ dropPublication: false, signal });
  if (values.json === true) {
    await terminal.printJson({ slotName, publicationName, ...report });
    return 0;
  }
  await terminal.print(`Slot "${slotName}" ${SAID[report.slot]}`);
  await terminal.print(`Publication "${publicationName}" ${SAID[report.publication]}`);
  return 0;
}

const SAID: Readonly<Record<TeardownReport["slot"], string>> = {
  dropped: "was dropped",
  missing: "was not there",
  kept: "stays",
};
