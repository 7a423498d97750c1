/** What a connection comes to under each sslmode; the handshakes themselves are the transport's. */

import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertMatch,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { afterEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { PgStreamError } from "../../../src/errors.ts";
import { TransportError } from "../../../src/transport/transport.ts";
import { Connection, type ConnectOptions } from "../../../src/wire/connection.ts";
import { ProtocolError } from "../../../src/wire/errors.ts";
import type { ConnectionOptions, SslMode, SslOptions } from "../../../src/wire/options.ts";
import { pretendTls } from "../../support/pretended_tls.ts";
import {
  int32,
  type Peer,
  say,
  type ScriptedServer,
  startScripted,
  welcome,
} from "../../support/scripted_server.ts";

const MODES: readonly SslMode[] = ["prefer", "require", "verify-ca", "verify-full"];
const servers: ScriptedServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    await server.stop();
    assertEquals(server.failures, []);
  }
});

async function serve(script: (peer: Peer) => Promise<void>): Promise<ScriptedServer> {
  const server = await startScripted(script);
  servers.push(server);
  return server;
}

function encrypted(server: ScriptedServer, ssl: Partial<SslOptions>): ConnectionOptions {
  return { ...server.options, ssl: { ...server.options.ssl, ...ssl } };
}

/** As if the server were on another machine. */
function elsewhere(server: ScriptedServer, ssl: Partial<SslOptions>): ConnectionOptions {
  return { ...encrypted(server, ssl), hosts: [{ host: "db.example.org", port: 5432 }] };
}

/** What connecting fails with; nothing stays open, and the server is sent nothing but what is given back. */
async function refusal(
  ssl: Partial<SslOptions>,
  answer: string | null,
  options: ConnectOptions = {},
): Promise<{ error: PgStreamError; sent: string }> {
  let sent = "";
  const server = await serve(async (peer) => {
    if (answer === null) {
      await peer.take(8);
      peer.socket.end();
    } else {
      await peer.sslRequest(answer);
    }
    sent = await peer.rest();
  });
  const error = await assertRejects(
    () => Connection.connect(encrypted(server, ssl), options),
    PgStreamError,
  );
  const deadline = Date.now() + 5000;
  while (server.open() > 0) {
    assert(Date.now() < deadline, "the connection stayed open");
    await delay(5);
  }
  return { error, sent };
}

describe("a server that encrypts", () => {
  test("is asked, and then verified as the mode says", async () => {
    const given = { rootCert: "the roots", cert: "ours", key: "our key", keyPassword: "its lock" };
    const passedOn = { ca: "the roots", cert: "ours", key: "our key", passphrase: "its lock" };
    const nothing = { ca: undefined, cert: undefined, key: undefined, passphrase: undefined };
    const table: [SslMode, boolean, "none" | "ca" | "full"][] = [
      ["prefer", false, "none"],
      ["prefer", true, "ca"],
      ["require", false, "none"],
      ["require", true, "ca"],
      ["verify-ca", false, "ca"],
      ["verify-ca", true, "ca"],
      ["verify-full", false, "full"],
      ["verify-full", true, "full"],
    ];
    for (const [mode, withRoots, verify] of table) {
      const server = await serve(async (peer) => {
        await peer.sslRequest("S");
        await welcome(peer);
      });
      const { connect, handshakes } = pretendTls();
      const options = encrypted(server, { mode, ...(withRoots ? given : {}) });
      await (await Connection.connect(options, { connect })).close();
      const [{ signal, ...asked }] = handshakes as [typeof handshakes[0]];
      assertInstanceOf(signal, AbortSignal);
      assertEquals(asked, {
        host: "127.0.0.1",
        sendName: true,
        verify,
        ...(withRoots ? passedOn : nothing),
        alpnProtocols: ["postgresql"],
      }, `${mode}, ${withRoots}`);
      assertEquals(handshakes.length, 1);
    }
  });

  test("is expected to be `host`, wherever that leads; its name is kept back on request", async () => {
    const server = await serve(async (peer) => {
      await peer.sslRequest("S");
      await welcome(peer);
    });
    const { connect, handshakes } = pretendTls({}, server.port);
    const options = {
      ...elsewhere(server, { mode: "verify-full", sni: false }),
      hosts: [{ host: "db.example.org", hostaddr: "127.0.0.1", port: 5432 }],
    };
    await (await Connection.connect(options, { connect })).close();
    assertEquals(handshakes[0]!.host, "db.example.org");
    assertEquals(handshakes[0]!.sendName, false);
  });

  test("is never spoken to in the clear after a failed handshake", async () => {
    const failure = new TransportError("Cannot encrypt", {
      kind: "certificate-rejected",
      address: { host: "127.0.0.1", port: 1 },
    });
    for (const mode of MODES) {
      const { connect } = pretendTls({ failure });
      const { error, sent } = await refusal({ mode }, "S", { connect });
      assertStrictEquals(error, failure, mode);
      assertEquals(sent, "", mode);
    }
  });

  test("and turns out to be somebody who does not, gets nothing in the clear", async () => {
    for (const mode of MODES) {
      let sent = "";
      const server = await serve(async (peer) => {
        await peer.sslRequest("S");
        await delay(20);
        await peer.send(say.authenticationOk, say.key, say.ready);
        sent = await peer.rest();
      });
      const error = await assertRejects(
        () => Connection.connect(encrypted(server, { mode }), { password: "canary" }),
        TransportError,
      );
      assertMatch(error.kind, /^tls-/, mode);
      assertFalse(sent.includes("user\0"), mode);
      assertFalse(sent.includes("canary"), mode);
    }
  });

  test("is given up during the handshake at the deadline, and on abort", async () => {
    const server = await serve(async (peer) => {
      await peer.sslRequest("S");
      await peer.closed();
    });
    const { connect } = pretendTls();
    const stuck: ConnectOptions["connect"] = async (address, options) => ({
      ...await connect(address, options),
      startTls: ({ signal }) =>
        new Promise((_, reject) => {
          signal!.addEventListener("abort", () => reject(signal!.reason));
        }),
    });
    const options = { ...encrypted(server, { mode: "require" }), connectTimeoutMs: 100 };
    const late = await assertRejects(
      () => Connection.connect(options, { connect: stuck }),
      TransportError,
    );
    assertEquals(late.kind, "connect-timeout");
    const reason = new Error("enough");
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 50);
    const { signal } = controller;
    const aborted = Connection.connect(encrypted(server, { mode: "require" }), {
      connect: stuck,
      signal,
    });
    assertStrictEquals(await aborted.catch((error) => error), reason);
  });
});

