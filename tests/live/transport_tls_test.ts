/** The transport encrypts connections to real servers, which say no in ways of their own. */

import { assert, assertEquals, assertLess, assertRejects, assertStrictEquals } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "../../src/transport/node.ts";
import {
  type EncryptedTransport,
  type TlsOptions,
  type Transport,
  TransportError,
} from "../../src/transport/transport.ts";
import { encodeQuery, encodeStartupMessage, encodeTerminate } from "../../src/wire/frontend.ts";
import { CertificateAuthority } from "../support/certificates.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { startTlsPostgres } from "../support/servers/tls_postgres.ts";
import { until } from "../support/streams.ts";

const MIB = 1024 * 1024;

const authority = await CertificateAuthority.create();
const stranger = await CertificateAuthority.create({ name: "somebody else" });
const certificate = await authority.issue();

const HBA = `
hostssl all alice 127.0.0.1/32 cert
hostssl all all 127.0.0.1/32 trust
`;

/** How PostgreSQL is asked to encrypt: https://www.postgresql.org/docs/current/protocol-message-formats.html */
const SSL_REQUEST = Uint8Array.of(0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f);

function startServer(major = 18, settings: Record<string, string> = {}): Promise<PostgresServer> {
  const tls = { certificate, clientCa: authority.cert, settings };
  return startTlsPostgres({ major, hba: HBA, tls });
}

async function encrypt(
  server: PostgresServer,
  options: Partial<TlsOptions> = {},
  direct = false,
): Promise<EncryptedTransport> {
  const transport = await connect({ host: "127.0.0.1", port: server.port });
  if (!direct) {
    await transport.write(SSL_REQUEST);
    assertEquals(await transport.read(), new TextEncoder().encode("S"));
  }
  const host = "127.0.0.1";
  return await transport.startTls({ host, verify: "full", ca: authority.cert, ...options });
}

function startUp(transport: Transport, user: string, database = "postgres"): Promise<void> {
  return transport.write(encodeStartupMessage({ user, database }));
}

/** What comes, until it holds `text`. */
async function readUntil(transport: Transport, text: string): Promise<string> {
  let all = "";
  while (!all.includes(text)) {
    const chunk = await transport.read();
    if (chunk === null) throw new Error(`It ended with: ${all}`);
    all += new TextDecoder("latin1").decode(chunk);
  }
  return all;
}

