/** A Worker that uses the adapter in one way or another, and says what came of it. */

import { connect } from "cloudflare:sockets";
import {
  type Transport,
  type TransportConnectOptions,
  TransportError,
} from "../../../src/transport/transport.ts";
import { workersConnect } from "../../../src/workers.ts";

/** What is asked for. */
export interface TransportOrder {
  way: keyof typeof ways | "aborted";
  port: number;
  /** The connection is encrypted first. */
  tls: boolean;
}

/** What a call came to. */
export type Outcome = string | number | boolean | null;

// The platform's: what the tests import would bring Node's along.
const delay = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Byte `i` of what the tests send. */
function pattern(length: number, from = 0): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (from + i) * 31 % 251;
  return bytes;
}

async function outcome(call: Promise<unknown>): Promise<Outcome> {
  try {
    const value = await call;
    return value instanceof Uint8Array ? value.length : value === null ? null : "done";
  } catch (error) {
    if (error instanceof TransportError) return error.kind;
    return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  }
}

/** @returns how many bytes came; -1 where one was wrong when all had come, or a chunk is no plain one. */
async function readAll(transport: Transport): Promise<number> {
  const chunks: Uint8Array[] = [];
  for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read()) {
    chunks.push(chunk);
  }
  let length = 0;
  for (const chunk of chunks) {
    const right = chunk.every((byte, i) => byte === (length + i) * 31 % 251);
    if (!right || chunk.constructor !== Uint8Array) return -1;
    length += chunk.length;
  }
  return length;
}

const ways = {
  /** Reads to the end, and once more. */
  async read(transport: Transport) {
    const length = await readAll(transport);
    return [length, await outcome(transport.read())];
  },
  /** Leaves it unread, says by a byte that this is over, and then reads all. */
  async readLate(transport: Transport) {
    await delay(1000);
    await transport.write(new Uint8Array(1));
    let length = 0;
    for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read()) {
      length += chunk.length;
    }
    return [length];
  },
  /** Writes at once what adds up to 400,000 bytes of the pattern, then 32 MiB more. */
  async write(transport: Transport) {
    const sizes = [3, 300_000, 1, 16_384, 1, 1, 70_000, 13_610];
    let at = 0;
    await Promise.all(sizes.map((size) => {
      at += size;
      return transport.write(pattern(size, at - size));
    }));
    await transport.write(pattern(32 * 1024 * 1024, at));
    transport.close();
    await delay(1000);
    return [at];
  },
  /** Reads the end, and writes nevertheless. */
  async writeAfterEnd(transport: Transport) {
    const end = await outcome(transport.read());
    return [end, await outcome(transport.write(pattern(1000)))];
  },
  /** Reads until it cannot, and tries again. */
  async readCut(transport: Transport) {
    const outcomes: Outcome[] = [];
    for (let i = 0; i < 3; i++) outcomes.push(await outcome(transport.read()));
    await delay(50);
    outcomes.push(await outcome(transport.write(pattern(1))));
    return outcomes;
  },
  /** Closes while a read is pending. */
  async close(transport: Transport) {
    const reading = outcome(transport.read());
    transport.close();
    transport.close();
    const outcomes = [
      await reading,
      await outcome(transport.read()),
      await outcome(transport.write(pattern(1))),
    ];
    await delay(500);
    return outcomes;
  },
  /** Closes while a peer takes nothing. */
  async closeWriting(transport: Transport) {
    const writes: Promise<Outcome>[] = [];
    for (let i = 0; i < 48; i++) {
      writes.push(outcome(transport.write(new Uint8Array(1024 * 1024))));
    }
    await delay(300);
    transport.close();
    return [(await Promise.all(writes)).at(-1)!];
  },
  /** Reads twice at once, then what the byte that it sends brings. */
  async readTwice(transport: Transport) {
    const first = outcome(transport.read());
    const second = await outcome(transport.read());
    await transport.write(new Uint8Array(1));
    return [second, await first];
  },
  /** Goes on with a transport that was encrypted. */
  async usedUp(transport: Transport) {
    return [await outcome(transport.read()), await outcome(transport.write(pattern(1)))];
  },
};

/** Nothing is opened for these, or not for long. */
async function aborted(port: number): Promise<Outcome[]> {
  const reason = new Error("enough");
  const dial = (options: TransportConnectOptions) =>
    workersConnect(connect)({ host: "127.0.0.1", port }, options);
  const before = await outcome(dial({ signal: AbortSignal.abort(reason) }));
  const during = new AbortController();
  const dialling = outcome(dial({ signal: during.signal }));
  during.abort(reason);
  const late = new AbortController();
  const transport = await dial({ signal: late.signal });
  late.abort(reason);
  const alive = await outcome(transport.write(pattern(1)));
  const tls = transport.startTls({
    host: "localhost",
    verify: "full",
    signal: AbortSignal.timeout(200),
  });
  const handshake = await outcome(tls);
  await delay(500);
  return [before, await dialling, alive, handshake, await outcome(transport.read())];
}

export default {
  async fetch(request: Request): Promise<Response> {
    const { way, port, tls } = await request.json() as TransportOrder;
    if (way === "aborted") return Response.json(await aborted(port));
    const plain = await workersConnect(connect)({ host: "127.0.0.1", port }, {});
    const transport = tls ? await plain.startTls({ host: "localhost", verify: "full" }) : plain;
    return Response.json(
      await ways[way](way === "usedUp" ? plain : transport),
    );
  },
};
