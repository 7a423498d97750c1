/** `pgstream backfill`: rows of tables, once more. */

import type { Command, Invocation } from "../command.ts";
import { beside } from "../beside.ts";
import { usageError } from "../errors.ts";
import { formatCount } from "../progress_line.ts";
import { namedTables, streamOf } from "../streams.ts";
import { EmbeddedTexts, tellOf } from "../watched_stream.ts";

/** `pgstream backfill`. */
export const backfill: Command = {
  summary: "Brings rows that are there already into the store once more",
  operands: "TABLE…",
  description:
    "All rows of the tables, or those that are asked for, in step with changes. A text " +
    "that the store has a vector of already is not embedded again. It needs the slot: no other " +
    "pgstream may run meanwhile; pgstream sync does it by itself the first time.",
  options: {
    where: { type: "string", value: "SQL", help: "only rows for which this condition holds" },
    key: {
      type: "string",
      multiple: true,
      value: "KEY",
      help: "only the row with this key; may be given several times",
    },
    json: { type: "boolean", help: "its status as JSON lines" },
  },
  examples: [
    ["pgstream backfill documents", "all rows of it"],
    [`pgstream backfill documents --where "updated_at > now() - interval '1 day'"`, "some of them"],
    ["pgstream backfill documents --key 7 --key 8", "two of them"],
  ],
  run,
};

async function run(
  { values, positionals, settings, terminal, signal }: Invocation,
): Promise<void> {
  if (positionals.length === 0) {
    throw usageError("backfill needs a table", "pgstream backfill TABLE");
  }
  const told = await settings();
  const tables = namedTables(told, positionals);
  if (values.key !== undefined && tables.length > 1) {
    throw usageError("--key is for one table", "Call it once for each");
  }
  const which = {
    ...values.where === undefined ? {} : { where: values.where as string },
    ...values.key === undefined ? {} : { keys: values.key as string[] },
  };
  const embedded = new EmbeddedTexts();
  const stream = await streamOf(told, { stream: { observer: embedded }, signal });
  const telling = tellOf(stream, terminal, { json: values.json === true, embedded });
  try {
    await stream.setup({ signal });
    await beside(stream, signal, async () => {
      for (const table of tables) await stream.backfill(table, { ...which, signal });
    });
  } finally {
    telling.end();
    await stream.stop();
  }
  if (values.json !== true) {
    await terminal.print(
      `Done: ${tables.join(", ")}, ${formatCount(embedded.count)} texts embedded`,
    );
  }
}