describe("an encrypted connection", { skip: needsOwnServer }, () => {
  let server: PostgresServer;
  before(async () => {
    server = await startServer();
  });
  after(() => server?.stop("immediate"));

  for (const major of [10, 14]) {
    test(`is one for PostgreSQL ${major}`, async () => {
      const old = await startServer(major);
      try {
        await askWhetherEncrypted(await encrypt(old));
      } finally {
        await old.stop("immediate");
      }
    });
  }

  test("is one for PostgreSQL 18, asked for or begun at once", async () => {
    await askWhetherEncrypted(await encrypt(server));
    const direct = await encrypt(server, { alpnProtocols: ["postgresql"] }, true);
    assertEquals(direct.alpnProtocol, "postgresql");
    await askWhetherEncrypted(direct);
  });

  async function askWhetherEncrypted(transport: EncryptedTransport): Promise<void> {
    assertEquals(transport.peerCertificate, certificate.der);
    await startUp(transport, "postgres");
    await readUntil(transport, "Z\0\0\0\x05I");
    await transport.write(encodeQuery(
      "SELECT 'on ' || version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl",
    ));
    await readUntil(transport, `on ${transport.tlsVersion}`);
    await transport.write(encodeTerminate());
    for (let chunk = await transport.read(); chunk !== null; chunk = await transport.read());
    transport.close();
  }

  test("that ends says why before, and ends in order", async () => {
    const transport = await encrypt(server);
    await startUp(transport, "postgres", "nowhere");
    await readUntil(transport, "3D000");
    assertStrictEquals(await transport.read(), null);
    transport.close();
  });

  test("that nobody reads holds the server back, and takes no memory", async () => {
    const rows = 40_000;
    const transport = await encrypt(server);
    await startUp(transport, "postgres");
    await readUntil(transport, "Z\0\0\0\x05I");
    await transport.write(
      encodeQuery(`COPY (SELECT repeat('x', 8191) FROM generate_series(1, ${rows})) TO STDOUT`),
    );
    await until("the server to wait", async () => {
      const waiting = await server.query(
        "SELECT FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT repeat%' AND wait_event = 'ClientWrite'",
      );
      return waiting.length > 0;
    });
    const before = process.memoryUsage().rss;
    await delay(2000);
    const grown = process.memoryUsage().rss - before;
    assertLess(grown, 32 * MIB);
    const [waiting] = await server.query<{ wait_event: string }>(
      "SELECT wait_event FROM pg_stat_activity WHERE query LIKE 'COPY (SELECT repeat%'",
    );
    assertEquals(waiting?.wait_event, "ClientWrite");

    let received = 0;
    while (received < rows * 8192) received += (await transport.read())!.length;
    transport.close();
  });

  test("to a server that dies is lost", async () => {
    const mortal = await startServer();
    try {
      const transport = await encrypt(mortal);
      await startUp(transport, "postgres");
      await readUntil(transport, "Z\0\0\0\x05I");
      const [backend] = await mortal.query<{ pid: number }>(
        "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
      );
      const reading = transport.read().catch((error) => error);
      process.kill(backend!.pid, "SIGKILL");
      const error = await reading;
      assert(error instanceof TransportError, String(error));
      assertEquals([error.kind, error.retryable], ["connection-lost", true]);
    } finally {
      await mortal.stop("immediate");
    }
  });
});

for (const version of ["TLSv1.2", "TLSv1.3"]) {
  describe(`a client certificate on ${version}`, { skip: needsOwnServer }, () => {
    let server: PostgresServer;
    before(async () => {
      const settings = { ssl_min_protocol_version: version, ssl_max_protocol_version: version };
      server = await startServer(18, settings);
      await server.query("CREATE ROLE alice LOGIN");
    });
    after(() => server?.stop("immediate"));

    test("takes the place of a password", async () => {
      const { cert, key } = await authority.issue({ commonName: "alice" });
      const transport = await encrypt(server, { cert, key });
      assertEquals(transport.tlsVersion, version);
      await startUp(transport, "alice");
      await readUntil(transport, "Z\0\0\0\x05I");
      transport.close();
    });

    test("that is missing, or another user's, is told by the server", async () => {
      const bob = await authority.issue({ commonName: "bob" });
      for (const own of [{}, { cert: bob.cert, key: bob.key }]) {
        const transport = await encrypt(server, own);
        await startUp(transport, "alice");
        await readUntil(transport, "28000");
        transport.close();
      }
    });

    test("that the server does not trust is told by an alert, and what it means", async () => {
      for (
        const [own, message] of [
          [await stranger.issue({ commonName: "alice" }), /does not trust the authority/],
          [await authority.issue({ commonName: "alice", expired: true }), /has expired/],
        ] as const
      ) {
        const { cert, key } = own;
        const error = await assertRejects(async () => {
          const transport = await encrypt(server, { cert, key });
          await transport.read();
        }, TransportError);
        assertEquals(error.kind, "tls-failed", error.message);
        assert(message.test(error.message), error.message);

        for (let i = 0; i < 10; i++) {
          const error = await assertRejects(async () => {
            const transport = await encrypt(server, { cert, key });
            await startUp(transport, "alice");
            await transport.read();
          }, TransportError);
          // The alert comes beside what was written, and its connection may be reset before it is read.
          const isReset = error.kind === "connection-lost" && version === "TLSv1.3";
          assert(
            (isReset ? /rejected the client certificate/ : message).test(error.message),
            error.message,
          );
        }
      }
    });
  });
}
