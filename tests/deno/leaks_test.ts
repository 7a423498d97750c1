/**
 * Nothing is left open: Deno fails a test that ends with a timer or an operation of its own still under
 * way, where it is told to look. Only `Deno.test` does, so these few run on Deno alone. Sockets of
 * `node:net` it does not see, so they are counted.
 */

import { assertEquals, assertRejects } from "@std/assert";
import { MemorySink, PgStream, PgStreamError, ReplicationStream, SlotManager } from "../../mod.ts";
import { connect } from "../../src/transport/node.ts";
import { type Transport, TransportError } from "../../src/transport/transport.ts";
import { encodeStartupMessage } from "../../src/wire/frontend.ts";
import { CertificateAuthority } from "../support/certificates.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { startTlsPostgres } from "../support/servers/tls_postgres.ts";
import { uniqueName, until } from "../support/streams.ts";

let source: TestPostgres;
let authority: CertificateAuthority;
let encrypted: PostgresServer;

function leakTest(name: string, run: () => Promise<void>): void {
  Deno.test(name, { sanitizeOps: true, sanitizeResources: true }, async () => {
    const before = openSockets();
    await run();
    if (before === null) return;
    // A socket that is closed is gone a moment later.
    await until("the sockets to be closed", () => openSockets()! <= before, 2000);
  });
}

/** How many this process has; null where the system does not tell. */
function openSockets(): number | null {
  if (Deno.build.os !== "linux") return null;
  let count = 0;
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:")) count++;
    } catch {
      // The one that reads the folder is gone.
    }
  }
  return count;
}

// The server and its pool outlive each test, and are not what is looked at.
Deno.test.beforeAll(async () => {
  source = await testPostgres();
  await source.query("CREATE TABLE documents (id bigint PRIMARY KEY, content text)");
});
Deno.test.beforeAll(async () => {
  authority = await CertificateAuthority.create();
  encrypted = await startTlsPostgres({ tls: { certificate: await authority.issue() } });
});
Deno.test.afterAll(() => source?.stop());
Deno.test.afterAll(() => encrypted?.stop("immediate"));

leakTest("a stream leaves nothing behind when it is stopped", async () => {
  const slotName = uniqueName("leaks");
  const stream = new PgStream({ dsn: source.dsn, slotName, logger: false });
  const sink = new MemorySink();
  stream.watch("documents").sink(sink);
  stream.onChange(async (event, sink) => {
    if (event.operation === "insert") await sink.upsert({ id: event.key, vector: [1] });
  });
  await stream.setup();
  const running = stream.start();
  await insertBesides(source.dsn);
  await until("the row to arrive", () => sink.size > 0);
  await stream.stop();
  await running;
  await stream.teardown();
});

leakTest("a stream leaves nothing behind when its handler fails", async () => {
  const slotName = uniqueName("leaks");
  const stream = new PgStream({ dsn: source.dsn, slotName, logger: false });
  stream.watch("documents").onChange(() => {
    throw new Error("on purpose");
  });
  await stream.setup();
  const running = stream.start();
  const failed = assertRejects(() => running, PgStreamError);
  await insertBesides(source.dsn);
  assertEquals((await failed).kind, "handler-failed");
  await stream.teardown();
});

leakTest("an abort while connecting leaves nothing behind", async () => {
  const slotName = uniqueName("leaks");
  for (const delayMs of [0, 1, 3, 10]) {
    const stream = new PgStream({ dsn: source.dsn, slotName, logger: false });
    stream.watch("documents").onChange(() => {});
    const controller = new AbortController();
    const running = stream.start({ signal: controller.signal }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    controller.abort();
    await running;
  }
  // A hash of SCRAM that was begun is there a moment later, and nobody wants it.
  await new Promise((resolve) => setTimeout(resolve, 50));
});

leakTest("a server that is not there, or refuses, leaves nothing behind", async () => {
  const refused = new PgStream({ dsn: "postgresql://u:p@127.0.0.1:1/db", logger: false });
  refused.watch("documents").onChange(() => {});
  await assertRejects(() => refused.setup(), PgStreamError);
  await assertRejects(() => refused.start(), PgStreamError);
  const missing = new PgStream({ dsn: source.dsn, slotName: uniqueName("leaks"), logger: false });
  missing.watch("documents").onChange(() => {});
  await assertRejects(() => missing.start(), PgStreamError);
});

leakTest("a loop over XLogData that is left leaves nothing behind", async () => {
  const slotName = uniqueName("leaks");
  const slots = new SlotManager({ dsn: source.dsn, slotName, tables: ["documents"] });
  await slots.setup();
  await insertBesides(source.dsn);
  const stream = await ReplicationStream.open({ dsn: source.dsn, slotName });
  for await (const { data } of stream) {
    if (data[0] === "C".charCodeAt(0)) break;
  }
  await slots.teardown();
});

leakTest("an encrypted connection leaves nothing behind, whichever way it ends", async () => {
  const asking = async (): Promise<Transport> => {
    const transport = await connect({ host: "127.0.0.1", port: encrypted.port });
    await transport.write(Uint8Array.of(0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f));
    await transport.read();
    return transport;
  };
  const ask = { host: "localhost", ca: authority.cert, verify: "full" } as const;
  const startUp = encodeStartupMessage({ user: encrypted.user, database: "nowhere" });

  const idle = await (await asking()).startTls(ask);
  idle.close();

  const unread = await (await asking()).startTls(ask);
  await unread.write(startUp);
  await new Promise((resolve) => setTimeout(resolve, 50));
  unread.close();

  const reading = await (await asking()).startTls(ask);
  const pending = assertRejects(() => reading.read(), TransportError);
  reading.close();
  await pending;

  for (const wrong of [{ ...ask, host: "elsewhere" }, { ...ask, ca: undefined }]) {
    const transport = await asking();
    await assertRejects(() => transport.startTls(wrong), TransportError);
  }

  for (const delayMs of [0, 1, 3, 10]) {
    const controller = new AbortController();
    const { signal } = controller;
    const encrypting = (await asking()).startTls({ ...ask, signal });
    const ended = encrypting.then((transport) => transport.close(), () => {});
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    controller.abort();
    await ended;
  }
});

/** From a process of its own: the pool of `source` would be taken for a leak of the test. */
async function insertBesides(dsn: string): Promise<void> {
  const code = `
    import postgres from "postgres";
    const sql = postgres(${JSON.stringify(dsn)}, { max: 1 });
    await sql\`INSERT INTO documents VALUES (\${Math.floor(Math.random() * 2 ** 48)}, 'text')\`;
    await sql.end();`;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", code],
    cwd: new URL("../..", import.meta.url),
    stderr: "inherit",
  });
  assertEquals((await child.output()).code, 0);
}
