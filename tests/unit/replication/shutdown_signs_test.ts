import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { ShutdownSigns } from "../../../src/replication/shutdown_signs.ts";

/** A conversation: `ask` and `tell` of the server's keepalives, `data`, and our status updates. */
class Talk {
  readonly #signs: ShutdownSigns;
  #clockMs = 1000;
  fired = 0;

  constructor(walSenderTimeoutMs: number) {
    this.#signs = new ShutdownSigns(walSenderTimeoutMs);
  }

  #keepalive(walEnd: bigint, replyRequested: boolean, laterMs: number): void {
    this.#clockMs += laterMs;
    const sendTimeUs = BigInt(this.#clockMs * 1000);
    const type = "primaryKeepalive";
    if (this.#signs.received({ type, walEnd, sendTimeUs, replyRequested })) this.fired++;
  }

  ask(walEnd: bigint, laterMs = 100): this {
    this.#keepalive(walEnd, true, laterMs);
    return this;
  }

  tell(walEnd: bigint, laterMs = 100): this {
    this.#keepalive(walEnd, false, laterMs);
    return this;
  }

  data(): this {
    this.#signs.receivedData();
    return this;
  }

  status(writtenLsn: bigint): this {
    this.#signs.sent(writtenLsn);
    return this;
  }
}

test("a server that asks again as soon as it is answered is one that stops, and that is told once", () => {
  const talk = new Talk(60_000).status(7n).ask(7n).status(7n).ask(7n).status(7n);
  assertEquals(talk.fired, 0);
  assertEquals(talk.ask(7n).fired, 1);
  assertEquals(talk.status(7n).ask(7n).status(7n).ask(7n).data().ask(7n).fired, 1);
});

test("what the server says in between without asking does not hide it", () => {
  const talk = new Talk(0).status(7n).ask(7n).tell(7n).status(7n).tell(7n).ask(7n).status(7n);
  assertEquals(talk.tell(7n).ask(7n).fired, 1);
});

test("a request at a position that the server was not told of yet is none of a burst", () => {
  const talk = new Talk(60_000);
  for (let lsn = 1n; lsn < 100n; lsn++) talk.status(lsn - 1n).ask(lsn).status(lsn);
  assertEquals(talk.fired, 0);
  for (let times = 0; times < 100; times++) talk.status(99n).ask(100n);
  assertEquals(talk.fired, 0);
});

test("requests at positions that go up are the server's life, and so is data between them", () => {
  const up = new Talk(60_000).status(100n);
  for (let lsn = 1n; lsn < 100n; lsn++) up.ask(lsn).status(100n).ask(lsn).status(100n);
  assertEquals(up.fired, 0);
  const data = new Talk(60_000).status(7n);
  for (let times = 0; times < 100; times++) data.ask(7n).status(7n).ask(7n).status(7n).data();
  assertEquals(data.fired, 0);
});

test("a server that asks since nobody spoke for half its timeout is not one that stops", () => {
  const known: [timeoutMs: number, gapMs: number, fired: number][] = [
    [1000, 500, 0],
    [1000, 499, 1],
    [60_000, 30_000, 0],
    [60_000, 2000, 0],
    [60_000, 1999, 1],
    [0, 2000, 0],
    [0, 1999, 1],
  ];
  for (const [timeoutMs, gapMs, fired] of known) {
    const talk = new Talk(timeoutMs).status(7n);
    for (let times = 0; times < 5; times++) talk.ask(7n, gapMs).status(7n);
    assertEquals(talk.fired, fired, `${timeoutMs} ${gapMs}`);
  }
});

test("requests that nobody answered in between are one", () => {
  const talk = new Talk(60_000).status(7n);
  for (let times = 0; times < 100; times++) talk.ask(7n);
  assertEquals(talk.fired, 0);
});
