/** `pgstream sync`: keeps a store in step with tables, as a file says. */

import type { Command, Invocation } from "../command.ts";
import { streamOf } from "../streams.ts";
import { tellOf } from "../watched_stream.ts";

/** `pgstream sync`. */
export const sync: Command = {
  summary: "Keeps a vector store in step with tables, as a file says",
  operands: "",
  description: "Makes slot and publication where they are missing, embeds the rows that are " +
    "there already, then all that is committed, until Ctrl+C. What is in hand is finished then; " +
    "the next start goes on from there. A lost connection is made anew.",
  options: {
    once: { type: "boolean", help: "end when all is done that is committed by now: for cron" },
    "no-setup": { type: "boolean", help: "make nothing: slot and publication are there" },
    json: { type: "boolean", help: "its status as JSON lines, at each change and once a minute" },
  },
  examples: [
    ["pgstream sync", "what pgstream.json in this folder says, until Ctrl+C"],
    [
      "pgstream sync --once --config docs.json",
      "what was committed since the last time; then it ends",
    ],
  ],
  run,
};

async function run({ values, settings, terminal, signal }: Invocation): Promise<void> {
  const told = await settings();
  const stream = await streamOf(told, { signal });
  const telling = tellOf(stream, terminal, values.json === true);
  try {
    if (values["no-setup"] !== true) await stream.setup({ signal });
    if (values.once !== true) return await stream.start({ signal });
    const report = await stream.catchUp({ signal });
    terminal.endProgress();
    if (report.busy) {
      terminal.note(`Another session holds the slot "${told.slotName}": nothing was done`);
    } else if (values.json !== true) {
      await terminal.print(`Handled ${report.events} changes, up to ${report.lsn}`);
    }
  } finally {
    telling.end();
    await stream.stop();
  }
}
