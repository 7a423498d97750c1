import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import process from "node:process";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { connect } from "../../../src/transport/node.ts";
import { formatAddress, TransportError } from "../../../src/transport/transport.ts";

const servers: Server[] = [];
const sockets: Socket[] = [];

after(() => {
  for (const socket of sockets) socket.destroy();
  for (const server of servers) server.close();
});

/** Listens; `accepted` gives the server's end of each connection. */
async function listen(onSocket: (socket: Socket) => void = () => {}): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    sockets.push(socket);
    onSocket(socket);
  });
  servers.push(server);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Byte `i` of the stream that the tests send. */
function pattern(length: number, from = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (from + i) * 31 % 251);
}

test("bytes arrive whole and in order, and a chunk that was handed over is never overwritten", async () => {
  const total = 2_000_000;
  const port = await listen((socket) => {
    for (let at = 0; at < total; at += 1000) socket.write(pattern(1000, at));
    socket.end();
  });
  const transport = await connect({ host: "127.0.0.1", port });
  const chunks: Uint8Array[] = [];
  for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read()) {
    assertStrictEquals(chunk.constructor, Uint8Array);
    chunks.push(chunk);
  }
  let at = 0;
  for (const chunk of chunks) {
    assertEquals(chunk, pattern(chunk.length, at));
    at += chunk.length;
  }
  assertEquals(at, total);
  assertStrictEquals(await transport.read(), null);
  transport.close();
});

test("an unread transport holds the sender back, and goes on where it was", async () => {
  const block = new Uint8Array(1024 * 1024).fill(7);
  const blocks = 64;
  let taken = 0;
  const port = await listen((socket) => {
    for (let i = 0; i < blocks; i++) socket.write(block, () => taken++);
    socket.end();
  });
  const transport = await connect({ host: "127.0.0.1", port });
  let before = -1;
  while (before !== taken) {
    before = taken;
    await delay(300);
  }
  assert(taken < blocks / 2, `${taken} of ${blocks} MiB went to a client that read nothing`);
  let received = 0;
  for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read()) {
    received += chunk.length;
  }
  assertEquals(received, blocks * block.length);
  transport.close();
});

test("what is written arrives in order, large or small", async () => {
  const { promise, resolve } = Promise.withResolvers<Uint8Array>();
  const parts: Uint8Array[] = [];
  const port = await listen((socket) => {
    socket.on("data", (chunk) => parts.push(Uint8Array.from(chunk)));
    socket.on("end", () => resolve(Uint8Array.from(parts.flatMap((part) => [...part]))));
  });
  const transport = await connect({ host: "127.0.0.1", port });
  const sent = [pattern(3), pattern(300_000, 3), pattern(1, 300_003)];
  await Promise.all(sent.map((bytes) => transport.write(bytes)));
  transport.close();
  assertEquals(await promise, pattern(300_004));
});

test("a connection that is cut rejects the pending read, after what had arrived", async () => {
  const port = await listen((socket) => {
    socket.write("last words");
    setTimeout(() => socket.resetAndDestroy(), 100);
  });
  const transport = await connect({ host: "127.0.0.1", port });
  const chunk = await transport.read();
  assertEquals(new TextDecoder().decode(chunk!), "last words");
  const error = await assertRejects(() => transport.read(), TransportError);
  assertEquals(error.kind, "connection-lost");
  assert(error.retryable);
  await assertRejects(() => transport.write(pattern(1)), TransportError);
  await assertRejects(() => transport.read(), TransportError);
});

test("nobody listening is a retryable error that names the address and keeps the cause", async () => {
  const address = { host: "127.0.0.1", port: await closedPort() };
  const error = await assertRejects(() => connect(address), TransportError);
  assertEquals(error.kind, "connection-refused");
  assertEquals(error.address, address);
  assert(error.retryable);
  assert(error.message.includes(formatAddress(address)), error.message);
  assert(error.cause instanceof Error);
  assert(error.hint !== undefined);
});

test("a unix socket that is not there is refused like a port with no listener", async () => {
  const error = await assertRejects(() => connect({ path: "/nowhere/.s.PGSQL.1" }), TransportError);
  assertEquals(error.kind, "connection-refused");
  assert(error.message.includes("/nowhere/.s.PGSQL.1"));
});

test("an unknown host says so, and may be known a moment later", async () => {
  const error = await assertRejects(
    () => connect({ host: "no-such-host.invalid", port: 5432 }),
    TransportError,
  );
  assertEquals([error.kind, error.retryable], ["host-not-found", true]);
  assert(error.message.includes("no-such-host.invalid:5432"));
});

test("an abort rejects with its reason, before and during connecting", async () => {
  const port = await listen();
  const reason = new Error("enough");
  const caught = await connect({ host: "127.0.0.1", port }, { signal: AbortSignal.abort(reason) })
    .catch((error) => error);
  assertStrictEquals(caught, reason);

  const controller = new AbortController();
  const connecting = connect({ host: "127.0.0.1", port }, { signal: controller.signal });
  controller.abort(reason);
  assertStrictEquals(await connecting.catch((error) => error), reason);
});

test("close rejects the pending read and later calls, and the peer sees the end", async () => {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const port = await listen((socket) => {
    socket.on("close", () => resolve());
    socket.resume();
  });
  const transport = await connect({ host: "127.0.0.1", port });
  const reading = transport.read().catch((error) => error);
  transport.close();
  transport.close();
  const error = await reading;
  assert(error instanceof TransportError);
  assertEquals(error.kind, "connection-closed");
  assertEquals((await transport.read().catch((error) => error)).kind, "connection-closed");
  assertEquals(
    (await transport.write(pattern(1)).catch((error) => error)).kind,
    "connection-closed",
  );
  await ended;
});

test("a second read while one is pending is refused, and the first goes on", async () => {
  const port = await listen((socket) => setTimeout(() => socket.write("x"), 50));
  const transport = await connect({ host: "127.0.0.1", port });
  const first = transport.read();
  await assertRejects(() => transport.read(), TypeError);
  assertEquals(await first, new TextEncoder().encode("x"));
  transport.close();
});

async function runClient(port: number, mode: string): Promise<string> {
  const script = fileURLToPath(new URL("./idle_process.ts", import.meta.url));
  const runtime = "Deno" in globalThis ? ["run", "-A"] : [];
  const child = spawn(process.execPath, [...runtime, script, String(port), mode], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 20_000,
  });
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  const [status] = await once(child, "close");
  assertEquals(status, 0, `${mode}: the client was ended from outside`);
  return output.trim();
}

test("an idle connection keeps its process alive", async () => {
  const port = await listen((socket) => setTimeout(() => socket.end(), 500));
  assertEquals(await runClient(port, "idle"), "ended");
});

test("a closed connection does not", async () => {
  const port = await listen((socket) => socket.resume());
  assertEquals(await runClient(port, "closed"), "");
});

test("an address is shown as people write it", () => {
  assertEquals(formatAddress({ host: "db", port: 1 }), "db:1");
  assertEquals(formatAddress({ host: "::1", port: 5432 }), "[::1]:5432");
  assertEquals(formatAddress({ path: "/run/.s.PGSQL.5432" }), "/run/.s.PGSQL.5432");
});
