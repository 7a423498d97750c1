import { assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { ReplicationError } from "../../../src/replication/errors.ts";
import { onlyRow } from "../../../src/replication/server.ts";
import { readTimelineEnd } from "../../../src/replication/timeline.ts";
import { Connection } from "../../../src/wire/connection.ts";
import { say, startScripted, welcome } from "../../support/scripted_server.ts";

test("a row that has to be there, or its columns, are missed by name and never read as undefined", () => {
  const result = { fields: [], command: "SELECT 1" };
  assertEquals(onlyRow({ ...result, rows: [["a", null]] }, 2), ["a", null]);
  for (const rows of [[], [[]], [["a"]]]) {
    const error = assertThrows(() => onlyRow({ ...result, rows }, 2), ReplicationError);
    assertEquals(error.kind, "catalogue-answer");
  }
});

test("a server without a history of its timelines is no TypeError", async () => {
  const server = await startScripted(async (peer) => {
    await welcome(peer);
    while ((await peer.message()).type !== "X") {
      await peer.send(say.columns("filename", "content"), say.complete("TIMELINE"), say.ready);
    }
  });
  const connection = await Connection.connect(server.options);
  try {
    const error = await readTimelineEnd(connection, 2, 1).catch((error) => error);
    assertEquals([error.name, error.kind], ["ReplicationError", "catalogue-answer"]);
  } finally {
    await connection.close();
    await server.stop();
  }
});
