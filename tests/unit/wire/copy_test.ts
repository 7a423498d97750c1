import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { afterEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Connection, type CopyBoth } from "../../../src/wire/connection.ts";
import type { CopyRows } from "../../../src/wire/copy_out.ts";
import { ProtocolError, WireError } from "../../../src/wire/errors.ts";
import { PostgresError } from "../../../src/wire/postgres_error.ts";
import {
  concat,
  msg,
  type Peer,
  say,
  type ScriptedServer,
  startScripted,
  welcome,
} from "../../support/scripted_server.ts";

const servers: ScriptedServer[] = [];
const notices: string[] = [];

afterEach(async () => {
  notices.length = 0;
  for (const server of servers.splice(0)) {
    await server.stop();
    assertEquals(server.failures, []);
  }
});

async function connected(script: (peer: Peer) => Promise<void>): Promise<Connection> {
  const server = await startScripted(async (peer) => {
    await welcome(peer);
    assertEquals((await peer.message()).type, "Q");
    await script(peer);
  });
  servers.push(server);
  return Connection.connect(server.options, {
    onNotice: (notice) => notices.push(notice.message),
  });
}

const text = (payload: Uint8Array): string => new TextDecoder().decode(payload);

/** All payloads that have arrived, at least one; null at the end. */
async function read(copy: CopyBoth): Promise<Uint8Array[] | null> {
  do {
    const payloads: Uint8Array[] = [];
    while (copy.advance()) {
      const { bytes, start, end } = copy.payload;
      payloads.push(bytes.subarray(start, end));
    }
    if (payloads.length > 0) return payloads;
  } while (await copy.more());
  return null;
}

async function readAll(copy: CopyBoth): Promise<string[]> {
  const payloads: string[] = [];
  for (let batch = await read(copy); batch !== null; batch = await read(copy)) {
    payloads.push(...batch.map(text));
  }
  return payloads;
}

