/** Which of several servers progress is stored on. */

import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { PostgresStateStore } from "../../../src/backfill/postgres_state_store.ts";
import { Connector } from "../../../src/wire/connector.ts";
import { type Peer, say, startScripted, welcome } from "../../support/scripted_server.ts";

test("progress goes to the server that replication has moved to, though the old one is there", async () => {
  const asked: string[] = [];
  let refuses = false;
  /** Answers each query with its own name. */
  const script = (name: string) => async (peer: Peer) => {
    if (name === "first" && refuses) {
      await peer.startup();
      return await peer.send(say.error("FATAL", "57P03", "not now"));
    }
    await welcome(peer);
    for (;;) {
      const { type, text } = await peer.message();
      if (type !== "Q") return;
      if (text.startsWith("SELECT")) asked.push(name);
      await peer.send(
        ...text.startsWith("SELECT") ? [say.columns("value"), say.row(name)] : [],
        say.complete(text.slice(0, 3)),
        say.ready,
      );
    }
  };
  const servers = [await startScripted(script("first")), await startScripted(script("second"))];
  const hosts = servers.map(({ port }) => `127.0.0.1:${port}`).join(",");
  const connector = new Connector({
    dsn: `postgresql://app@${hosts}/db?sslmode=disable&target_session_attrs=any`,
    logger: false,
  });
  const store = new PostgresStateStore({ connector });
  try {
    await (await connector.connect({ replication: "database" })).close();
    assertEquals([await store.get("k"), await store.get("k")], ["first", "first"]);
    refuses = true;
    await (await connector.connect({ replication: "database" })).close();
    assertEquals([await store.get("k"), await store.get("k")], ["second", "second"]);
    assertEquals(asked, ["first", "first", "second", "second"]);
  } finally {
    await store.close();
    for (const server of servers) await server.stop();
  }
});
