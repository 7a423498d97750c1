import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { Frontier, type TrackedTransaction } from "../../../src/delivery/frontier.ts";
import { type Logger, silentLogger } from "../../../src/logger.ts";
import type { StreamRun } from "../../../src/stream/run.ts";
import type { RunBackfill } from "../../../src/stream/run_backfill.ts";
import { StatusBoard, type StreamState } from "../../../src/stream/status.ts";

const OPERATIONS = ["insert", "update", "delete", "truncate"] as const;
const eventOf = (operation: ChangeEvent["operation"]) => ({ operation }) as ChangeEvent;

function boardOf(logger: Logger = silentLogger): StatusBoard {
  return new StatusBoard(logger);
}

/** What a board reads while a stream runs. */
function running(board: StatusBoard) {
  const frontier = new Frontier(0n);
  const progress = { receivedLsn: 0n, handledLsn: 0n, confirmedLsn: 0n, queueBytes: 0 };
  const backfill = { status: null } as unknown as RunBackfill;
  board.begin({ progress } as unknown as StreamRun, frontier, backfill);
  const begin = (commitTimeMs: number): TrackedTransaction => {
    const transaction = frontier.begin(commitTimeMs);
    frontier.expect(transaction);
    frontier.commit(transaction, 10n);
    return transaction;
  };
  return { frontier, progress, begin };
}

test("the status of a stream that never ran says so, and survives JSON", () => {
  const status = boardOf().read();
  assertEquals(status, {
    state: "idle",
    receivedLsn: "0/0",
    handledLsn: "0/0",
    confirmedLsn: "0/0",
    lagBytes: 0,
    lagSeconds: 0,
    queueBytes: 0,
    transactions: 0,
    messages: 0,
    events: { insert: 0, update: 0, delete: 0, truncate: 0 },
    retries: 0,
    skipped: 0,
    reconnects: 0,
    lastError: null,
    backfill: null,
  });
  assertEquals(JSON.parse(JSON.stringify(status)), status);
});

test("two streams do not count into one another's status, nor into what was read before", () => {
  const [one, other] = [boardOf(), boardOf()];
  const before = one.read();
  one.settled(eventOf("insert"), false);
  one.retried();
  assertEquals(other.read(), before);
  assertEquals([one.read().events.insert, before.events.insert], [1, 0]);
  one.read().events.insert = 99;
  assertEquals(one.read().events.insert, 1);
});

test("events are counted by operation, and those that were given up apart", () => {
  const board = boardOf();
  OPERATIONS.forEach((operation, times) => {
    for (let i = 0; i <= times; i++) board.settled(eventOf(operation), false);
  });
  board.settled(eventOf("insert"), true);
  board.retried();
  board.retried();
  board.reconnected();
  const { events, skipped, retries, reconnects } = board.read();
  assertEquals(events, { insert: 1, update: 2, delete: 3, truncate: 4 });
  assertEquals([skipped, retries, reconnects], [1, 2, 1]);
  assertEquals(board.totals, { events: 10, messages: 0, transactions: 0 });
});

describe("a stream that runs", () => {
  test("tells its positions as they are now, and how far the handled one is behind", () => {
    const board = boardOf();
    const { progress } = running(board);
    Object.assign(progress, {
      receivedLsn: 0x16_b374d848n,
      handledLsn: 0x16_b374d840n,
      confirmedLsn: 0x10n,
    });
    progress.queueBytes = 77;
    const status = board.read();
    assertEquals(
      [status.receivedLsn, status.handledLsn, status.confirmedLsn],
      ["16/B374D848", "16/B374D840", "0/10"],
    );
    assertEquals([status.lagBytes, status.queueBytes], [8, 77]);
    progress.handledLsn = 0x17_0000_0000n;
    assertEquals(board.read().lagBytes, 0, "never less than nothing");
    assertEquals(JSON.parse(JSON.stringify(status)), status);
  });

  test("tells how long the oldest transaction waits, whatever the server's clock says", () => {
    const board = boardOf();
    const { frontier, begin } = running(board);
    assertEquals(board.read().lagSeconds, 0);
    const transaction = begin(Date.now() - 90_000);
    const { lagSeconds } = board.read();
    assertGreaterOrEqual(lagSeconds, 90);
    assert(lagSeconds < 150, `${lagSeconds}`);
    frontier.handled(transaction);
    assertEquals(board.read().lagSeconds, 0);
    begin(Date.now() + 3_600_000);
    assertEquals(board.read().lagSeconds, 0, "a clock that is ahead");
  });

  test("counts the transactions of all its runs, and keeps the last positions after them", () => {
    const board = boardOf();
    for (let run = 1; run <= 3; run++) {
      const { frontier, begin, progress } = running(board);
      frontier.handled(begin(0));
      begin(0);
      progress.receivedLsn = BigInt(run);
      progress.queueBytes = 5;
      assertEquals(board.read().transactions, run);
      board.end();
      const status = board.read();
      assertEquals([status.transactions, status.receivedLsn], [run, `0/${run}`]);
      assertEquals([status.queueBytes, status.lagSeconds], [0, 0], "nothing waits any more");
    }
  });

  test("forgets the last run's error, and tells its own", () => {
    const board = boardOf();
    running(board);
    board.failedBy(new Error("first"));
    assertEquals(board.read().lastError, "first");
    board.end();
    assertEquals(board.read().lastError, "first");
    running(board);
    assertEquals(board.read().lastError, null);
    for (const [error, text] of [["text", "text"], [undefined, "undefined"], [7n, "7"]] as const) {
      board.failedBy(error);
      assertEquals(board.read().lastError, text);
      assertEquals(JSON.parse(JSON.stringify(board.read())), board.read());
    }
  });
});

describe("a change of state", () => {
  test("is told to all listeners, with the state before, and only when it is one", () => {
    const board = boardOf();
    const log: string[] = [];
    board.onStateChange((state, previous) => log.push(`a ${previous}-${state}`));
    board.onStateChange((state, previous) => log.push(`b ${previous}-${state}`));
    running(board);
    for (const state of ["connecting", "streaming", "streaming", "stopped"] as StreamState[]) {
      board.become(state);
    }
    assertEquals(
      log,
      ["idle-connecting", "connecting-streaming", "streaming-stopped"]
        .flatMap((change) => [`a ${change}`, `b ${change}`]),
    );
    assertEquals(board.read().state, "stopped");
  });

  test("is seen in the status by who is told", () => {
    const board = boardOf();
    const seen: string[] = [];
    board.onStateChange(() => seen.push(board.read().state));
    board.become("streaming");
    assertEquals(seen, ["streaming"]);
  });

  test("reaches the others where one of them throws, which is logged", async () => {
    const logged: unknown[][] = [];
    const board = boardOf({ ...silentLogger, error: (...args) => logged.push(args) });
    const error = new Error("no");
    let told = 0;
    board.onStateChange(() => {
      throw error;
    });
    board.onStateChange(() => told++);
    board.become("streaming");
    assertEquals([told, board.read().state], [1, "streaming"]);
    await turn();
    assertEquals(logged.map((args) => args.at(-1)), [error]);
  });

  test("whose listener is asynchronous and fails is logged too, and ends nothing", async () => {
    const logged: unknown[][] = [];
    const board = boardOf({ ...silentLogger, error: (...args) => logged.push(args) });
    const error = new Error("no");
    board.onStateChange(() => Promise.reject(error));
    board.become("streaming");
    await turn();
    assertEquals(logged.map((args) => args.at(-1)), [error]);
  });
});

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