describe("copying in both directions", () => {
  test("gives all that has arrived, in order, as views of one chunk", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(
        say.copyBoth,
        say.copyData("a"),
        say.notice("n"),
        say.copyData("b"),
        say.parameter("TimeZone", "Asia/Tokyo"),
        say.copyData(""),
      );
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    const batch = (await read(copy))!;
    assertEquals(batch.map(text), ["a", "b", ""]);
    assertStrictEquals(batch[0]!.buffer, batch[1]!.buffer);
    assertEquals(notices, ["n"]);
    assertEquals(connection.parameters.get("TimeZone"), "Asia/Tokyo");
    await connection.close();
  });

  test("gives the same payloads wherever the bytes are cut", async () => {
    const stream = concat([say.copyBoth, say.copyData("one"), say.copyData("two"), say.copyDone]);
    for (let cut = 1; cut < stream.length; cut++) {
      const connection = await connected(async (peer) => {
        await peer.send(stream.slice(0, cut));
        await delay(1);
        await peer.send(stream.slice(cut));
      });
      const copy = await connection.copyBoth("START_REPLICATION");
      assertEquals(await readAll(copy), ["one", "two"], `cut at ${cut}`);
      await connection.close();
    }
  });

  test("writes while a read is pending", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth);
      const { type, text } = await peer.message();
      await peer.send(say.copyData(`${type} ${text}`));
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    const reading = read(copy);
    await copy.write(new TextEncoder().encode("status"));
    assertEquals((await reading)!.map(text), ["d status"]);
    const again = read(copy).catch((error) => error);
    const busy = await assertRejects(() => read(copy), WireError);
    assertEquals(busy.kind, "connection-busy");
    await connection.close();
    assertEquals((await again).kind, "connection-closed");
  });

  test("keeps the connection busy until it is ended, then frees it", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth, say.copyData("a"));
      assertEquals((await peer.message()).type, "c");
      await peer.send(say.copyData("dropped"), say.copyDone, say.complete("COPY 0"));
      await peer.send(say.complete("START_REPLICATION"), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    assertEquals((await read(copy))!.map(text), ["a"]);
    const busy = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(busy.kind, "connection-busy");
    assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: true });
    assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: true });
    assertStrictEquals(await read(copy), null);
    const late = await assertRejects(() => copy.write(new Uint8Array(1)), WireError);
    assertEquals(late.kind, "copy-ended");
    assertEquals((await connection.query("SELECT")).command, "SELECT 0");
    await connection.close();
  });

  test("ends under a pending read, which then gives null", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth);
      await peer.message();
      await peer.send(say.copyData("late"), say.copyDone, say.complete("COPY 0"), say.ready);
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    const reading = read(copy);
    assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: true });
    assertStrictEquals(await reading, null);
    assert(!connection.closed);
    await connection.close();
  });

  test("answers a CopyDone of the server's", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth, say.copyData("a"), say.copyDone);
      assertEquals((await peer.message()).type, "c");
      await peer.send(say.complete("COPY 0"), say.ready);
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    assertEquals(await readAll(copy), ["a"]);
    assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: true });
    assert(!connection.closed);
    await connection.close();
  });

  test("ended by a server that shuts down is over, and not confirmed", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth, say.copyData("a"), say.complete("COPY 0"));
      peer.socket.end();
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    assertEquals(await readAll(copy), ["a"]);
    assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: false });
    assert(connection.closed);
  });

  test("ended while the server still sends is cut off at the deadline", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth);
      const payloads = concat(Array.from({ length: 1000 }, () => say.copyData("more")));
      while (!peer.socket.destroyed) await peer.send(payloads);
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    await read(copy);
    const begun = performance.now();
    assertEquals(await copy.end({ timeoutMs: 200 }), { commandComplete: false });
    assert(performance.now() - begun < 5000);
    assert(connection.closed);
  });

  test("that fails gives what came before, then the server's error, and frees the connection", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyBoth, say.copyData("a"));
      await peer.send(say.error("ERROR", "42704", 'publication "p" does not exist'), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const copy = await connection.copyBoth("START_REPLICATION");
    const error = await assertRejects(() => readAll(copy), PostgresError);
    assertEquals(error.code, "42704");
    assertEquals(await copy.end({ timeoutMs: 5000 }), { commandComplete: false });
    assertStrictEquals(await read(copy), null);
    assertEquals((await connection.query("SELECT")).command, "SELECT 0");
    await connection.close();
  });

  test("that is cut off is a lost connection, with the server's words where it left any", async () => {
    const words = say.error("FATAL", "57P01", "terminating walsender");
    for (const last of [[], [words]]) {
      const connection = await connected(async (peer) => {
        await peer.send(say.copyBoth, say.copyData("a"), ...last);
        peer.socket.end();
      });
      const copy = await connection.copyBoth("START_REPLICATION");
      assertEquals((await read(copy))!.map(text), ["a"]);
      const error = await assertRejects(() => read(copy), WireError);
      assertEquals(error.kind, "connection-lost");
      assert(error.retryable);
      assertEquals(error.message.includes("terminating walsender"), last.length > 0);
      assertEquals(await copy.end({ timeoutMs: 100 }), { commandComplete: false });
      assert(connection.closed);
    }
  });

  test("that is sent what has no place in it is over", async () => {
    for (const answer of [say.row("x"), say.ready, msg("c", "x"), msg("!", "")]) {
      const connection = await connected(async (peer) => {
        await peer.send(say.copyBoth, answer);
        await peer.closed();
      });
      const copy = await connection.copyBoth("START_REPLICATION");
      await assertRejects(() => read(copy), ProtocolError);
      assert(connection.closed);
    }
  });

  test("that never begins reports why, and frees the connection where it can", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.error("ERROR", "55006", "slot is active"), say.ready);
      await peer.message();
      await peer.send(say.columns("a"), say.row("1"), say.complete("SELECT 1"), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const error = await assertRejects(
      () => connection.copyBoth("START_REPLICATION"),
      PostgresError,
    );
    assertEquals(error.code, "55006");
    const wrong = await assertRejects(() => connection.copyBoth("SELECT 1"), WireError);
    assertEquals(wrong.kind, "wrong-statement");
    assertEquals((await connection.query("SELECT")).command, "SELECT 0");
    await connection.close();
  });
});

