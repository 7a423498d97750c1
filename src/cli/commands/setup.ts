/** `pgstream setup`: what a stream needs on the server. */

import { SlotManager } from "../../replication/slot_manager.ts";
import type { Command, Invocation } from "../command.ts";
import { usageError } from "../errors.ts";
import { streamOf, tableParts } from "../streams.ts";

/** `pgstream setup`. */
export const setup: Command = {
  summary: "Makes the publication and the replication slot, and what the store needs",
  operands: "[TABLE…]",
  description: "Of the tables of the file, store and all, or of those that are named, without a " +
    "store. What is there is left as it is, and what would break the table's writers is refused. " +
    "pgstream sync does the same when it starts.",
  options: {
    json: { type: "boolean", help: "what was done, as one line of JSON" },
  },
  examples: [
    ["pgstream setup", "what the file says"],
    [
      "pgstream setup documents orders --slot search",
      "slot and publication search, for two tables",
    ],
  ],
  run,
};

async function run(
  { values, positionals, settings, terminal, signal }: Invocation,
): Promise<void> {
  const told = await settings();
  const { dsn, slotName, publicationName, logger, config } = told;
  if (positionals.length === 0 && tableParts(config).length === 0) {
    throw usageError("setup needs a table", "pgstream setup TABLE, or a file: pgstream init");
  }
  const source = dsn === undefined ? { logger } : { dsn, logger };
  const ofFile = async () => {
    const stream = await streamOf(told, { signal });
    try {
      return await stream.setup({ signal });
    } finally {
      await stream.stop();
    }
  };
  const ofNamed = async () => {
    const slots = new SlotManager({
      ...source,
      slotName,
      publicationName,
      tables: positionals,
      failover: config.failover ?? false,
    });
    const report = await slots.setup({ signal });
    for (const warning of report.warnings) logger.warn(warning);
    return report;
  };
  const report = await (positionals.length === 0 ? ofFile() : ofNamed());
  if (values.json === true) {
    return await terminal.printJson({ slotName, publicationName, ...report });
  }
  await terminal.print(`Slot "${slotName}" was ${report.slot}`);
  await terminal.print(`Publication "${publicationName}" was ${report.publication}`);
  for (const table of report.added) await terminal.print(`  added ${table}`);
  for (const table of report.removed) await terminal.print(`  removed ${table}`);
  for (const table of report.changed) await terminal.print(`  changed ${table}`);
}
