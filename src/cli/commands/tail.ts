/** `pgstream tail`: changes of tables, as they happen. */

import { MemoryStateStore } from "../../backfill/state_store.ts";
import type { ChangeEvent } from "../../change.ts";
import { PgStream } from "../../stream/pg_stream.ts";
import { formatTableName } from "../../table_name.ts";
import { checkSlotName } from "../../replication/names.ts";
import type { Command, Invocation } from "../command.ts";
import { usageError } from "../errors.ts";
import { eventJson, eventLine } from "../format_event.ts";
import { nearest } from "../nearest.ts";
import { Output } from "../output.ts";
import { readWatched, type Watched } from "../tail_tables.ts";
import { isPublished, makePublication, tailName } from "../tail_publication.ts";
import { printable, type Terminal } from "../terminal.ts";
import { widthOf } from "../text_width.ts";

const OPERATIONS: readonly string[] = ["insert", "update", "delete", "truncate"];
/** What is printed at once, where much comes at once. */
const BATCH = { maxEvents: 1000, maxBytes: 256 * 1024, maxDelayMs: 0 };
/** Of a lasting slot that nobody named. */
const LASTING_SLOT = "pgstream_tail";
/** Keys are aligned up to here. */
const KEY_COLUMNS = 24;

/** `pgstream tail`. */
export const tail: Command = {
  summary: "Prints changes of tables as they happen",
  operands: "TABLE…",
  description: "A line for each change: for a person with colours, in a pipe as JSON, with the " +
    "names that events have in the library; values are text. A reader that is slow, or that " +
    "leaves, as head does, slows it down, or ends it.\n\n" +
    "It reads from a temporary slot, which ends with its connection: other consumers miss " +
    "nothing, and nothing holds back WAL, however it ends. A publication that has the tables " +
    "(--publication, else pgstream) is read from as it is; where there is none, tail makes one, " +
    "pgstream_tail_…, and drops it when it ends. After kill -9 that one stays, holds nothing " +
    "back, and is dropped by a later tail.",
  options: {
    "from-start": {
      type: "boolean",
      help: "first the rows that are there already, then changes, in step with each other",
    },
    operation: { type: "string", value: "LIST", help: `only these, of ${OPERATIONS.join(",")}` },
    columns: { type: "string", value: "LIST", help: "only these columns, in this order" },
    where: {
      type: "string",
      value: "SQL",
      help: "only rows for which this holds, a condition on columns of the primary key or " +
        "replica identity. PostgreSQL 15 and later",
    },
    limit: { type: "string", value: "N", help: "end after so many" },
    json: { type: "boolean", help: "JSON lines in a terminal, too" },
    quiet: { type: "boolean", short: "q", help: "nothing on stderr but errors" },
    temporary: { type: "boolean", help: "a slot that leaves nothing behind. The default" },
    lasting: {
      type: "boolean",
      help: `read from a slot that stays, --slot, else ${LASTING_SLOT}, and its publication; ` +
        "both are made where they are missing. What was shown is confirmed and not shown " +
        "again; what was not is kept, and holds back WAL, until pgstream teardown --slot NAME. " +
        "--slot means --lasting",
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
    [
      'pgstream tail documents --where "id > 1000" --quiet >> changes.jsonl',
      "changes of some rows, kept in a file",
    ],
  ],
  run,
};

async function run(invocation: Invocation): Promise<void> {
  const { values, positionals, settings, terminal, signal } = invocation;
  const { operations, limit, lasting, where, only } = readOptions(invocation);
  const given = await settings();
  const quiet = values.quiet === true;
  const logger = quiet ? { ...given.logger, warn: () => {}, info: () => {} } : given.logger;
  const slotName = !lasting
    ? tailName(Date.now())
    : typeof values.slot === "string"
    ? values.slot
    : LASTING_SLOT;
  checkSlotName(slotName);
  const named = typeof values.publication === "string";
  const told = {
    ...given,
    logger,
    publicationName: lasting && !named ? slotName : given.publicationName,
  };
  const source = told.dsn === undefined ? { logger } : { dsn: told.dsn, logger };

  const watched = await readWatched(source, positionals, only, signal);
  const own = !lasting && !named &&
    (where !== undefined || !await isPublished(told, positionals, signal));
  const stream = new PgStream({
    ...source,
    slotName,
    publicationName: own ? slotName : told.publicationName,
    temporary: !lasting,
    stateStore: new MemoryStateStore(),
    backfill: values["from-start"] === true ? "initial" : "never",
    onSlotLost: lasting ? "error" : "recreate",
    // What cannot be written once, a full disk, is not printed twice.
    retry: { attempts: 1 },
  });
  for (const name of positionals) stream.watch(name, where === undefined ? {} : { where });

  const output = new Output(terminal);
  const enough = new AbortController();
  const lineOf = lines(watched, only, values.json === true || !terminal.isPerson, terminal);
  let count = 0;
  stream.onBatch(async (events) => {
    let text = "";
    for (const event of events) {
      if (count === limit) break;
      if (!operations.includes(event.operation)) continue;
      text += `${lineOf(event)}\n`;
      count++;
    }
    if (text !== "") await output.write(text);
    if (count === limit || output.left.aborted) enough.abort();
    // What is confirmed has to be shown: at a limit no event is in the same batch as the last one.
  }, { ...BATCH, maxEvents: lasting && limit < Infinity ? 1 : BATCH.maxEvents });
  output.left.addEventListener("abort", () => enough.abort());
  const note = (text: string) => {
    if (!quiet) terminal.note(terminal.errorTone("faint", text));
  };
  stream.onGap(({ toLsn }) =>
    note(`The connection was lost: what was committed before ${toLsn} may be missing`)
  );
  let watching = false;
  stream.onStateChange((state) => {
    if (state !== "streaming" || watching) return;
    watching = true;
    const names = watched.map(formatTableName).map(printable).join(", ");
    note(`Watching ${names} (Ctrl+C ends it)`);
  });
  try {
    if (own) await makePublication(stream, told, positionals, signal);
    else if (lasting) await stream.setup({ signal });
    await stream.start({ signal: AbortSignal.any([signal, enough.signal]) });
  } finally {
    if (own) {
      await stream.teardown({ dropSlot: false }).catch((error) =>
        logger.debug(`Publication "${slotName}" stays`, error)
      );
    }
  }
}

/** What was typed, checked as far as no server is needed. @throws {CliError} of kind `usage` */
function readOptions({ values, positionals }: Invocation): {
  operations: readonly string[];
  limit: number;
  lasting: boolean;
  where: string | undefined;
  only: readonly string[] | null;
} {
  if (positionals.length === 0) {
    throw usageError("tail needs a table", "pgstream tail TABLE; pgstream doctor tells which");
  }
  const operations = listOf(values.operation) ?? OPERATIONS;
  const unknown = operations.find((operation) => !OPERATIONS.includes(operation));
  if (unknown !== undefined) {
    const meant = nearest(unknown, OPERATIONS);
    throw usageError(
      `There is no operation "${unknown}"`,
      meant === null ? `Choose of ${OPERATIONS.join(", ")}` : `Did you mean ${meant}?`,
    );
  }
  const limit = values.limit === undefined ? Infinity : Number(values.limit);
  if (limit !== Infinity && !(Number.isInteger(limit) && limit >= 1)) {
    throw usageError("--limit is no whole number from 1", "Such as --limit 10");
  }
  const lasting = values.lasting === true || values.slot !== undefined;
  if (values.temporary === true && lasting) {
    throw usageError(
      "A slot is either temporary or lasting",
      "Leave out --temporary, or --lasting and --slot",
    );
  }
  const where = values.where as string | undefined;
  if (where !== undefined && values.publication !== undefined && !lasting) {
    throw usageError(
      "--where is a part of a publication, and --publication names one that stays as it is",
      "Leave out --publication: tail makes one of its own",
    );
  }
  return { operations, limit, lasting, where, only: listOf(values.columns) };
}

function listOf(value: unknown): string[] | null {
  return typeof value === "string" ? value.split(",").map((name) => name.trim()) : null;
}

/** What makes a line of an event. */
function lines(
  watched: readonly Watched[],
  only: readonly string[] | null,
  json: boolean,
  terminal: Terminal,
): (event: ChangeEvent) => string {
  if (json) return (event) => eventJson(event, only);
  const tone = terminal.tone.bind(terminal);
  const tableColumns = Math.max(
    ...watched.map((name) => widthOf(printable(formatTableName(name)))),
  );
  const keys = new Map(watched.map((table) => [formatTableName(table), table.primaryKey]));
  let keyColumns = 0;
  return (event) => {
    if (event.key !== null) {
      const width = widthOf(printable(event.key.slice(0, KEY_COLUMNS + 1)));
      keyColumns = Math.min(KEY_COLUMNS, Math.max(keyColumns, width));
    }
    const keyNames = keys.get(formatTableName(event)) ?? [];
    const columns = terminal.columns;
    return eventLine(event, { columns, tableColumns, keyColumns, only, keyNames, tone });
  };
}
