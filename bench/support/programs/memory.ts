/**
 * Streams one large transaction with a slow handler: `memory.ts SOURCE PEER_FOLDER DSN SLOT TABLE ROWS PAUSE_MS`.
 * Prints `idle` once it is connected and has settled, then what it took at the most.
 */
import process from "node:process";
import { openSource, type SourceName } from "../sources/source.ts";

/** What it prints, in bytes; of what is greatest on its own, not at one time. */
export interface MemoryFigures {
  idleRss: number;
  rss: number;
  heapUsed: number;
  external: number;
  /** How long the transaction took from its first row to its last. */
  ms: number;
}

/** The handler pauses once in so many rows. */
const ROWS_PER_PAUSE = 1000;
const SETTLING_MS = 1000;
const LOOK_MS = 20;

const [name, peerFolder, dsn, slotName, table, ...numbers] = process.argv.slice(2);
const [rows, pauseMs] = numbers.map(Number) as [number, number];
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const most = { rss: 0, heapUsed: 0, external: 0 };
function look(): number {
  const { rss, heapUsed, external } = process.memoryUsage();
  most.rss = Math.max(most.rss, rss);
  most.heapUsed = Math.max(most.heapUsed, heapUsed);
  most.external = Math.max(most.external, external);
  return rss;
}

let handled = 0;
let began = 0;
let whole = () => {};
const all = new Promise<void>((resolve) => whole = resolve);
const source = await openSource(name as SourceName, {
  dsn: dsn!,
  slotName: slotName!,
  table: table!,
  peerFolder: peerFolder!,
  waits: true,
  async onInsert() {
    if (handled === 0) began = performance.now();
    if (++handled % ROWS_PER_PAUSE === 0) {
      look();
      await sleep(pauseMs);
      // After the pause, which is when what waits has come.
      look();
    }
    if (handled === rows) whole();
  },
});
await sleep(SETTLING_MS);
const idleRss = look();
setInterval(look, LOOK_MS).unref();
console.log("idle");
await all;
const figures: MemoryFigures = { idleRss, ...most, ms: performance.now() - began };
await source.stop();
console.log(JSON.stringify(figures));
