/**
 * The demo: rows of a real PostgreSQL become vectors in a real pgvector, follow updates and deletes,
 * and are found by meaning.
 *
 * ```sh
 * deno task demo
 * node examples/demo/main.ts --help
 * ```
 *
 * @module
 */

import {
  type ChangeEvent,
  MemoryStateStore,
  PgStream,
  PgStreamError,
  rowPointId,
} from "@pgstream/pgstream";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { embed, EMBEDDING_DIMENSIONS } from "../embed.ts";
import {
  showAnswers,
  showChange,
  showChangeHeader,
  showCopy,
  showError,
  showNote,
  showProgress,
  showReady,
  showStep,
  showSummary,
  showTitle,
  showVerified,
} from "./screen.ts";
import { openSource, openStore, type Source, type Store } from "./servers.ts";
import { CHAPTERS, type Edit, insert, LOST, type Page, PAGES, QUESTIONS } from "./story.ts";

const ARRIVAL_TIMEOUT_MS = 20_000;

const HELP =
  `Rows of a PostgreSQL become vectors, follow updates and deletes, and are found by meaning.

  deno task demo [options]

  --keep                 leave it running, with a DSN to connect to; Ctrl+C stops it
  --dsn <dsn>            watch a table in this PostgreSQL, not in one that the demo starts
  --pgvector-dsn <dsn>   store the vectors in this PostgreSQL with pgvector
  --qdrant-url <url>     store the vectors in this Qdrant (QDRANT_API_KEY is used)
  --help                 print this

On your servers it uses names that begin with pgstream_demo, and removes all of them at the end.
`;

interface Options {
  keep: boolean;
  dsn: string | undefined;
  pgvectorDsn: string | undefined;
  qdrantUrl: string | undefined;
}