describe("a server that does not encrypt", () => {
  test("is refused where encryption is required, before it learns who we are", async () => {
    for (const mode of ["require", "verify-ca", "verify-full"] as const) {
      const { error, sent } = await refusal({ mode }, "N");
      assertEquals(error.kind, "tls-refused");
      assertFalse(error.retryable);
      assert(error.message.includes(mode), error.message);
      assert(error.hint?.includes("ssl = on"));
      assertEquals(sent, "");
    }
  });

  test("is spoken to in the clear under prefer, with a warning unless it is on this machine", async () => {
    const server = await serve(async (peer) => {
      await peer.sslRequest("N");
      await welcome(peer);
    });
    for (const far of [true, false]) {
      const warnings: string[] = [];
      const { connect, handshakes } = pretendTls({}, server.port);
      const options = (far ? elsewhere : encrypted)(server, { mode: "prefer" });
      const connection = await Connection.connect(options, {
        connect,
        warnOnce: (message) => warnings.push(message),
      });
      await connection.close();
      assertEquals(handshakes, []);
      assertEquals(warnings.length, far ? 1 : 0);
      if (far) assertMatch(warnings[0]!, /db\.example\.org:5432 does not encrypt.*in the clear/);
    }
  });

  test("is not asked where none is wanted, and no warning is given", async () => {
    const server = await serve(async (peer) => {
      await welcome(peer);
      assertFalse(peer.askedToEncrypt);
    });
    const { connect } = pretendTls({}, server.port);
    const connection = await Connection.connect(elsewhere(server, { mode: "disable" }), {
      connect,
      warnOnce: (message) => {
        throw new Error(message);
      },
    });
    await connection.close();
  });

  test("on a unix socket is not asked under any mode", async () => {
    const server = await serve(async (peer) => {
      await welcome(peer);
      assertFalse(peer.askedToEncrypt);
    });
    for (const mode of MODES) {
      for (const negotiation of ["postgres", "direct"] as const) {
        const { connect, addresses } = pretendTls({}, server.port);
        const options = {
          ...encrypted(server, { mode, negotiation }),
          hosts: [{ host: "/run/postgresql", port: 5432 }],
        };
        await (await Connection.connect(options, { connect })).close();
        assertEquals(addresses, ["/run/postgresql/.s.PGSQL.5432"]);
      }
    }
  });
});

describe("an answer to SSLRequest", () => {
  test("with bytes behind it is an attack", async () => {
    const extra = new TextDecoder("latin1").decode(say.authenticationOk);
    for (const mode of MODES) {
      for (const answer of [`S${extra}`, `N${extra}`, "SS", "NN", "SN"]) {
        const { error, sent } = await refusal({ mode }, answer);
        assertInstanceOf(error, ProtocolError, `${mode} ${answer}`);
        assertEquals(sent, "");
      }
    }
  });

  test("that is another byte is no PostgreSQL server's", async () => {
    for (const answer of ["G", "s", "\0", "H", "HTTP/1.1 400 Bad Request\r\n", "R", "\x16"]) {
      for (const mode of MODES) {
        const { error, sent } = await refusal({ mode }, answer);
        assertInstanceOf(error, ProtocolError, answer);
        assertFalse(error.message.includes("HTTP"));
        assertEquals(sent, "");
      }
    }
  });

  test("that is an error is told without its words, which may be anyone's", async () => {
    const words = new TextDecoder().decode(say.error("FATAL", "53300", "send money to Mallory"));
    for (const answer of ["E", words, "Ecould not fork new process\n\0"]) {
      for (const mode of MODES) {
        const { error, sent } = await refusal({ mode }, answer);
        assertEquals(error.kind, "tls-refused");
        assert(error.retryable);
        assertFalse(/Mallory|fork/.test(`${error.message} ${error.cause}`));
        assertEquals(sent, "");
      }
    }
  });

  test("that is none is a lost connection", async () => {
    for (const mode of MODES) {
      const { error } = await refusal({ mode }, null);
      assertEquals(error.kind, "connection-lost");
      assert(error.retryable);
    }
  });
});

