/** `pgstream setup`: what a stream needs on the server. */

import { type SetupReport, SlotManager } from "../../replication/slot_manager.ts";
import { parseWatchedName } from "../../replication/watched_table.ts";
import { formatTableName } from "../../table_name.ts";
import type { Command, Invocation } from "../command.ts";
import { usageError } from "../errors.ts";
import { pick } from "../pick.ts";
import type { Settings } from "../settings.ts";
import { streamOf, tableParts } from "../streams.ts";

/** `pgstream setup`. */
export const setup: Command = {
  summary: "Makes the publication and the replication slot, and what the store needs",
  operands: "[TABLE…]",
  description: "Of the tables of the file, store and all, or of those that are named, without a " +
    "store; of these the file's columns and where count, too. What is there is left as it is, but " +
    "that the slot's own publication has these tables then and no other. What would break the " +
    "table's writers is refused. pgstream sync does the same when it starts.",
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
  const { slotName, publicationName } = told;
  if (positionals.length === 0 && tableParts(told.config).length === 0) {
    throw usageError("setup needs a table", "pgstream setup TABLE, or a file: pgstream init");
  }
  const report =
    await (positionals.length === 0
      ? setUpFile(told, signal)
      : setUpTables(told, positionals, signal));
  if (values.json === true) {
    return await terminal.printJson({ slotName, publicationName, ...report });
  }
  await terminal.print(`Slot "${slotName}" was ${report.slot}`);
  await terminal.print(`Publication "${publicationName}" was ${report.publication}`);
  for (const table of report.added) await terminal.print(`  added ${table}`);
  for (const table of report.removed) await terminal.print(`  removed ${table}`);
  for (const table of report.changed) await terminal.print(`  changed ${table}`);
}

async function setUpFile(told: Settings, signal: AbortSignal): Promise<SetupReport> {
  const stream = await streamOf(told, { signal });
  try {
    return await stream.setup({ signal });
  } finally {
    await stream.stop();
  }
}

async function setUpTables(
  told: Settings,
  tables: readonly string[],
  signal: AbortSignal,
): Promise<SetupReport> {
  const { slotName, publicationName, config, logger } = told;
  const full = (name: string) => formatTableName(parseWatchedName(name));
  const parts = new Map(tableParts(config).map((part) => [full(part.table), part]));
  const slots = new SlotManager({
    ...pick(told, "dsn"),
    slotName,
    publicationName,
    tables: tables.map((table) => parts.get(full(table)) ?? table),
    ...pick(config, "failover"),
    ...pick(config, "publishGeneratedColumns"),
    logger,
  });
  const report = await slots.setup({ signal });
  for (const warning of report.warnings) logger.warn(warning);
  return report;
}
