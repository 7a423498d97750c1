import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { afterEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { inspect } from "node:util";
import { PgStreamError } from "../../../src/errors.ts";
import { connect } from "../../../src/transport/node.ts";
import type { Transport } from "../../../src/transport/transport.ts";
import { TransportError } from "../../../src/transport/transport.ts";
import {
  Connection,
  type ConnectOptions,
  parseServerVersion,
} from "../../../src/wire/connection.ts";
import { ProtocolError, WireError } from "../../../src/wire/errors.ts";
import { PostgresError, type ServerMessage } from "../../../src/wire/postgres_error.ts";
import {
  concat,
  int32,
  msg,
  type Peer,
  say,
  scram,
  type ScramFaults,
  type ScriptedServer,
  startScripted,
  welcome,
} from "../../support/scripted_server.ts";

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

/** A connection to a server that welcomes everyone and then plays the script. */
async function connected(
  script: (peer: Peer) => Promise<void>,
  options: ConnectOptions = {},
): Promise<Connection> {
  const server = await serve(async (peer) => {
    await welcome(peer);
    await script(peer);
  });
  return Connection.connect(server.options, options);
}

/** What connecting to a server that plays the script fails with; nothing may stay open. */
async function refusal(
  script: (peer: Peer) => Promise<void>,
  options: ConnectOptions = {},
): Promise<PgStreamError> {
  const server = await serve(script);
  const error = await assertRejects(() => Connection.connect(server.options, options));
  assertInstanceOf(error, PgStreamError);
  const deadline = Date.now() + 5000;
  while (server.open() > 0) {
    assert(Date.now() < deadline, "the connection stayed open");
    await delay(5);
  }
  return error;
}

describe("start-up", () => {
  test("names user, database, application and the text settings", async () => {
    let parameters: Record<string, string> = {};
    const server = await serve(async (peer) => {
      parameters = await welcome(peer);
    });
    const connection = await Connection.connect(
      { ...server.options, options: "-c a=b" },
      { replication: "database" },
    );
    assertEquals(parameters, {
      user: "app",
      database: "db",
      replication: "database",
      application_name: "pgstream",
      options: "-c a=b",
      client_encoding: "UTF8",
      DateStyle: "ISO",
      IntervalStyle: "postgres",
      TimeZone: "UTC",
      bytea_output: "hex",
      extra_float_digits: "3",
      standard_conforming_strings: "on",
      search_path: "",
    });
    assertEquals(connection.processId, 77);
    assertEquals(connection.serverVersion, 180004);
    assertEquals(connection.parameters.get("server_version"), "18.4");
    await connection.close();
  });

  test("works when the server's bytes come one at a time", async () => {
    const server = await serve(async (peer) => {
      await peer.startup();
      const bytes = concat([say.authenticationOk, say.notice("hello"), say.key, say.ready]);
      for (const byte of bytes) await peer.send(Uint8Array.of(byte));
    });
    const notices: string[] = [];
    const connection = await Connection.connect(server.options, {
      onNotice: (notice) => notices.push(notice.message),
    });
    assertEquals(notices, ["hello"]);
    await connection.close();
  });

  test("accepts a server that negotiates the protocol, long keys, and no key at all", async () => {
    const negotiate = msg("v", int32(0), int32(0));
    for (const key of [[], [msg("K", int32(5), new Uint8Array(256))]]) {
      const server = await serve(async (peer) => {
        await peer.startup();
        await peer.send(negotiate, say.authenticationOk, ...key, say.ready);
      });
      const connection = await Connection.connect(server.options);
      assertEquals(connection.processId, key.length === 0 ? 0 : 5);
      await connection.close();
    }
  });

  test("is refused with the server's own words, and a kind", async () => {
    const cases: [string, string, boolean][] = [
      ["28P01", "authentication", false],
      ["3D000", "database-missing", false],
      ["53300", "too-many-connections", true],
      ["57P03", "server-starting", true],
    ];
    for (const [code, kind, retryable] of cases) {
      const error = await refusal(async (peer) => {
        await peer.startup();
        await peer.send(say.error("FATAL", code, "so it is"));
        peer.socket.end();
      });
      assertInstanceOf(error, PostgresError);
      assertEquals([error.kind, error.retryable], [kind, retryable]);
      assert(error.message.includes("so it is"));
      assert(error.hint !== undefined);
    }
  });

  test("through a pooler says to use the direct address", async () => {
    const error = await refusal(async (peer) => {
      await peer.startup();
      await peer.send(say.error("FATAL", "08P01", "unsupported startup parameter: replication"));
    });
    assert(error.hint?.includes("direct address"));
  });

  test("that never ends is given up at the deadline", async () => {
    for (const first of [[], [say.authenticationOk]]) {
      const server = await serve(async (peer) => {
        await peer.startup();
        await peer.send(...first);
        await peer.closed();
      });
      const options = { ...server.options, connectTimeoutMs: 200 };
      const error = await assertRejects(() => Connection.connect(options), TransportError);
      assertEquals(error.kind, "connect-timeout");
      assert(error.retryable);
      assert(error.message.includes(`127.0.0.1:${server.port}`));
    }
  });

  test("of endless notices is given up at the deadline", async () => {
    const server = await serve(async (peer) => {
      await peer.startup();
      const notices = concat(Array.from({ length: 1000 }, () => say.notice("again")));
      while (!peer.socket.destroyed) await peer.send(notices);
    });
    const options = { ...server.options, connectTimeoutMs: 300 };
    const error = await assertRejects(() => Connection.connect(options), TransportError);
    assertEquals(error.kind, "connect-timeout");
  });

  test("is given up on abort, with the reason, at any point", async () => {
    const server = await serve(async (peer) => {
      await peer.startup();
      await peer.send(say.cleartext);
      await peer.closed();
    });
    const reason = new Error("enough");
    const never = new Promise<string>(() => {});
    const before = Connection.connect(server.options, { signal: AbortSignal.abort(reason) });
    assertStrictEquals(await before.catch((error) => error), reason);
    const controller = new AbortController();
    const during = Connection.connect(server.options, {
      signal: controller.signal,
      password: () => {
        controller.abort(reason);
        return never;
      },
    });
    assertStrictEquals(await during.catch((error) => error), reason);
  });

  test("closes a transport that comes after the deadline", async () => {
    const server = await serve(async (peer) => await peer.closed());
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    const connecting = Connection.connect({ ...server.options, connectTimeoutMs: 50 }, {
      connect: async (address) => {
        await delay(150);
        const transport = await connect(address, {});
        const late: Transport = {
          read: () => transport.read(),
          write: (bytes) => transport.write(bytes),
          startTls: (options) => transport.startTls(options),
          close: () => {
            transport.close();
            resolve();
          },
        };
        return late;
      },
    });
    assertEquals((await assertRejects(() => connecting, TransportError)).kind, "connect-timeout");
    await closed;
  });

  test("cut off at any byte is a typed error", async () => {
    const hello = concat([
      say.authenticationOk,
      say.parameter("server_version", "18.4"),
      say.key,
      say.ready,
    ]);
    for (let cut = 0; cut < hello.length; cut++) {
      const error = await refusal(async (peer) => {
        await peer.startup();
        await peer.send(hello.slice(0, cut));
        peer.socket.end();
      });
      assertEquals(error.kind, "connection-lost", `cut at ${cut}`);
      assert(error.retryable);
    }
  });

  test("by something that is no Postgres server is a typed error", async () => {
    const answers = [
      "HTTP/1.1 400 Bad Request\r\n\r\n",
      "SSH-2.0-OpenSSH_9.6\r\n",
      "\x15\x03\x01\0",
    ];
    for (const answer of answers) {
      const error = await refusal(async (peer) => {
        await peer.startup();
        await peer.send(new TextEncoder().encode(answer));
        peer.socket.end();
      });
      assert(error instanceof ProtocolError || error.kind === "connection-lost", answer);
    }
  });

  test("refuses messages that have no place in it", async () => {
    const scripts = [
      [say.ready],
      [say.key],
      [say.authenticationOk, say.authenticationOk],
      [say.authenticationOk, say.row("x")],
      [msg("Z", "I")],
      [msg("R", int32(0), [0])],
      [msg("R", [0, 0])],
      [say.saslContinue("r=x,s=AAAA,i=1")],
      [say.saslFinal("v=AAAA")],
      [Uint8Array.from([0x52, ...int32(2 ** 31 - 1)])],
    ];
    for (const script of scripts) {
      const error = await refusal(async (peer) => {
        await peer.startup();
        await peer.send(...script);
        await peer.closed();
      });
      assertInstanceOf(error, ProtocolError);
    }
  });
});

describe("authentication", () => {
  const secret = "canary-Pässword";

  function assertNoSecret(error: unknown): void {
    const shown = inspect(error, { depth: 20, showHidden: true });
    assertFalse(shown.includes("canary"), shown);
  }

  test("by SCRAM works, with a password or a function that gives one", async () => {
    for (const password of [secret, () => secret, () => Promise.resolve(secret)]) {
      const server = await serve(async (peer) => {
        await peer.startup();
        assert(await scram(peer, secret));
        await peer.send(say.authenticationOk, say.key, say.ready);
      });
      const connection = await Connection.connect(server.options, { password });
      assertNoSecret(connection);
      await connection.close();
    }
  });

  test("by SCRAM refuses a server that does not prove that it knows the password", async () => {
    const faults: [string, ScramFaults][] = [
      ["wrong signature", { final: () => `v=${"A".repeat(43)}=` }],
      ["short signature", { final: () => "v=AAAA" }],
      ["no final message", { final: () => null }],
      ["an error", { final: () => "e=other-error" }],
      ["a nonce of its own", { nonce: () => "abcdefghijklmnopqrstuvwxyz0123456789" }],
      ["our nonce alone", { nonce: (client) => client }],
      ["too many iterations", { iterations: 2_147_483_647 }],
      ["no iterations", { iterations: "0" }],
      ["no salt", { salt: "" }],
      ["a salt that is no base64", { salt: "!" }],
    ];
    for (const [name, fault] of faults) {
      const error = await refusal(async (peer) => {
        await peer.startup();
        // A count that ends the exchange early must not be worked through by the script either.
        await scram(peer, secret, fault);
        await peer.send(say.authenticationOk, say.key, say.ready);
        await peer.closed();
      }, { password: secret });
      assertEquals(error.kind, "authentication", name);
      assertNoSecret(error);
    }
  });

  test("refuses AuthenticationOk in the middle of SCRAM", async () => {
    const error = await refusal(async (peer) => {
      await peer.startup();
      await peer.send(say.sasl("SCRAM-SHA-256"));
      await peer.message();
      await peer.send(say.authenticationOk, say.key, say.ready);
      await peer.closed();
    }, { password: secret });
    assertEquals(error.kind, "authentication");
  });

  test("does not hand the password to a server that falls back after SCRAM", async () => {
    let sent = "";
    const error = await refusal(async (peer) => {
      await peer.startup();
      await peer.send(say.sasl("SCRAM-SHA-256"));
      await peer.message();
      await peer.send(say.cleartext);
      sent = (await peer.message()).text;
    }, { password: secret });
    assertInstanceOf(error, ProtocolError);
    assertEquals(sent, "");
  });

  test("by means that are not supported says which", async () => {
    const cases: [Uint8Array, string][] = [
      [say.sasl("SCRAM-SHA-256-PLUS"), "SCRAM-SHA-256-PLUS"],
      [say.sasl("OAUTHBEARER"), "OAUTHBEARER"],
      [say.sasl(), "SASL"],
      [msg("R", int32(2)), "Kerberos"],
      [msg("R", int32(7)), "GSSAPI"],
      [msg("R", int32(9)), "SSPI"],
      [msg("R", int32(99)), "99"],
    ];
    for (const [asked, name] of cases) {
      const error = await refusal(async (peer) => {
        await peer.startup();
        await peer.send(asked);
        await peer.closed();
      }, { password: secret });
      assertEquals(error.kind, "authentication-unsupported");
      assert(error.message.includes(name), error.message);
    }
  });

  test("without a password says where to put one, and keeps a failing function's error", async () => {
    const ask = async (peer: Peer) => {
      await peer.startup();
      await peer.send(say.cleartext);
      await peer.closed();
    };
    for (const options of [{}, { password: "" }]) {
      const error = await refusal(ask, options);
      assertEquals(error.kind, "password-missing");
      assert(error.hint?.includes("PGPASSWORD"));
    }
    const cause = new Error("the vault is shut");
    const error = await refusal(ask, { password: () => Promise.reject(cause) });
    assertEquals(error.kind, "password-missing");
    assertStrictEquals(error.cause, cause);
  });

  test("leaks the password in no error, whatever fails", async () => {
    const scripts: ((peer: Peer) => Promise<void>)[] = [
      async (peer) => {
        await peer.send(say.cleartext);
        await peer.message();
        await peer.send(
          say.error("FATAL", "28P01", 'password authentication failed for user "app"'),
        );
      },
      async (peer) => {
        await peer.send(say.cleartext);
        await peer.message();
        peer.socket.destroy();
      },
      async (peer) => {
        await peer.send(msg("R", int32(5), [1, 2, 3, 4]));
        await peer.message();
        await peer.send(say.cleartext);
      },
      async (peer) => {
        await scram(peer, "another password");
        await peer.send(say.authenticationOk);
      },
      async (peer) => {
        await scram(peer, secret);
        await peer.send(msg("d", "x"));
      },
    ];
    for (const script of scripts) {
      const log: unknown[] = [];
      const note = (...details: unknown[]) => log.push(details);
      const error = await refusal(async (peer) => {
        await peer.startup();
        await script(peer);
      }, { password: secret, logger: { debug: note, info: note, warn: note, error: note } });
      assertNoSecret(error);
      assertNoSecret(log);
    }
  });
});

describe("a query", () => {
  test("gives the last result that has columns", async () => {
    const connection = await connected(async (peer) => {
      const { type, text } = await peer.message();
      assertEquals([type, text], ["Q", "SELECT 1; SELECT 2; SET x\0"]);
      await peer.send(
        say.columns("a"),
        say.row("1"),
        say.complete("SELECT 1"),
        say.columns("b", "c"),
        say.row("2", null),
        say.notice("between"),
        say.row("", "é"),
        say.complete("SELECT 2"),
        say.complete("SET"),
        say.parameter("TimeZone", "Asia/Tokyo"),
        say.ready,
      );
      await peer.message();
      await peer.send(msg("I"), say.ready);
      await peer.message();
      await peer.send(say.complete("BEGIN"), say.ready);
    });
    const { fields, rows, command } = await connection.query("SELECT 1; SELECT 2; SET x");
    assertEquals(fields.map((field) => field.name), ["b", "c"]);
    assertEquals(rows, [["2", null], ["", "é"]]);
    assertEquals(command, "SELECT 2");
    assertEquals(connection.parameters.get("TimeZone"), "Asia/Tokyo");
    assertEquals(await connection.query(""), { fields: [], rows: [], command: "" });
    assertEquals((await connection.query("BEGIN")).command, "BEGIN");
    await connection.close();
  });

  test("that fails leaves the connection usable", async () => {
    const connection = await connected(async (peer) => {
      await peer.message();
      await peer.send(say.columns("a"), say.row("1"));
      await peer.send(say.error("ERROR", "42P01", "no such table", "P5\0"), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const error = await assertRejects(() => connection.query("SELECT"), PostgresError);
    assertEquals([error.code, error.position], ["42P01", 5]);
    assertEquals((await connection.query("SELECT")).command, "SELECT 0");
    await connection.close();
  });

  test("is one at a time: a second is refused, and neither waits for the other", async () => {
    const { promise: go, resolve } = Promise.withResolvers<void>();
    const connection = await connected(async (peer) => {
      await peer.message();
      await go;
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const first = connection.query("SELECT");
    const error = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(error.kind, "connection-busy");
    assertEquals((await connection.copyBoth("x").catch((error) => error)).kind, "connection-busy");
    resolve();
    await first;
    await connection.close();
  });

  test("that the server dies in keeps the server's last words", async () => {
    const connection = await connected(async (peer) => {
      await peer.message();
      const words = say.error("FATAL", "57P01", "terminating connection");
      await peer.send(say.columns("a"), say.row("1"), words);
      peer.socket.end();
    });
    const error = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(error.kind, "connection-lost");
    assert(error.retryable);
    assert(error.message.includes("terminating connection"));
    assertInstanceOf(error.cause, PostgresError);
    assert(connection.closed);
    const later = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(later.kind, "connection-closed");
    assert(later.retryable);
    assertStrictEquals(later.cause, error);
  });

  test("after the server has gone keeps the words that came meanwhile", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.error("FATAL", "57P01", "terminating connection"));
      peer.socket.end();
    });
    await delay(100);
    const error = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(error.kind, "connection-lost");
    assert(error.message.includes("terminating connection"), error.message);
  });

  test("cut off in the middle of a message says so", async () => {
    const connection = await connected(async (peer) => {
      await peer.message();
      await peer.send(concat([say.columns("a"), say.row("value")]).slice(0, -2));
      peer.socket.end();
    });
    const error = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(error.kind, "connection-lost");
    assert(error.message.includes("in the middle of a message"));
  });

  test("answered with what does not parse, or has no place, ends the connection", async () => {
    const answers = [
      [say.copyData("x")],
      [say.authenticationOk],
      [say.row("a column that nobody announced")],
      [say.columns("a"), say.row("1", "2")],
      [msg("Z", "?")],
      [msg("C", "no end")],
      [msg("E", "no end")],
      [Uint8Array.from([0x44, ...int32(3)])],
      [msg("!", "")],
    ];
    for (const answer of answers) {
      const connection = await connected(async (peer) => {
        await peer.message();
        await peer.send(...answer);
        await peer.closed();
      });
      const error = await assertRejects(() => connection.query("SELECT"), ProtocolError);
      assertEquals(error.kind, "protocol-violation");
      assert(connection.closed);
    }
  });

  test("that turns out to copy is refused, and the connection is usable where it can be", async () => {
    const connection = await connected(async (peer) => {
      await peer.message();
      await peer.send(msg("G", [0], [0, 0]));
      assertEquals((await peer.message()).type, "f");
      await peer.send(say.error("ERROR", "57014", "COPY from stdin failed"), say.ready);
      await peer.message();
      await peer.send(say.copyOut, say.copyData("x\n"), say.copyDone, say.complete("COPY 1"));
      await peer.send(say.ready);
      await peer.message();
      await peer.send(say.copyBoth);
    });
    for (const sql of ["COPY t FROM STDIN", "COPY t TO STDOUT", "START_REPLICATION"]) {
      const error = await assertRejects(() => connection.query(sql), WireError);
      assertEquals(error.kind, "wrong-statement", sql);
    }
    assert(connection.closed);
  });

  test("with a zero byte is refused before anything is sent", async () => {
    const connection = await connected(async (peer) => {
      assertEquals((await peer.message()).text, "SELECT\0");
      await peer.send(say.ready);
    });
    await assertRejects(() => connection.query("SELECT '\0'"), RangeError);
    await connection.query("SELECT");
    await connection.close();
  });

  test("that is aborted is cancelled at the server, and the connection goes on", async () => {
    const reason = new Error("enough");
    const controller = new AbortController();
    const { promise: cancelled, resolve: cancel } = Promise.withResolvers<Uint8Array>();
    let cancelling = false;
    let through = false;
    const server = await serve(async (peer) => {
      if (cancelling) {
        cancel(await peer.take(16));
        await delay(100);
        through = true;
        peer.socket.end();
        return;
      }
      await welcome(peer);
      await peer.message();
      cancelling = true;
      controller.abort(reason);
      await cancelled;
      await peer.send(say.error("ERROR", "57014", "canceling statement"), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const connection = await Connection.connect(server.options);
    const { signal } = controller;
    const caught = await connection.query("SELECT", { signal }).catch((error) => error);
    assertStrictEquals(caught, reason);
    assert(through, "a request that is still on its way could cancel the next statement");
    const request = [...int32(16), ...int32(80877102), ...int32(77), 1, 2, 3, 4];
    assertEquals(await cancelled, Uint8Array.from(request));
    await connection.query("SELECT");
    await connection.close();
  });

  test("that is aborted and that the server does not cancel costs the connection", async () => {
    const reason = new Error("enough");
    const connection = await connected(async (peer) => {
      await peer.message();
      await peer.closed();
    });
    const signal = AbortSignal.timeout(50);
    signal.addEventListener("abort", () => {});
    const begun = performance.now();
    const caught = await connection.query("SELECT", { signal }).catch((error) => error);
    assertStrictEquals(caught, signal.reason);
    assert(performance.now() - begun < 5000);
    assert(connection.closed);
    const aborted = { signal: AbortSignal.abort(reason) };
    assertStrictEquals(await connection.query("SELECT", aborted).catch((error) => error), reason);
  });
});

describe("closing", () => {
  test("says good-bye once, and never fails", async () => {
    const types: string[] = [];
    const connection = await connected(async (peer) => {
      types.push((await peer.message()).type);
      await peer.closed();
      await peer.message();
    });
    await Promise.all([connection.close(), connection.close(), connection[Symbol.asyncDispose]()]);
    await connection.close();
    assert(connection.closed);
    assertEquals((await connection.query("x").catch((error) => error)).kind, "connection-closed");
    while (types.length === 0) await delay(5);
    assertEquals(types, ["X"]);
  });

  test("makes a running query reject", async () => {
    const connection = await connected(async (peer) => {
      await peer.message();
      await peer.closed();
    });
    const running = connection.query("SELECT").catch((error) => error);
    await connection.close();
    assertEquals((await running).kind, "connection-closed");
  });
});

test("a notice handler that throws ends the connection with its error", async () => {
  const thrown = new Error("this notice matters");
  const connection = await connected(async (peer) => {
    await peer.message();
    await peer.send(say.notice("skipped loading publication"), say.complete("x"), say.ready);
    await peer.closed();
  }, {
    onNotice: (_notice: ServerMessage) => {
      throw thrown;
    },
  });
  assertStrictEquals(await connection.query("SELECT").catch((error) => error), thrown);
  assert(connection.closed);
});

test("a server version is read however the packager writes it", () => {
  const table: [string, number][] = [
    ["18.4", 180004],
    ["17.4 (Debian 17.4-1.pgdg120+2)", 170004],
    ["18beta1", 180000],
    ["19devel", 190000],
    ["10.23", 100023],
    ["9.6.24", 90624],
    ["14.23 (Ubuntu 14.23-0ubuntu0.22.04.1)", 140023],
    ["", 0],
    ["unknown", 0],
  ];
  for (const [text, number] of table) assertEquals(parseServerVersion(text), number, text);
});
