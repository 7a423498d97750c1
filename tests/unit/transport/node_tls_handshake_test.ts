/** Who answers, who we are, and what goes wrong before the first byte is read. */

import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { connect as connectSocket, type Socket } from "node:net";
import { after, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { TlsOptions as ServerOptions, TLSSocket } from "node:tls";
import { inspect } from "node:util";
import { connect } from "../../../src/transport/node.ts";
import {
  type EncryptedTransport,
  type TlsOptions,
  type Transport,
  TransportError,
  type TransportErrorKind,
} from "../../../src/transport/transport.ts";
import { CertificateAuthority, encryptKey, selfSigned } from "../../support/certificates.ts";
import { peerOf, Peers } from "./peers.ts";

const authority = await CertificateAuthority.create();
const stranger = await CertificateAuthority.create({ name: "somebody else" });
const good = await authority.issue();
const expired = await authority.issue({ expired: true });
const foreign = await stranger.issue();
const alone = await selfSigned();
const alice = await authority.issue({ commonName: "alice" });
const aliceRsa = await authority.issue({ commonName: "alice", algorithm: "rsa" });

const PASSPHRASE = "open-sesame-4711";
// Lines of base64; the first of a key says only what kind it is of.
const secrets = [alice, aliceRsa].flatMap(({ key }) => key.trim().split("\n").slice(2, -1));

const everybody = new Peers();
after(() => everybody.release());

/** What is asked of a peer, unless a test says otherwise. */
const ASK: TlsOptions = { host: "localhost", verify: "full", ca: authority.cert };

/** Encrypts a connection to a peer that says `hello`. */
async function encrypt(
  server: ServerOptions,
  options: Partial<TlsOptions> = {},
  onSocket: (socket: Socket, plain: Socket) => void = (socket) => socket.write("hello"),
): Promise<EncryptedTransport> {
  const transport = await connect(await everybody.tls(server, onSocket));
  return await transport.startTls({ ...ASK, ...options });
}

async function text(transport: Transport): Promise<string> {
  return new TextDecoder().decode((await transport.read())!);
}

/** It says what is expected, and holds no secret, however it is looked at. */
async function refused(
  kind: TransportErrorKind,
  message: RegExp,
  attempt: () => Promise<unknown>,
): Promise<TransportError> {
  const error = await assertRejects(attempt, TransportError);
  assertEquals(error.kind, kind, error.message);
  assert(message.test(error.message), error.message);
  assert(error.hint !== undefined);
  const shown = `${inspect(error, { depth: 10, showHidden: true })} ${JSON.stringify(error)}`;
  for (const secret of [...secrets, PASSPHRASE]) {
    assert(!shown.includes(secret), "A secret is shown");
  }
  return error;
}

describe("the certificate of the other side", () => {
  test("is as it was presented, and what was agreed on is told", async () => {
    const transport = await encrypt({ ...good, ALPNProtocols: ["postgresql"] }, {
      alpnProtocols: ["other", "postgresql"],
    });
    assertEquals(transport.peerCertificate, good.der);
    assertEquals(transport.tlsVersion, "TLSv1.3");
    assertEquals(transport.alpnProtocol, "postgresql");
    assertEquals(await text(transport), "hello");
    transport.close();
  });

  test("is good on TLS 1.2 too, and with no ALPN", async () => {
    const transport = await encrypt({ ...good, maxVersion: "TLSv1.2" });
    assertEquals([transport.tlsVersion, transport.alpnProtocol], ["TLSv1.2", null]);
    assertEquals(transport.peerCertificate, good.der);
    assertEquals(await text(transport), "hello");
    transport.close();
  });

  for (const algorithm of ["rsa", "ecdsa", "ed25519"] as const) {
    for (const hash of ["SHA-256", "SHA-384", "SHA-512"] as const) {
      test(`may be signed by ${algorithm} with ${hash}`, async () => {
        const signer = await CertificateAuthority.create({ algorithm });
        const certificate = await signer.issue({ algorithm, hash });
        const transport = await encrypt(certificate, { ca: signer.cert });
        assertEquals(transport.peerCertificate, certificate.der);
        assertEquals(await text(transport), "hello");
        transport.close();
      });
    }
  }

  test("is for the name or the address that is asked for", async () => {
    const wildcard = await authority.issue({ dns: ["*.db.example"], ips: ["::1"] });
    for (const host of ["localhost", "LOCALHOST", "127.0.0.1"]) {
      (await encrypt(good, { host })).close();
    }
    for (const host of ["eu.db.example", "::1"]) (await encrypt(wildcard, { host })).close();
    for (const host of ["db.example", "a.b.db.example", "127.0.0.1", "localhost", "::2"]) {
      const error = await refused(
        "certificate-rejected",
        /it is for \*\.db\.example, .*1, not for/,
        () => encrypt(wildcard, { host }),
      );
      assert(error.message.includes(`not for ${host}`), error.message);
    }
  });

  test("with no names of its own is for its common name, which is no address", async () => {
    const old = await authority.issue({ commonName: "db.example", dns: [], ips: [] });
    (await encrypt(old, { host: "db.example" })).close();
    await refused(
      "certificate-rejected",
      /db\.example, not for localhost/,
      () => encrypt(old, { host: "localhost" }),
    );
    const number = await authority.issue({ commonName: "127.0.0.1", dns: [], ips: [] });
    await refused(
      "certificate-rejected",
      /not for 127/,
      () => encrypt(number, { host: "127.0.0.1" }),
    );
  });

  test("may be for another name under verify: ca, but not by anybody", async () => {
    const other = await authority.issue({ dns: ["db.example"], ips: [] });
    (await encrypt(other, { verify: "ca" })).close();
    await refused(
      "certificate-rejected",
      /not trusted here \(CN=somebody else\).*sslrootcert/,
      () => encrypt(foreign, { verify: "ca" }),
    );
  });

  test("that is rejected says why, and what to do", async () => {
    await refused(
      "certificate-rejected",
      /it expired on .*ssl_cert_file/,
      () => encrypt(expired, { verify: "ca" }),
    );
    await refused(
      "certificate-rejected",
      /self-signed.*sslrootcert/,
      () => encrypt(alone, { verify: "ca" }),
    );
    await refused(
      "certificate-rejected",
      /not trusted here.*sslrootcert=FILE has to hold/,
      () => encrypt(foreign),
    );
    await refused(
      "certificate-rejected",
      /not trusted here.*Pass the certificate of that authority with sslrootcert/,
      () => encrypt(good, { ca: undefined }),
    );
  });

  test("is not asked for anything under verify: none", async () => {
    for (const certificate of [foreign, expired, alone]) {
      const transport = await encrypt(certificate, { verify: "none", ca: undefined, host: "::1" });
      assertEquals(transport.peerCertificate, certificate.der);
      assertEquals(await text(transport), "hello");
      transport.close();
    }
  });

  test("may be trusted by itself, and so may several authorities", async () => {
    (await encrypt(alone, { ca: alone.cert })).close();
    const ca = `# ours\n${stranger.cert}\n${authority.cert}`;
    (await encrypt(good, { ca })).close();
    (await encrypt(foreign, { ca })).close();
  });

  test("may come with those between it and the authority, and has to", async () => {
    const between = await CertificateAuthority.create({ name: "between", issuer: authority });
    const { cert, key } = await between.issue();
    (await encrypt({ cert: cert + between.cert, key })).close();
    await refused(
      "certificate-rejected",
      /ssl_cert_file at the server/,
      () => encrypt({ cert, key }),
    );
  });

  test("that is rejected closes the connection", async () => {
    const { port } = await everybody.tls(alone);
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    const between = await everybody.tcp((socket) => {
      socket.pipe(connectSocket(port, "127.0.0.1")).pipe(socket);
      peerOf(socket).ended.then(resolve);
    });
    const transport = await connect(between);
    await refused("certificate-rejected", /self-signed/, () => transport.startTls(ASK));
    await gone;
    const error = await assertRejects(() => transport.read(), TransportError);
    assertEquals(error.kind, "connection-closed");
  });
});

describe("the name of the server", () => {
  test("is sent, an address never is, and nothing is where it is not to be", async () => {
    const sent: unknown[] = [];
    const onSocket = (socket: Socket) => {
      // Absent is false to some runtimes, undefined to others.
      sent.push((socket as TLSSocket & { servername?: string | false }).servername || null);
      socket.write("hello");
    };
    for (
      const options of [
        { host: "localhost" },
        { host: "127.0.0.1" },
        { host: "localhost", sendName: false },
      ]
    ) {
      const transport = await encrypt(good, options, onSocket);
      await text(transport);
      transport.close();
    }
    assertEquals(sent, ["localhost", null, null]);
  });
});

describe("a client certificate", () => {
  const asking = { requestCert: true, rejectUnauthorized: false, ca: authority.cert };
  const sayWho = (socket: Socket) => {
    const { subject } = (socket as TLSSocket).getPeerCertificate();
    socket.write(String(subject?.CN));
  };

  for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
    test(`is presented, on ${maxVersion}`, async () => {
      for (const { cert, key } of [alice, aliceRsa]) {
        const server = { ...good, ...asking, maxVersion };
        const transport = await encrypt(server, { cert, key }, sayWho);
        assertEquals(await text(transport), "alice");
        transport.close();
      }
    });

    test(`may have a key that is encrypted, on ${maxVersion}`, async () => {
      const key = encryptKey(alice.key, PASSPHRASE);
      const own = { cert: alice.cert, key, passphrase: PASSPHRASE };
      const transport = await encrypt({ ...good, ...asking, maxVersion }, own, sayWho);
      assertEquals(await text(transport), "alice");
      transport.close();
    });
  }

  test("that is asked for and not there is said so: with TLS 1.3 when something is read", async () => {
    const server = { ...good, ...asking, rejectUnauthorized: true };
    await refused(
      "tls-failed",
      /asks for a client certificate/,
      () => encrypt({ ...server, maxVersion: "TLSv1.2" }),
    );
    await refused("tls-failed", /it asks for a client certificate.*sslcert/, async () => {
      const transport = await encrypt(server);
      await transport.read();
    });
  });

  test("that cannot be used is an error here, and shows nothing of its key", async () => {
    const { cert, key } = alice;
    const locked = encryptKey(key, PASSPHRASE);
    for (
      const [options, message] of [
        [{ cert }, /sslcert is given and sslkey is not/],
        [{ key }, /sslkey is given and sslcert is not/],
        [{ cert, key: aliceRsa.key }, /sslkey is not the key of sslcert/],
        [{ cert, key: locked }, /encrypted, and the passphrase does not open it.*sslpassword/],
        [{ cert, key: locked, passphrase: "wrong" }, /the passphrase does not open it/],
        [{ cert, key: key.slice(0, 100) }, /no private key that can be read/],
        [{ cert: "rubbish", key }, /sslcert holds no certificate/],
        [{ ca: "rubbish" }, /sslrootcert holds no certificates/],
        [{ ca: cert.replaceAll("M", "L") }, /sslrootcert holds no certificates/],
      ] as [Partial<TlsOptions>, RegExp][]
    ) {
      await refused("tls-failed", message, () => encrypt(good, options));
    }
  });
});