/** What of a copy has arrived. */
function textsOf(rows: CopyRows): string[] {
  const texts: string[] = [];
  while (rows.advance()) texts.push(text(rows.bytes.subarray(rows.start, rows.end)));
  return texts;
}

describe("copying out", () => {
  test("gives each payload, and then frees the connection", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyOut, say.copyData("1\n"), say.notice("n"), say.copyData("2\n"));
      await peer.send(say.copyDone, say.complete("COPY 2"), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const rows: string[] = [];
    for await (const some of connection.copyOut("COPY t TO STDOUT")) rows.push(...textsOf(some));
    assertEquals(rows, ["1\n", "2\n"]);
    assertEquals((await connection.query("SELECT")).command, "SELECT 0");
    await connection.close();
  });

  test("gives all that has arrived at once, and a row that is cut waits for its rest", async () => {
    const third = say.copyData("3\n");
    const connection = await connected(async (peer) => {
      await peer.send(
        concat([say.copyOut, say.copyData("1\n"), say.copyData("2\n"), third.slice(0, 6)]),
      );
      await peer.message();
    });
    const copy = connection.copyOut("COPY t TO STDOUT")[Symbol.asyncIterator]();
    assertEquals(textsOf((await copy.next()).value!), ["1\n", "2\n"]);
    const rest = copy.next();
    connection.close();
    await assertRejects(() => rest, WireError);
  });

  test("that fails in the middle gives the rows before, then the error", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyOut, say.copyData("1\n"));
      await peer.send(say.error("ERROR", "22012", "division by zero"), say.ready);
      await peer.message();
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const rows: string[] = [];
    const error = await assertRejects(async () => {
      for await (const some of connection.copyOut("COPY t TO STDOUT")) rows.push(...textsOf(some));
    }, PostgresError);
    assertEquals(error.code, "22012");
    assertEquals(rows, ["1\n"]);
    await connection.query("SELECT");
    await connection.close();
  });

  test("of a statement that is no COPY is refused", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.columns("a"), say.row("1"), say.complete("SELECT 1"), say.ready);
    });
    const copy = connection.copyOut("SELECT 1")[Symbol.asyncIterator]();
    const error = await assertRejects(() => copy.next(), WireError);
    assertEquals(error.kind, "wrong-statement");
    assert(!connection.closed);
    await connection.close();
  });

  test("holds the connection from when its first rows are asked for", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.copyOut, say.copyDone, say.complete("COPY 0"), say.ready);
    });
    const rows = connection.copyOut("COPY t TO STDOUT")[Symbol.asyncIterator]().next();
    const error = await assertRejects(() => connection.query("SELECT"), WireError);
    assertEquals(error.kind, "connection-busy");
    assertEquals((await rows).done, true);
    await connection.close();
  });

  test("given up as soon as it is asked for sends nothing, and frees the connection", async () => {
    const connection = await connected(async (peer) => {
      await peer.send(say.complete("SELECT 0"), say.ready);
    });
    const controller = new AbortController();
    const { signal } = controller;
    const copy = connection.copyOut("COPY t TO STDOUT", { signal })[Symbol.asyncIterator]();
    const rows = copy.next();
    controller.abort(new Error("given up"));
    await assertRejects(() => rows, Error, "given up");
    assertEquals((await connection.query("SELECT")).command, "SELECT 0");
    await connection.close();
  });

  test("cut off in the middle rejects: a short copy is never taken for a whole one", async () => {
    const stream = concat([say.copyOut, say.copyData("1\n"), say.copyDone, say.complete("COPY 1")]);
    for (let cut = 0; cut <= stream.length; cut++) {
      const connection = await connected(async (peer) => {
        await peer.send(stream.slice(0, cut));
        peer.socket.end();
      });
      const error = await assertRejects(async () => {
        for await (const _ of connection.copyOut("COPY t TO STDOUT"));
      }, WireError);
      assertEquals(error.kind, "connection-lost", `cut at ${cut}`);
    }
  });
});
