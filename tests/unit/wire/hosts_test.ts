/** Which of several servers a connection goes to. */

import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { afterEach, describe, test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { TransportError } from "../../../src/transport/transport.ts";
import { Connection, type ConnectOptions } from "../../../src/wire/connection.ts";
import { WireError } from "../../../src/wire/errors.ts";
import type {
  ConnectionOptions,
  HostOptions,
  TargetSessionAttrs,
} from "../../../src/wire/options.ts";
import { pretendTls } from "../../support/pretended_tls.ts";
import { seededRandom } from "../../support/random.ts";
import {
  type Peer,
  say,
  type ScriptedServer,
  startScripted,
  welcome,
} from "../../support/scripted_server.ts";

type Script = (peer: Peer) => Promise<unknown>;

const servers: ScriptedServer[] = [];
/** The servers that were connected to, by their place, in order. */
let visits: number[] = [];

afterEach(async () => {
  visits = [];
  for (const server of servers.splice(0)) {
    await server.stop();
    assertEquals(server.failures, []);
  }
});

/** Servers that play the scripts, and the options that name them in this order. */
async function serve(
  scripts: Script[],
  more: Partial<ConnectionOptions> = {},
): Promise<ConnectionOptions> {
  const hosts: HostOptions[] = [];
  let first: ScriptedServer | undefined;
  for (const [place, script] of scripts.entries()) {
    const server = await startScripted(async (peer) => {
      visits.push(place);
      await script(peer);
    });
    servers.push(server);
    first ??= server;
    hosts.push({ host: "127.0.0.1", port: server.port });
  }
  return { ...first!.options, hosts, ...more };
}

/** The place of the server that is connected to. */
async function placeOf(options: ConnectionOptions, settings: ConnectOptions = {}): Promise<number> {
  const connection = await Connection.connect(options, settings);
  const place = options.hosts.indexOf(connection.host);
  await connection.close();
  return place;
}

async function refusedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function refuses(code: string): Script {
  return async (peer) => {
    await peer.startup();
    await peer.send(say.error("FATAL", code, "so it is"));
    await peer.closed();
  };
}

const silent: Script = (peer) => peer.closed();
const hangsUp: Script = async (peer) => {
  await peer.startup();
  peer.socket.end();
};
const noServer: Script = async (peer) => {
  await peer.startup();
  await peer.send(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await peer.closed();
};

/** A server of 14 or later: it reports what it is. */
function reports(standby: boolean, readOnly: boolean): Script {
  return (peer) =>
    welcome(
      peer,
      say.parameter("in_hot_standby", standby ? "on" : "off"),
      say.parameter("default_transaction_read_only", readOnly ? "on" : "off"),
    );
}

/** An older server: it is asked. */
function answers(standby: boolean, readOnly: boolean): Script {
  return async (peer) => {
    await welcome(peer);
    const { type, text } = await peer.message();
    if (type === "X") return;
    assert(text.includes("pg_is_in_recovery") && text.includes("transaction_read_only"), text);
    const values = [standby, standby || readOnly].map((on) => on ? "on" : "off");
    await peer.send(say.columns("a", "b"), say.row(...values), say.complete("SELECT 1"), say.ready);
  };
}

describe("several hosts", () => {
  test("are tried in order, up to the first that takes us", async () => {
    const options = await serve([welcome, welcome]);
    assertEquals(await placeOf(options), 0);
    assertEquals(visits, [0]);
    const port = await refusedPort();
    const behind = { ...options, hosts: [{ host: "127.0.0.1", port }, ...options.hosts] };
    assertEquals(await placeOf(behind), 1);
  });

  test("are passed over as long as what is wrong with them may pass", async () => {
    const passing: [string, Script][] = [
      ["silent", silent],
      ["hangs up", hangsUp],
      ["starts", refuses("57P03")],
      ["is full", refuses("53300")],
      ["stops", refuses("57P01")],
    ];
    for (const [name, script] of passing) {
      const options = await serve([script, script, welcome], { connectTimeoutMs: 150 });
      assertEquals(await placeOf(options), 2, name);
    }
  });

  test("each have the whole of the time", async () => {
    const slow: Script = async (peer) => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      await welcome(peer);
    };
    const options = await serve([silent, slow], { connectTimeoutMs: 300 });
    assertEquals(await placeOf(options), 1);
  });

  test("are not gone through with a wrong password, or past what is no answer of a server's", async () => {
    const final: [string, Script][] = [
      ["authentication", refuses("28P01")],
      ["authentication", refuses("28000")],
      ["database-missing", refuses("3D000")],
      ["protocol-rejected", refuses("08P01")],
      ["protocol-violation", noServer],
      ["password-missing", async (peer) => {
        await peer.startup();
        await peer.send(say.cleartext);
        await peer.closed();
      }],
    ];
    for (const [kind, script] of final) {
      visits = [];
      const options = await serve([script, welcome]);
      const error = await assertRejects(() => Connection.connect(options), PgStreamError);
      assertEquals(error.kind, kind);
      assertEquals(visits, [0], kind);
    }
  });

  test("are not gone through with a certificate that is not trusted, or without encryption", async () => {
    const failure = new TransportError("Cannot trust it", {
      kind: "certificate-rejected",
      address: { host: "127.0.0.1", port: 1 },
    });
    for (const [answer, kind] of [["S", "certificate-rejected"], ["N", "tls-refused"]] as const) {
      visits = [];
      const options = await serve([(peer) => peer.sslRequest(answer), welcome], {
        ssl: { mode: "require", negotiation: "postgres", sni: true },
      });
      const { connect } = pretendTls({ failure });
      const error = await assertRejects(() => Connection.connect(options, { connect }));
      assertInstanceOf(error, PgStreamError);
      assertEquals(error.kind, kind);
      assertEquals(visits, [0]);
    }
  });

  test("that all fail are named, each with its reason and without the password", async () => {
    const options = await serve([refuses("57P03"), silent], {
      connectTimeoutMs: 150,
      password: "canary",
    });
    const port = await refusedPort();
    const hosts = [...options.hosts, { host: "127.0.0.1", port, password: "canary" }];
    const error = await assertRejects(() => Connection.connect({ ...options, hosts }), WireError);
    assertEquals([error.kind, error.retryable], ["no-host", true]);
    for (const host of hosts) assert(error.message.includes(`127.0.0.1:${host.port}`));
    for (const words of ["so it is", "within 150 ms", "nothing listens there"]) {
      assert(error.summary.includes(words), error.message);
    }
    assert(error.hint?.includes("when the server accepts connections"));
    assert(error.hint?.includes("Is the server running"));
    const kinds = (error.cause as AggregateError).errors.map((error) => error.kind);
    assertEquals(kinds, ["server-starting", "connect-timeout", "connection-refused"]);
    assertFalse(`${error.stack}`.includes("canary"));
  });

  test("of which there is one, leave its error as it is", async () => {
    for (const script of [refuses("57P03"), hangsUp]) {
      const options = await serve([script]);
      const error = await assertRejects(() => Connection.connect(options), PgStreamError);
      assert(["server-starting", "connection-lost"].includes(error.kind));
    }
  });

  test("are not tried any more after an abort", async () => {
    const controller = new AbortController();
    // It could pass for a reason to try the next one.
    const reason = new WireError("enough", { kind: "connection-lost", retryable: true });
    const options = await serve([async (peer) => {
      await peer.startup();
      controller.abort(reason);
      await peer.closed();
    }, welcome]);
    const { signal } = controller;
    const error = await Connection.connect(options, { signal }).catch((error) => error);
    assertStrictEquals(error, reason);
    assertEquals(visits, [0]);
  });
});

describe("load_balance_hosts", () => {
  test("draws the order, each order as often", async () => {
    const scripts = [refuses("57P03"), refuses("57P03"), refuses("57P03")];
    const options = await serve(scripts, { loadBalanceHosts: "random" });
    const random = seededRandom(3);
    const counts = new Map<string, number>();
    for (let round = 0; round < 120; round++) {
      visits = [];
      await assertRejects(() => Connection.connect(options, { random }), WireError);
      const order = visits.join("");
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    assertEquals([...counts.keys()].sort(), ["012", "021", "102", "120", "201", "210"]);
    for (const count of counts.values()) assert(count > 8 && count < 35, `${[...counts]}`);
  });

  test("names the failures in the order that was drawn, and does not touch the options", async () => {
    const options = await serve([refuses("57P03"), hangsUp], { loadBalanceHosts: "random" });
    const before = [...options.hosts];
    const error = await assertRejects(
      () => Connection.connect(options, { random: () => 0 }),
      WireError,
    );
    assertEquals(visits, [1, 0]);
    const [first, second] = before.map(({ port }) => error.message.indexOf(`:${port}: `));
    assert(second! < first!, error.message);
    assertEquals(options.hosts, before);
  });

  test("disabled draws nothing", async () => {
    const options = await serve([welcome, welcome]);
    const random = () => {
      throw new Error("drawn");
    };
    assertEquals(await placeOf(options, { random }), 0);
  });
});

describe("target_session_attrs", () => {
  const STATES = {
    primary: [false, false],
    readOnly: [false, true],
    standby: [true, true],
  } as const;
  const TABLE: [TargetSessionAttrs, (keyof typeof STATES)[]][] = [
    ["any", ["primary", "readOnly", "standby"]],
    ["primary", ["primary", "readOnly"]],
    ["standby", ["standby"]],
    ["read-write", ["primary"]],
    ["read-only", ["readOnly", "standby"]],
    ["prefer-standby", ["primary", "readOnly", "standby"]],
  ];

  for (const [how, server] of [["reports it", reports], ["is asked", answers]] as const) {
    test(`takes a server that is right, where it ${how}`, async () => {
      for (const [targetSessionAttrs, right] of TABLE) {
        for (const [state, [standby, readOnly]] of Object.entries(STATES)) {
          const options = await serve([server(standby, readOnly)], { targetSessionAttrs });
          const connecting = Connection.connect(options);
          if (right.includes(state as keyof typeof STATES)) {
            const connection = await connecting;
            await connection.close();
            continue;
          }
          const error = await assertRejects(() => connecting, WireError);
          const { kind, retryable, message } = error;
          assertEquals([kind, retryable], ["wrong-session-attrs", true], targetSessionAttrs);
          assert(message.includes(`target_session_attrs is ${targetSessionAttrs}`), message);
          assert(message.includes(standby ? "a standby" : "a primary"), message);
        }
      }
    });
  }

  test("of a server whose answer says nothing of it is an error that says so", async () => {
    const columns = say.columns("a", "b");
    const ANSWERS = [
      [say.complete("SELECT 0")],
      [columns, say.complete("SELECT 0")],
      [say.columns("a"), say.row("off"), say.complete("SELECT 1")],
      [columns, say.row("off", null), say.complete("SELECT 1")],
    ];
    for (const answer of ANSWERS) {
      const options = await serve([async (peer) => {
        await welcome(peer);
        await peer.message();
        await peer.send(...answer, say.ready);
      }], { targetSessionAttrs: "primary" });
      const error = await assertRejects(() => Connection.connect(options), WireError);
      assertEquals(error.kind, "protocol-violation");
    }
  });

  test("goes on to the next host, and says what each one is", async () => {
    const standby = reports(true, true);
    const found = await serve([standby, answers(true, true), reports(false, false)], {
      targetSessionAttrs: "primary",
    });
    assertEquals(await placeOf(found), 2);
    const none = await serve([standby, reports(true, false)], { targetSessionAttrs: "read-write" });
    const error = await assertRejects(() => Connection.connect(none), WireError);
    assertEquals([error.kind, error.retryable], ["no-host", true]);
    assertEquals(error.message.split("is a standby").length, 3, error.message);
  });

  test("prefers a standby, wherever it stands, and else takes what there is", async () => {
    const targetSessionAttrs = "prefer-standby";
    const [primary, standby] = [reports(false, false), reports(true, true)];
    assertEquals(await placeOf(await serve([primary, standby], { targetSessionAttrs })), 1);
    visits = [];
    const others = await serve([hangsUp, primary, primary], { targetSessionAttrs });
    assertEquals(await placeOf(others), 1);
    assertEquals(visits, [0, 1, 2, 0, 1]);
  });

  test("that is asked for is within the time of the host", async () => {
    const options = await serve([async (peer) => {
      await welcome(peer);
      await peer.closed();
    }], { targetSessionAttrs: "primary", connectTimeoutMs: 150 });
    const error = await assertRejects(() => Connection.connect(options), TransportError);
    assertEquals(error.kind, "connect-timeout");
  });
});