describe("a handshake that fails", () => {
  async function handshakeWith(onSocket: (socket: Socket) => void): Promise<EncryptedTransport> {
    const transport = await connect(await everybody.tcp(onSocket));
    return await transport.startTls(ASK);
  }

  test("says that the other side does not speak TLS", async () => {
    const answers = ["E\0\0\0\x20SFATAL\0C0A000\0M no\0\0", "HTTP/1.1 400 Bad Request\r\n\r\n"];
    for (const answer of answers) {
      await refused(
        "tls-failed",
        /does not speak TLS.*ssl = on/,
        () => handshakeWith((socket) => socket.once("data", () => socket.write(answer))),
      );
    }
  });

  test("says that the other side closed the connection, or broke it off", async () => {
    const error = await refused(
      "tls-failed",
      /was closed during the TLS handshake/,
      () => handshakeWith((socket) => socket.once("data", () => socket.end())),
    );
    assert(error.retryable);
    const reset = await assertRejects(
      () => handshakeWith((socket) => socket.once("data", () => socket.resetAndDestroy())),
      TransportError,
    );
    assertEquals([reset.kind, reset.retryable], ["connection-lost", true]);
  });

  test("says what they do not agree on", async () => {
    await refused(
      "tls-failed",
      /does not speak the protocol of PostgreSQL/,
      () => encrypt({ ...good, ALPNProtocols: ["h2"] }, { alpnProtocols: ["postgresql"] }),
    );
  });

  test("is one where bytes had come before it (CVE-2021-23222), and closes the connection", async () => {
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const address = await everybody.tcp((socket) => {
      peerOf(socket).ended.then(resolve);
      socket.resume();
      socket.write("S");
      setTimeout(() => socket.write("injected"), 50);
    });
    const transport = await connect(address);
    assertEquals(await text(transport), "S");
    await delay(150);
    await refused("tls-failed", /sent bytes before.*CVE-2021-23222/, () => transport.startTls(ASK));
    await closed;
    const error = await assertRejects(() => transport.read(), TransportError);
    assertEquals(error.kind, "connection-closed");
  });

  test("is one where somebody reads, who would take the answer for the server's", async () => {
    const transport = await connect(await everybody.tcp());
    const reading = transport.read().catch((error) => error);
    await assertRejects(() => transport.startTls(ASK), TypeError);
    assertEquals((await reading).kind, "connection-closed");
  });

  test("rejects with the reason of its signal, and closes the connection", async () => {
    const reason = new Error("enough");
    for (const abortAfterMs of [null, 0, 50]) {
      const { promise: closed, resolve } = Promise.withResolvers<void>();
      const address = await everybody.tcp((socket) => {
        peerOf(socket).ended.then(resolve);
        socket.resume();
      });
      const transport = await connect(address);
      const controller = new AbortController();
      if (abortAfterMs === null) controller.abort(reason);
      const encrypting = transport.startTls({ ...ASK, signal: controller.signal });
      const outcome = encrypting.catch((error) => error);
      if (abortAfterMs !== null) setTimeout(() => controller.abort(reason), abortAfterMs);
      assertStrictEquals(await outcome, reason);
      await closed;
    }
  });

  test("is one of a connection that was closed", async () => {
    const transport = await connect(await everybody.tcp());
    transport.close();
    const error = await assertRejects(() => transport.startTls(ASK), TransportError);
    assertEquals(error.kind, "connection-closed");
  });
});