function readOptions(): Options | "help" {
  const { values } = parseArgs({
    options: {
      keep: { type: "boolean", default: false },
      dsn: { type: "string" },
      "pgvector-dsn": { type: "string" },
      "qdrant-url": { type: "string" },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return "help";
  return {
    keep: values.keep,
    dsn: values.dsn,
    pgvectorDsn: values["pgvector-dsn"],
    qdrantUrl: values["qdrant-url"],
  };
}

/** What the stream has told so far, and what it has embedded. */
class Follower {
  /** From each change's commit until it could be searched. */
  readonly latencies: number[] = [];
  /** Keys of rows that were there already. */
  readonly #found = new Set<string>();
  readonly #embedded = new Set<string>();
  /** How many texts were embedded. */
  texts = 0;

  /** How many of the rows that were there have their vectors by now. */
  get found(): number {
    return this.#found.size;
  }

  /** The model, counted. */
  readonly embed: typeof embed = Object.assign(
    (texts: readonly string[], context: { signal: AbortSignal }) => {
      this.texts += texts.length;
      for (const text of texts) this.#embedded.add(text);
      return embed(texts, context);
    },
    { model: embed.model! },
  );

  /** Called for each event that the store has by now. */
  follow(event: ChangeEvent<Page>): void {
    if (event.operation === "insert" && event.backfill) {
      // A repair hands out its rows as a backfill does.
      if (this.#found.has(event.key)) return;
      this.#found.add(event.key);
      this.#embedded.delete(event.row.content);
      // A row that was there already has been searchable for no time yet.
      return showProgress(this.found, PAGES.length);
    }
    const latencyMs = Date.now() - event.commitTime.getTime();
    this.latencies.push(latencyMs);
    const { lsn, operation } = event;
    showChange({ lsn, operation, key: event.key ?? "all", done: this.#done(event), latencyMs });
  }

  #done(event: ChangeEvent<Page>): string {
    if (event.operation === "truncate") return "vectors deleted";
    if (event.operation === "delete") return "vector deleted";
    if (!event.row.content?.trim()) return "no text, no vector";
    if (event.oldKey !== null) return `moved from "${event.oldKey}"`;
    if (!this.#embedded.delete(event.row.content)) return "same text, not embedded";
    return event.operation === "insert" ? "embedded, stored" : "embedded again, replaced";
  }
}

async function runDemo(options: Options, signal: AbortSignal): Promise<void> {
  const startedAt = performance.now();
  const cleanups: (() => Promise<void>)[] = [];
  showTitle("pgstream", "from a commit in Postgres to a vector that can be searched");
  try {
    const source = await openSource(options.dsn);
    cleanups.push(() => source.close());
    showReady(source.name, `${source.place}, table ${source.table}`);
    signal.throwIfAborted();

    const store = await openStore(options, EMBEDDING_DIMENSIONS);
    cleanups.push(() => store.close());
    showReady(store.name, store.place);
    signal.throwIfAborted();

    const warmUp = ["The first text takes several times as long as any other."];
    await embed(warmUp, { signal });
    showReady("embedding model", `${EMBEDDING_DIMENSIONS} dimensions, in this process, offline`);

    const follower = new Follower();
    await commit(PAGES.map(insert), source);
    const stream = new PgStream<Record<string, Page>>({
      dsn: source.dsn,
      slotName: source.slotName,
      // Nothing is to be left on the server, and nobody goes on from here.
      stateStore: new MemoryStateStore(),
    });
    stream.sink(store.sink);
    stream.sync(source.table, {
      text: (page) => page.content,
      embed: follower.embed,
      payload: ["id", "content", "edited_by"],
    });
    stream.onChange((event) => follower.follow(event));
    // What an earlier run left on somebody's server, where it was killed.
    if (options.dsn !== undefined) await stream.teardown();
    await stream.setup({ signal });
    cleanups.push(() => stream.teardown());
    const running = stream.start({ signal });
    cleanups.push(() => stream.stop());
    running.catch(() => {});
    showReady("stream", `slot and publication ${source.slotName}`);

    const scene = { stream, source, store, follower, signal };
    const told = tellStory(scene);
    await Promise.race([told, running.then(() => told)]);
    if (options.keep) {
      await Promise.race([running, keepGoing(scene)]);
    }
    await stream.stop();
    await running;
    showSummary(follower, (performance.now() - startedAt) / 1000);
  } finally {
    for (const cleanup of cleanups.reverse()) {
      await cleanup().catch((error) => showError(`Could not clean up: ${describe(error)}`));
    }
  }
}

interface Scene {
  stream: PgStream<Record<string, Page>>;
  source: Source;
  store: Store;
  follower: Follower;
  signal: AbortSignal;
}

async function tellStory(scene: Scene): Promise<void> {
  showStep(1, "Ten help pages are there already");
  await arrival(() => scene.follower.found === PAGES.length, scene);
  for (const question of QUESTIONS) await ask(question, scene);
  for (const [index, { title, edits }] of CHAPTERS.entries()) {
    showStep(index + 2, title);
    showChangeHeader();
    for (const edit of edits) await commitAndFollow(edit, scene);
    for (const question of QUESTIONS) await ask(question, scene);
  }
  showStep(CHAPTERS.length + 2, "The store is compared with the table");
  await verify(scene);
}

/** A vector is lost on purpose, is found to be, and is made again. */
async function verify({ stream, source, store, signal }: Scene): Promise<void> {
  const before = await stream.verify(source.table, { signal });
  showVerified("verify", before);
  await store.sink.delete(rowPointId(before.table, LOST, 0));
  showVerified(`${LOST} deleted`, await stream.verify(source.table, { signal }));
  showVerified("repair", await stream.verify(source.table, { repair: true, signal }));
  showVerified("verify", await stream.verify(source.table, { signal }));
}

async function commitAndFollow(edit: Edit, scene: Scene): Promise<void> {
  const { latencies } = scene.follower;
  const expected = latencies.length + edit.changes;
  await commit(edit.statements, scene.source);
  await arrival(() => latencies.length >= expected, scene);
}

async function commit(statements: Edit["statements"], source: Source): Promise<void> {
  await source.sql.begin(async (sql) => {
    for (const { text, parameters } of statements) {
      await sql.unsafe(text.replace("documents", source.table), parameters);
    }
  });
}

async function arrival(arrived: () => boolean, { signal }: Scene): Promise<void> {
  const deadline = Date.now() + ARRIVAL_TIMEOUT_MS;
  while (!arrived()) {
    signal.throwIfAborted();
    if (Date.now() > deadline) {
      throw new PgStreamError(`Nothing arrived within ${ARRIVAL_TIMEOUT_MS} ms of a commit`, {
        kind: "demo",
        hint: "Does something on the server hold a transaction open? See pg_stat_activity",
      });
    }
    await delay(5);
  }
}

async function ask(question: string, { stream, source, signal }: Scene): Promise<void> {
  const hits = await stream.search(source.table, question, { limit: 3, signal });
  showAnswers(
    question,
    hits.map(({ score, payload: { id, content } }) => ({
      id: String(id),
      score,
      text: String(content),
    })),
  );
}

async function keepGoing(scene: Scene): Promise<void> {
  const { source, signal } = scene;
  showStep(CHAPTERS.length + 3, "Now you: it follows what you change, until Ctrl+C");
  showCopy("connect", `psql '${source.dsn}'`);
  showCopy(
    "change",
    `INSERT INTO ${source.table} VALUES ('pool', 'Coach 12 has a swimming pool.');`,
  );
  showNote("Type a question and press Enter to search.");
  showNote("");
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    if (line.trim() !== "") ask(line, scene).catch((error) => showError(describe(error)));
  });
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  lines.close();
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const failed = error instanceof PgStreamError && error.kind === "handler-failed";
  return failed ? `${error.summary}. ${describe(error.cause)}` : error.message;
}

/** Ctrl+C stops and cleans up; a second one does not wait for that. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(130);
      controller.abort();
    });
  }
  return controller.signal;
}

async function main(): Promise<number> {
  let options: Options | "help";
  try {
    options = readOptions();
  } catch (error) {
    showError(`${(error as Error).message}. See --help`);
    return 2;
  }
  if (options === "help") {
    process.stdout.write(HELP);
    return 0;
  }
  const signal = abortOnSignals();
  try {
    await runDemo(options, signal);
    return 0;
  } catch (error) {
    if (signal.aborted) return 130;
    showError(describe(error));
    return 1;
  }
}

process.exit(await main());
