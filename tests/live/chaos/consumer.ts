/**
 * A consumer to be broken: `consumer.ts PLAN`, a plan as JSON. Each call of its handler is one line in
 * its log, written before the handler returns, so that a kill loses nothing of what was handled.
 */

import { openSync, writeSync } from "node:fs";
import process from "node:process";
import { type ChangeEvent, PgStream, type PgStreamOptions } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import { sleep } from "../../support/streams.ts";
import type { LoggedCall, LoggedEvent } from "./oracle.ts";

/** What a consumer is to do. */
export interface Plan {
  options: PgStreamOptions;
  tables: string[];
  log: string;
  how: "onChange" | "onBatch" | "changes";
  seed: number;
  /** The longest that a third of the calls take. 0: the handler returns without a promise. */
  maxDelayMs: number;
  /** How many of the calls fail: half of them before, half of them after they wrote. */
  failing: number;
  /** How many of the calls take a second. */
  hanging: number;
  /** Every so many versions one that can never be handled, and that `onFailure` parks; 0: none. */
  poisonEvery: number;
  /** How long the first call takes. */
  firstCallMs: number;
}

const plan = JSON.parse(process.argv[2]!) as Plan;
const random = seededRandom(plan.seed);
const log = openSync(plan.log, "a");
let handledAny = false;
let calls = 0;

function write(outcome: LoggedCall["outcome"], events: readonly ChangeEvent[]): void {
  const call: LoggedCall = { outcome, events: events.map(logged) };
  writeSync(log, `${JSON.stringify(call)}\n`);
  if (!handledAny) say("handling");
  handledAny = true;
}

function logged(event: ChangeEvent): LoggedEvent {
  const { xid, ordinal, lsn, table, operation, key, oldKey } = event;
  const version = event.row.v === undefined ? null : Number(event.row.v);
  return [xid, ordinal, lsn, table, operation, key, oldKey, version];
}

/** To whoever breaks it. */
function say(word: string): void {
  writeSync(1, `${word}\n`);
}

function handle(events: readonly ChangeEvent[]): void | Promise<void> {
  if (++calls === 1 && plan.firstCallMs > 0) {
    return sleep(plan.firstCallMs).then(() => write("handled", events));
  }
  if (plan.poisonEvery > 0 && events.some(isPoison)) throw new Error("poison");
  const fate = random();
  if (fate < plan.failing / 2) throw new Error("before it wrote");
  const finish = () => {
    if (fate >= plan.failing) return write("handled", events);
    write("failed", events);
    throw new Error("after it wrote");
  };
  if (random() < plan.hanging) return sleep(1000).then(finish);
  if (plan.maxDelayMs === 0) return finish();
  const slow = random() < 1 / 3;
  return (slow ? sleep(random() * plan.maxDelayMs) : Promise.resolve()).then(finish);
}

function isPoison(event: ChangeEvent): boolean {
  return Number(event.row.v) % plan.poisonEvery === 0;
}

async function run(): Promise<void> {
  const stream = new PgStream({
    ...plan.options,
    ...(plan.poisonEvery === 0 ? {} : {
      onFailure: ({ events }) => {
        write("parked", events);
        return "skip";
      },
    }),
    logger: false,
  });
  stream.watch(...plan.tables);
  const telling = setInterval(() => {
    if (stream.status().state !== "streaming") return;
    say("streaming");
    clearInterval(telling);
  }, 5);
  if (plan.how === "changes") return await iterate(stream);
  if (plan.how === "onBatch") {
    const maxEvents = 1 + Math.floor(random() * 50);
    stream.onBatch((events) => handle(events), { maxEvents, maxDelayMs: 10 });
  } else {
    stream.onChange((event) => handle([event]));
  }
  const running = stream.start({ signals: true });
  say("started");
  await running;
}

async function iterate(stream: PgStream): Promise<void> {
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => stop.abort());
  say("started");
  for await (const transaction of stream.changes({ signal: stop.signal })) {
    await handle(transaction.events);
    // Late, and in any order.
    setTimeout(() => transaction.ack(), random() * 30);
  }
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
