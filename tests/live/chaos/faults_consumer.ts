/**
 * A consumer whose sink fails, and that judges the order itself, in memory: `faults_consumer.ts PLAN`.
 * Versions of an item follow each other by one, whatever its key is at the time.
 */

import { writeSync } from "node:fs";
import process from "node:process";
import { type ChangeEvent, PgStream, type PgStreamOptions } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import { sleep } from "../../support/streams.ts";

/** What it is to do. */
export interface FaultsPlan {
  options: PgStreamOptions;
  table: string;
  items: number;
  how: "onChange" | "onBatch";
  seed: number;
  /** How many of the calls fail: half of them before, half of them after they wrote. */
  failing: number;
}

/** What it found. */
export interface FaultsReport {
  handled: number;
  failed: number;
  retries: number;
  /** Events that were not the next of their item. */
  misordered: number;
  /** Calls that were given an item while another call had it in hand. */
  overlapping: number;
  /** The first violations, in words. */
  complaints: string[];
  /** The last version of each item. */
  versions: number[];
}

const plan = JSON.parse(process.argv[2]!) as FaultsPlan;
const random = seededRandom(plan.seed);
const versions = new Int32Array(plan.items);
const inHand = new Uint8Array(plan.items);
const report: FaultsReport = {
  handled: 0,
  failed: 0,
  retries: 0,
  misordered: 0,
  overlapping: 0,
  complaints: [],
  versions: [],
};

function handle(events: readonly ChangeEvent[]): void | Promise<void> {
  const fate = random();
  if (fate < plan.failing / 2) fail("before it wrote");
  const chance = random();
  if (chance < 0.5) return write(events, fate);
  for (const event of events) hold(event, 1);
  const pause = chance < 0.98 ? Promise.resolve() : sleep(random() * 2);
  return pause.then(() => {
    for (const event of events) hold(event, -1);
    write(events, fate);
  });
}

function fail(when: string): never {
  report.failed++;
  throw new Error(when);
}

function write(events: readonly ChangeEvent[], fate: number): void {
  const found = new Map<number, number>();
  for (const event of events) {
    const item = itemOf(event);
    const before = found.get(item) ?? versions[item]!;
    const version = Number(event.row.v);
    // The row that is deleted is the one that was written last.
    const right = event.operation === "delete" ? version === before : version === before + 1;
    if (!right) {
      report.misordered++;
      complain(`${event.operation} of version ${version} after ${before}`, event);
    }
    found.set(item, version);
  }
  if (fate < plan.failing) fail("after it wrote");
  for (const [item, version] of found) versions[item] = version;
  report.handled += events.length;
}

/** From here on, or no longer, nobody else may have it. */
function hold(event: ChangeEvent, by: 1 | -1): void {
  const item = itemOf(event);
  if (by === 1 && inHand[item]! > 0 && plan.how === "onChange") {
    report.overlapping++;
    complain("handled while the same item is in hand", event);
  }
  inHand[item]! += by;
}

function itemOf(event: ChangeEvent): number {
  return Number(event.row.item);
}

function complain(what: string, { lsn, ordinal, key, row }: ChangeEvent): void {
  if (report.complaints.length >= 10) return;
  report.complaints.push(`${what}: ${JSON.stringify({ lsn, ordinal, key, row })}`);
}

const stream = new PgStream({ ...plan.options, logger: false }).watch(plan.table);
if (plan.how === "onBatch") stream.onBatch((events) => handle(events), { maxEvents: 100 });
else stream.onChange((event) => handle([event]));
// Whoever breaks it may die before it does.
process.stdin.on("end", () => process.exit(9)).resume();
try {
  const running = stream.start({ signals: true });
  writeSync(1, "started\n");
  await running;
  report.retries = stream.status().retries;
  report.versions = [...versions];
  writeSync(1, `report ${JSON.stringify(report)}\n`);
  process.exit(0);
} catch (error) {
  console.error(error);
  process.exit(3);
}
