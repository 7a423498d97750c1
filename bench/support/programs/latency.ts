/**
 * Writes and streams in one process: `latency.ts SOURCE PEER_FOLDER DSN SLOT TABLE RATE SECONDS FIRST_ID`. Prints what
 * lies between the writer's knowing of each commit and the handler's call, in milliseconds; and of that, what lies
 * between the socket's giving of the bytes and the call.
 */
import { Socket } from "node:net";
import process from "node:process";
import postgres from "postgres";
import { openSource, type SourceName } from "../sources/source.ts";

/** What it prints. */
export interface LatencyFigures {
  p50: number;
  p99: number;
  max: number;
  /** From the socket's last bytes to the call. */
  inside_p50: number;
  inside_p99: number;
  /** The share of rows whose handler was called before the writer knew. */
  early: number;
  /** Transactions a second. */
  rate: number;
}

/** Rows before those that count: connections, caches and compilers warm up. */
const WARM_UP_SECONDS = 1;

const [name, peerFolder, dsn, slotName, table, ...numbers] = process.argv.slice(2);
const [rate, seconds, firstId] = numbers.map(Number) as [number, number, number];
const count = rate * (seconds + WARM_UP_SECONDS);
const acknowledged = new Float64Array(count);
const called = new Float64Array(count);
const inside = new Float64Array(count);
let handled = 0;
let whole = () => {};
const all = new Promise<void>((resolve) => whole = resolve);

// Sockets that gave something before the writer had one are the contender's.
const sockets = new WeakSet<Socket>();
let writing = false;
let arrived = 0;
const prototype: { emit(this: Socket, event: string, ...args: unknown[]): boolean } =
  Socket.prototype;
const { emit } = prototype;
prototype.emit = function (event, ...args) {
  if (event === "data") {
    if (!writing) sockets.add(this);
    if (sockets.has(this)) arrived = performance.now();
  }
  return emit.call(this, event, ...args);
};

const source = await openSource(name as SourceName, {
  dsn: dsn!,
  slotName: slotName!,
  table: table!,
  peerFolder: peerFolder!,
  waits: false,
  onInsert(id) {
    const now = performance.now();
    const row = Number(id) - firstId;
    called[row] = now;
    inside[row] = now - arrived;
    if (++handled === count) whole();
  },
});
writing = true;
const sql = postgres(dsn!, { max: 1, onnotice: () => {} });
const write = async (at: number) => {
  await sql`INSERT INTO ${sql(table!)} (id, title, body) VALUES
    (${firstId + at}, ${"title " + at}, ${"body of a row that has some text"})`;
  acknowledged[at] = performance.now();
};

const began = performance.now();
const writes: Promise<void>[] = [];
// A timer is late by a millisecond or more: then what is due by now is written at once.
while (writes.length < count) {
  const due = Math.min(count, Math.floor((performance.now() - began) / 1000 * rate));
  while (writes.length < due) writes.push(write(writes.length));
  await new Promise((resolve) => setTimeout(resolve, 1));
}
await Promise.all(writes);
const took = performance.now() - began;
await Promise.race([all, new Promise((resolve) => setTimeout(resolve, 10_000).unref?.())]);
if (handled !== count) throw new Error(`${name} handled ${handled} of ${count} rows`);
await source.stop();
await sql.end();

const sorted = (values: Float64Array) => values.subarray(rate * WARM_UP_SECONDS).sort();
const latencies = sorted(called.map((at, row) => at - acknowledged[row]!));
sorted(inside);
const at = (share: number, values = latencies) =>
  values[values.length - latencies.length + Math.floor(share * (latencies.length - 1))]!;
const figures: LatencyFigures = {
  p50: at(0.5),
  p99: at(0.99),
  max: at(1),
  inside_p50: at(0.5, inside),
  inside_p99: at(0.99, inside),
  early: latencies.filter((ms) => ms < 0).length / latencies.length,
  rate: count / took * 1000,
};
console.log(JSON.stringify(figures));
