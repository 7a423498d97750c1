/** What the connections of one stream share: the server that they are on, and what is said once. */

import { assertEquals, assertRejects } from "@std/assert";
import { afterEach, test } from "node:test";
import { connectForReplication } from "../../../src/replication/connect.ts";
import { ReplicationError } from "../../../src/replication/errors.ts";
import { Connector, type ConnectorOptions } from "../../../src/wire/connector.ts";
import type { Connection } from "../../../src/wire/connection.ts";
import { WireError } from "../../../src/wire/errors.ts";
import { pretendTls } from "../../support/pretended_tls.ts";
import {
  type Peer,
  say,
  type ScriptedServer,
  startScripted,
  welcome,
} from "../../support/scripted_server.ts";

const servers: ScriptedServer[] = [];
/** What a server with this place does when it is connected to; it may change. */
let scripts: ((peer: Peer) => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    await server.stop();
    assertEquals(server.failures, []);
  }
});

/** A connector to so many servers, all of which welcome everyone. */
async function connectorTo(
  count: number,
  parameters = "",
  options: ConnectorOptions = {},
): Promise<Connector> {
  scripts = Array.from({ length: count }, () => welcome);
  for (let place = 0; place < count; place++) {
    servers.push(await startScripted(async (peer) => void await scripts[place]!(peer)));
  }
  const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(",");
  const dsn = `postgresql://app:canary@${hosts}/db?sslmode=disable&connect_timeout=2&${parameters}`;
  return new Connector({ dsn, logger: false, ...options });
}

/** Where it is, by the place of the server. */
async function placeOf(connecting: Promise<Connection>): Promise<number> {
  const connection = await connecting;
  await connection.close();
  return servers.findIndex(({ port }) => port === connection.host.port);
}

function closes(code: string, more = ""): (peer: Peer) => Promise<void> {
  return async (peer) => {
    await peer.startup();
    await peer.send(say.error("FATAL", code, "not now", more));
    await peer.closed();
  };
}

function state(standby: boolean): (peer: Peer) => Promise<unknown> {
  return (peer) =>
    welcome(
      peer,
      say.parameter("in_hot_standby", standby ? "on" : "off"),
      say.parameter("default_transaction_read_only", "off"),
    );
}

test("queries go to the server that the latest replication connection is on", async () => {
  const connector = await connectorTo(3, "target_session_attrs=any");
  assertEquals(await placeOf(connector.connect()), 0);
  scripts[0] = closes("57P03");
  assertEquals(await placeOf(connector.connect()), 1, "before there is one, as any other");
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 1);
  scripts[0] = welcome;
  assertEquals(await placeOf(connector.connect()), 1);
  scripts[1] = closes("57P03");
  const error = await assertRejects(() => connector.connect());
  assertEquals((error as WireError).kind, "server-starting", "no other server will do");
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 0);
  scripts[1] = welcome;
  assertEquals(await placeOf(connector.connect()), 0);
  scripts[0] = closes("57P03");
  connector.release();
  assertEquals(await placeOf(connector.connect()), 1, "a stream that starts anew");
});

test("a replication connection that comes to nothing leaves the others where they are", async () => {
  const connector = await connectorTo(2, "target_session_attrs=any");
  scripts[0] = closes("57P03");
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 1);
  scripts[1] = closes("57P03");
  await assertRejects(() => connector.connect({ replication: "database" }), WireError);
  scripts = [welcome, welcome];
  assertEquals(await placeOf(connector.connect()), 1);
});

test("a connection that is kept knows that replication has moved on", async () => {
  const connector = await connectorTo(2, "target_session_attrs=any");
  const kept = await connector.connect();
  assertEquals(connector.hasLeft(kept), false, "there is no replication yet");
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 0);
  assertEquals(connector.hasLeft(kept), false);
  scripts[0] = closes("57P03");
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 1);
  assertEquals(connector.hasLeft(kept), true);
  connector.release();
  assertEquals(connector.hasLeft(kept), false);
  await kept.close();
});

test("queries are drawn to no other server where the order is one of chance", async () => {
  const connector = await connectorTo(5, "target_session_attrs=any&load_balance_hosts=random");
  for (let round = 0; round < 10; round++) {
    const place = await placeOf(connector.connect({ replication: "database" }));
    assertEquals(await placeOf(connector.connect()), place);
  }
});

test("queries fail, and may be tried again, where that server has become another one", async () => {
  const connector = await connectorTo(2, "target_session_attrs=primary");
  scripts = [state(true), state(false)];
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 1);
  assertEquals(await placeOf(connector.connect()), 1);
  scripts = [state(false), state(true)];
  const error = await assertRejects(() => connector.connect(), WireError);
  assertEquals([error.kind, error.retryable], ["wrong-session-attrs", true]);
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 0);
  assertEquals(await placeOf(connector.connect()), 0);
});

test("queries are beside the replication on a primary, where a standby was only preferred", async () => {
  const connector = await connectorTo(1, "target_session_attrs=prefer-standby");
  scripts = [state(false)];
  assertEquals(await placeOf(connector.connect({ replication: "database" })), 0);
  let connections = 0;
  scripts = [(peer) => {
    connections++;
    return state(false)(peer);
  }];
  assertEquals(await placeOf(connector.connect()), 0);
  assertEquals(connections, 1);
});

test("walsenders that are used up on one of the hosts are known by that", async () => {
  const connector = await connectorTo(2, "target_session_attrs=any");
  scripts = [closes("57P03"), closes("53300", "RInitWalSenderSlot\0")];
  const error = await assertRejects(() => connectForReplication(connector), ReplicationError);
  assertEquals([error.kind, error.retryable], ["walsenders-exhausted", true]);
  scripts = [closes("57P03"), closes("53300")];
  const other = await assertRejects(() => connectForReplication(connector), WireError);
  assertEquals(other.kind, "no-host");
});

test("what is warned of at each connection is said once", async () => {
  const warnings: string[] = [];
  const logger = { debug() {}, info() {}, warn: (text: string) => warnings.push(text), error() {} };
  const server = await startScripted(async (peer) => {
    await peer.sslRequest("N");
    await peer.startup();
    await peer.send(say.cleartext);
    await peer.message();
    await peer.send(say.authenticationOk, say.key, say.ready);
  });
  servers.push(server);
  const { connect } = pretendTls({}, server.port);
  const dsn = "postgresql://app:canary@db.example.org/db?sslmode=prefer";
  const connector = new Connector({ dsn, logger, connect });
  const before = warnings.length;
  for (let round = 0; round < 3; round++) await (await connector.connect()).close();
  const told = warnings.slice(before).map((text) =>
    /does not encrypt|in the clear, on/.exec(text)![0]
  );
  assertEquals(told, ["does not encrypt", "in the clear, on"]);
});
