/**
 * Puts a server as far away as a round trip takes: `distance.ts PORT RTT_MS` prints the port of a proxy to the server on
 * the loopback interface. What comes by goes on half of that later, in either direction, as much of it at a time as
 * there is. Stays until it is killed.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import process from "node:process";
import { setImmediate } from "node:timers";

/** How exact it is. Timers of runtimes know whole milliseconds only. */
const SLICE_MS = 0.05;

const [port, rttMs] = process.argv.slice(2).map(Number) as [number, number];
const cell = new Int32Array(new SharedArrayBuffer(4));
/** All wait the same, so that what came first is due first. */
const waiting: { dueMs: number; work: () => void }[] = [];

function later(work: () => void): void {
  if (waiting.push({ dueMs: performance.now() + rttMs / 2, work }) === 1) setImmediate(pass);
}

/** Between looks at the sockets it sleeps: the processor is not its own. */
function pass(): void {
  while (waiting.length > 0 && waiting[0]!.dueMs <= performance.now()) {
    const { work } = waiting[0]!;
    work();
    waiting.shift();
  }
  if (waiting.length === 0) return;
  Atomics.wait(cell, 0, 0, Math.min(SLICE_MS, waiting[0]!.dueMs - performance.now()));
  setImmediate(pass);
}

function link(from: Socket, to: Socket): void {
  let isFull = false;
  from.setNoDelay(true);
  from.on("data", (chunk) =>
    later(() => {
      // What the receiver does not read the sender is to keep.
      if (to.destroyed || to.write(chunk) || isFull) return;
      isFull = true;
      from.pause();
      to.once("drain", () => {
        isFull = false;
        from.resume();
      });
    }));
  from.on("end", () => later(() => to.end()));
  from.on("error", () => {});
  from.on("close", () => later(() => to.destroy()));
}

const server = createServer({ allowHalfOpen: true }, (client) => {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
  link(client, socket);
  link(socket, client);
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
