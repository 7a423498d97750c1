/**
 * A consumer of existing rows and changes, to be broken: `backfill_consumer.ts PLAN`, a plan as JSON.
 * What its handler was given is in its log before the handler returns, a line a call.
 */

import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { type ChangeEvent, FileStateStore, PgStream, type PgStreamOptions } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import { sleep } from "../../support/streams.ts";
import { strawRows, type StrawTable } from "./backfill_straw.ts";
import { type BackfillEvent, digest, type LoggedRow } from "./backfill_model.ts";

/** What a consumer is to do. */
export interface BackfillPlan {
  options: PgStreamOptions;
  /** Where a backfill's progress is kept, if not in the source. */
  stateFile: string | null;
  tables: string[];
  log: string;
  how: "onChange" | "onBatch";
  seed: number;
  /** The longest that a third of the calls take. 0: the handler returns without a promise. */
  maxDelayMs: number;
  /** Tables that are read once more when all are read, and how much of them. */
  again: { table: string; options: { where?: string; keys?: string[] } }[];
  /** Tables that are read without any care, to see that it is noticed; none: as it should be. */
  straw: readonly StrawTable[];
}

/** What this version of the library may not have yet. */
interface Backfilling {
  status(): { state: string; backfill?: unknown };
  backfill(table: string, options: { where?: string; keys?: string[] }): Promise<unknown>;
}

const plan = JSON.parse(process.argv[2]!) as BackfillPlan;
const random = seededRandom(plan.seed);
const log = openSync(plan.log, "a");
let handledAny = false;

function logged(event: ChangeEvent): BackfillEvent {
  const { table, operation, backfill, lsn, ordinal, xid, key, oldKey, unchanged } = event;
  return {
    ...{ table, operation, backfill, lsn, ordinal, xid, key, oldKey, unchanged },
    row: valuesOf(event.row),
    oldRow: event.oldRow && valuesOf(event.oldRow),
  };
}

function valuesOf(row: Record<string, string | null>): LoggedRow {
  return Object.entries(row).map(([name, value]) => [name, value === null ? null : digest(value)]);
}

/** To whoever breaks it. */
function say(word: string): void {
  writeSync(1, `${word}\n`);
}

function handle(events: readonly ChangeEvent[]): void | Promise<void> {
  const finish = () => {
    writeSync(log, `${JSON.stringify(events.map(logged))}\n`);
    if (!handledAny) say("handling");
    handledAny = true;
  };
  if (plan.maxDelayMs === 0) return finish();
  const slow = random() < 1 / 3;
  return (slow ? sleep(random() * plan.maxDelayMs) : Promise.resolve()).then(finish);
}

async function watchProgress(stream: Backfilling): Promise<void> {
  const reached = async (done: () => boolean) => {
    while (!done()) await sleep(5);
  };
  await reached(() => stream.status().state === "streaming");
  say("streaming");
  await reached(() => (stream.status().backfill ?? null) === null);
  say("filled");
  for await (const rows of strawRows(plan.options.dsn!, plan.straw, 20)) await handle(rows);
  for (const { table, options } of plan.again) {
    // One that is added later is not there yet.
    if (plan.tables.includes(table)) await stream.backfill(table, options);
  }
  say("done");
}

async function run(): Promise<void> {
  const stateStore = plan.stateFile === null ? undefined : new FileStateStore(plan.stateFile);
  const stream = new PgStream({
    ...plan.options,
    ...stateStore === undefined ? {} : { stateStore },
    logger: false,
  });
  stream.watch(...plan.tables);
  if (plan.how === "onBatch") {
    const maxEvents = 1 + Math.floor(random() * 50);
    stream.onBatch((events) => handle(events), { maxEvents, maxDelayMs: 10 });
  } else {
    stream.onChange((event) => handle([event]));
  }
  const running = stream.start({ signals: true });
  say("started");
  const progress = watchProgress(stream as unknown as Backfilling);
  progress.catch((error) => {
    // It was told to stop while a table was read once more: how the stream ends is what counts.
    if (error?.kind === "stopped") return;
    console.error(error);
    process.exit(4);
  });
  await running;
}

// Whoever breaks it may die before it does.
process.stdin.on("end", () => process.exit(9)).resume();
try {
  await run();
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(3);
}