describe("an encrypted connection", () => {
  test("that is cut with no end of TLS is lost: anyone in between can do that", async () => {
    for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
      const transport = await encrypt({ ...good, maxVersion }, {}, (socket, plain) => {
        socket.write("hello");
        setTimeout(() => {
          plain.removeAllListeners("close");
          plain.end();
        }, 100);
      });
      assertEquals(await text(transport), "hello");
      const error = await assertRejects(() => transport.read(), TransportError);
      assertEquals([error.kind, error.retryable], ["connection-lost", true]);
      assert(error.message.includes("close_notify"), error.message);
      transport.close();
    }
  });

  test("is not encrypted once more", async () => {
    const transport = await encrypt(good);
    const error = await assertRejects(() => transport.startTls(ASK), TransportError);
    assertEquals(error.kind, "tls-failed");
    assertEquals(
      (await assertRejects(() => transport.write(new Uint8Array(1)), TransportError)).kind,
      "connection-closed",
    );
  });

  test("shows no key and no passphrase, however it is looked at", async () => {
    const key = encryptKey(alice.key, PASSPHRASE);
    const transport = await encrypt(good, { cert: alice.cert, key, passphrase: PASSPHRASE });
    const shown = inspect(transport, { depth: 10, showHidden: true });
    for (const secret of [...secrets, PASSPHRASE]) assert(!shown.includes(secret));
    transport.close();
  });
});
