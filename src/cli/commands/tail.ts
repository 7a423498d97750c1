/** `pgstream tail`: changes of tables, as they happen. */

import process from "node:process";
import { MemoryStateStore } from "../../backfill/state_store.ts";
import type { ChangeEvent } from "../../change.ts";
import { publishes } from "../../inspect/publishes.ts";
import { PgStream } from "../../stream/pg_stream.ts";
import { formatTableName, parseTableName } from "../../table_name.ts";
import type { Command, Invocation } from "../command.ts";
import { usageError } from "../errors.ts";
import { eventJson, eventLine } from "../format_event.ts";
import type { Settings } from "../settings.ts";
import { printable } from "../terminal.ts";
import { widthOf } from "../text_width.ts";

const OPERATIONS: readonly string[] = ["insert", "update", "delete", "truncate"];
/** What is printed at once, where much comes at once. */
const BUFFER_CHARS = 64 * 1024;

/** `pgstream tail`. */
export const tail: Command = {
  summary: "Prints changes of tables as they happen",
  operands: "TABLE…",
  description: "A line for each change: for a person with colours, in a pipe as JSON.\n\n" +
    "It reads from a temporary slot of its own, which ends with its connection: nothing is left " +
    "behind, however it ends, and no other consumer misses anything. A publication that has the " +
    "tables is used as it is; else one is made, pgstream_tail_…, and dropped at the end. Where " +
    "tail was killed, that publication stays: it keeps nothing back.",
  options: {
    "from-start": {
      type: "boolean",
      help: "first the rows that are there already, then changes, in step with each other",
    },
    operation: {
      type: "string",
      value: "LIST",
      help: `only these, of ${OPERATIONS.join(",")}`,
    },
    columns: { type: "string", value: "LIST", help: "only these columns, in this order" },
    limit: { type: "string", value: "N", help: "end after so many" },
    json: { type: "boolean", help: "JSON lines in a terminal, too" },
    temporary: { type: "boolean", help: "a slot that leaves nothing behind. The default" },
    lasting: {
      type: "boolean",
      help: "read from the slot named by --slot, which is made where it is missing: what it has " +
        "shown is confirmed, and not shown again",
    },
  },
  examples: [
    [
      "pgstream tail documents --dsn postgresql://postgres@localhost/app",
      "changes of public.documents, until Ctrl+C",
    ],
    [
      "pgstream tail documents --from-start --limit 3 --columns id,title",
      "three rows, if there are as many, or what is changed next: is it all there?",
    ],
    [
      "pgstream tail orders blog.articles --operation insert,delete | jq -r .key",
      "keys of what comes and goes",
    ],
  ],
  run,
};

async function run({ values, positionals, settings, terminal, signal }: Invocation): Promise<void> {
  if (positionals.length === 0) {
    throw usageError("tail needs a table", "pgstream tail TABLE; pgstream doctor tells which");
  }
  const operations = listOf(values.operation) ?? OPERATIONS;
  const unknown = operations.find((operation) => !OPERATIONS.includes(operation));
  if (unknown !== undefined) {
    throw usageError(`There is no operation "${unknown}"`, `Choose of ${OPERATIONS.join(", ")}`);
  }
  const limit = values.limit === undefined ? Infinity : Number(values.limit);
  if (!(limit >= 1)) throw usageError("--limit is no number from 1", "Such as --limit 10");
  if (values.temporary === true && values.lasting === true) {
    throw usageError("A slot is either temporary or lasting", "Leave one of them out");
  }
  const lasting = values.lasting === true;
  const only = listOf(values.columns);
  const tables = positionals.map((name) => parseTableName(name));
  const layout = {
    tableColumns: Math.max(...tables.map((name) => widthOf(printable(formatTableName(name))))),
    only,
    tone: terminal.tone.bind(terminal),
  };
  const lineOf = values.json === true || !terminal.isPerson
    ? (event: ChangeEvent) => eventJson(event, only)
    : (event: ChangeEvent) => eventLine(event, { ...layout, columns: terminal.columns });

  const told = await settings();
  const own = await publicationToMake(told, positionals, lasting, signal);
  const enough = new AbortController();
  const stream = new PgStream({
    ...told.dsn === undefined ? {} : { dsn: told.dsn },
    slotName: lasting ? told.slotName : own ?? tailName(),
    publicationName: own ?? told.publicationName,
    temporary: !lasting,
    backfill: values["from-start"] === true ? "initial" : "never",
    ...lasting ? {} : { stateStore: new MemoryStateStore(), onSlotLost: "recreate" },
    logger: told.logger,
  });
  stream.watch(...positionals);
  let lines: string[] = [];
  let chars = 0;
  let count = 0;
  const print = (): Promise<void> | void => {
    if (lines.length === 0) return;
    const text = lines.join("\n");
    lines = [];
    chars = 0;
    return terminal.print(text);
  };
  stream.onChange((event) => {
    if (count >= limit || !operations.includes(event.operation)) return;
    const line = lineOf(event);
    if (lines.length === 0) setImmediate(print);
    lines.push(line);
    chars += line.length;
    if (++count >= limit) enough.abort();
    // The reader may be slow: then the stream waits, too.
    if (chars >= BUFFER_CHARS || count >= limit) return print();
  });
  stream.onGap(({ fromLsn, toLsn }) =>
    terminal.note(
      `The connection was lost: changes between ${
        fromLsn ?? "the last"
      } and ${toLsn} are not shown`,
    )
  );
  stream.onStateChange((state) => {
    if (state === "streaming" && terminal.isPerson) {
      const names = tables.map(formatTableName).join(", ");
      terminal.note(terminal.errorTone("faint", `Watching ${printable(names)}; Ctrl+C ends it`));
    }
  });
  if (lasting || own !== null) await stream.setup({ signal });
  try {
    await stream.start({ signal: AbortSignal.any([signal, enough.signal]) });
    await print();
  } finally {
    if (own !== null && !lasting) await stream.teardown();
  }
}

/** The name of one to make; null where there is one that has the tables, or a lasting one is meant. */
async function publicationToMake(
  { dsn, publicationName, logger }: Settings,
  tables: readonly string[],
  lasting: boolean,
  signal: AbortSignal,
): Promise<string | null> {
  if (lasting) return null;
  const connector = dsn === undefined ? { logger } : { dsn, logger };
  return await publishes({ ...connector, publicationName, tables, signal }) ? null : tailName();
}

function tailName(): string {
  return `pgstream_tail_${process.pid}_${crypto.randomUUID().slice(0, 8)}`;
}

function listOf(value: unknown): string[] | null {
  return typeof value === "string" ? value.split(",").map((name) => name.trim()) : null;
}