describe("direct TLS", () => {
  test("begins with the handshake", async () => {
    const server = await serve(async (peer) => {
      await welcome(peer);
      assertFalse(peer.askedToEncrypt);
    });
    for (const told of [{}, { tlsVersion: null, alpnProtocol: null }]) {
      const { connect, handshakes } = pretendTls(told);
      const options = encrypted(server, { mode: "require", negotiation: "direct" });
      await (await Connection.connect(options, { connect })).close();
      assertEquals(handshakes[0]!.alpnProtocols, ["postgresql"]);
    }
  });

  test("with somebody who does not say that it is PostgreSQL is refused", async () => {
    for (const alpnProtocol of [null, "http/1.1"]) {
      let sent = "";
      const server = await serve(async (peer) => {
        sent = await peer.rest();
      });
      const { connect } = pretendTls({ alpnProtocol });
      const options = encrypted(server, { mode: "require", negotiation: "direct" });
      const error = await assertRejects(() => Connection.connect(options, { connect }));
      assertInstanceOf(error, PgStreamError);
      assertEquals(error.kind, "tls-refused");
      assert(error.hint?.includes("sslnegotiation=postgres"));
      while (server.open() > 0) await delay(5);
      assertEquals(sent, "");
    }
  });
});

describe("a cancel request", () => {
  /** What the second connection does, with a statement of the first one running. */
  async function cancelling(
    mode: SslMode,
    first: (peer: Peer) => Promise<void>,
    second: (peer: Peer) => Promise<void>,
  ): Promise<{ closed: boolean; handshakes: number; verify: string | undefined }> {
    let connections = 0;
    const { promise: cancelled, resolve: cancel } = Promise.withResolvers<void>();
    const controller = new AbortController();
    const server = await serve(async (peer) => {
      if (++connections === 2) {
        await second(peer);
        cancel();
        peer.socket.end();
        return;
      }
      await first(peer);
      await welcome(peer);
      await peer.message();
      controller.abort(new Error("enough"));
      await cancelled;
      await peer.send(say.error("ERROR", "57014", "canceling statement"), say.ready);
    });
    const { connect, handshakes } = pretendTls();
    const connection = await Connection.connect(encrypted(server, { mode }), { connect });
    const { signal } = controller;
    const error = await connection.query("SELECT", { signal }).catch((error) => error);
    assertStrictEquals(error, signal.reason);
    const { closed } = connection;
    await connection.close();
    await cancelled;
    return { closed, handshakes: handshakes.length, verify: handshakes.at(-1)?.verify };
  }

  const request = [...int32(16), ...int32(80877102), ...int32(77), 1, 2, 3, 4];

  test("is encrypted as its connection is", async () => {
    const verified = { prefer: "none", require: "none", "verify-ca": "ca", "verify-full": "full" };
    for (const [mode, verify] of Object.entries(verified)) {
      const outcome = await cancelling(
        mode as SslMode,
        (peer) => peer.sslRequest("S"),
        async (peer) => {
          await peer.sslRequest("S");
          assertEquals([...await peer.take(16)], request);
        },
      );
      assertEquals(outcome, { closed: false, handshakes: 2, verify }, mode);
    }
  });

  test("is not sent in the clear where its connection is encrypted, under prefer neither", async () => {
    let sent = "?";
    const outcome = await cancelling(
      "prefer",
      (peer) => peer.sslRequest("S"),
      async (peer) => {
        await peer.sslRequest("N");
        sent = await peer.rest();
      },
    );
    assertEquals(sent, "");
    assert(outcome.closed, "what cannot be cancelled costs the connection");
  });

  test("goes in the clear where its connection does", async () => {
    const outcome = await cancelling(
      "prefer",
      (peer) => peer.sslRequest("N"),
      async (peer) => assertEquals([...await peer.take(16)], request),
    );
    assertEquals(outcome, { closed: false, handshakes: 0, verify: undefined });
  });

  test("has arrived though its connection is cut off without a good-bye", async () => {
    const outcome = await cancelling(
      "require",
      (peer) => peer.sslRequest("S"),
      async (peer) => {
        await peer.sslRequest("S");
        await peer.take(16);
        peer.socket.resetAndDestroy();
      },
    );
    assertFalse(outcome.closed);
  });
});
