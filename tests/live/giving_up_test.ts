/** Events that nobody can handle: skipped where somebody says so, found in their batch, never dropped. */

import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertLess,
  assertStringIncludes,
} from "@std/assert";
import { after, before, describe, test } from "node:test";
import { HandlerError, SinkError } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import { LogLines, sleep, started, until, within } from "../support/streams.ts";
import { TestTable, texts } from "../support/test_table.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

/** Gone in no time. */
const quick = { minDelayMs: 1, maxDelayMs: 5 };

async function failed(ended: Promise<unknown>): Promise<HandlerError> {
  const error = await within("start() to reject", ended);
  assertInstanceOf(error, HandlerError);
  assertEquals(error.kind, "handler-failed");
  return error;
}

describe("an event that fails for good", () => {
  for (const [when, waitMs] of [["at once", 0], ["when it is put aside", 200]] as const) {
    test(`is skipped, ${when}, and its transaction confirmed with the rest`, async () => {
      const logger = new LogLines();
      const table = await TestTable.create(db, "skip", { retry: { ...quick, attempts: 2 } });
      await table.insertMany(1, 5);
      const calls: string[] = [];
      const stream = table.stream({
        logger,
        onFailure: async (failure) => {
          calls.push(`failure ${failure.events.map(({ key }) => key)}/${failure.attempts}`);
          assertStringIncludes(String(failure.error), "poison");
          if (waitMs > 0) await sleep(waitMs);
          calls.push("skip");
          return "skip" as const;
        },
      }).onChange((event) => {
        calls.push(event.key!);
        if (event.key === "3") throw new Error("poison");
      });
      const running = await started(stream);
      await until("the last event", () => calls.at(-1) === "5");
      await until("the transaction", () => stream.status().transactions === 1);
      await running.stop();
      assertEquals(calls, ["1", "2", "3", "3", "failure 3/2", "skip", "4", "5"]);
      const { skipped, events } = stream.status();
      assertEquals([skipped, events.insert], [1, 4]);
      assert(logger.lines.some((line) => /skip/i.test(line)), logger.lines.join("\n"));
      const again: string[] = [];
      const next = await started(table.stream().onChange((event) => void again.push(event.key!)));
      await table.insert(6);
      await until("the next event", () => again.length > 0);
      await next.stop();
      assertEquals(again, ["6"]);
      await table.remove();
    });
  }

  const undecided: [string, () => unknown][] = [
    ["throws", () => {
      throw new Error("the dead-letter table is full");
    }],
    ["rejects", () => Promise.reject(new Error("the dead-letter table is full"))],
    ["decides nothing", () => undefined],
    ["decides something unknown", () => "ignore"],
    ["says stop", () => "stop"],
  ];
  for (const [name, onFailure] of undecided) {
    test(`is never skipped where onFailure ${name}`, async () => {
      const table = await TestTable.create(db, "undecided", { retry: { ...quick, attempts: 1 } });
      await table.insert(1, 2);
      const calls: string[] = [];
      const stream = table.stream({ onFailure: onFailure as () => "skip" }).onChange((event) => {
        calls.push(event.key!);
        throw new Error("poison");
      });
      const error = await within("start() to reject", (await started(stream)).ended);
      assertInstanceOf(error, Error);
      assertEquals([calls, stream.status().skipped], [["1"], 0]);
      assertEquals(stream.status().state, "failed");
      const again: string[] = [];
      const next = await started(table.stream().onChange((event) => void again.push(event.key!)));
      await until("both", () => again.length === 2);
      await next.stop();
      assertEquals(again, ["1", "2"]);
      await table.remove();
    });
  }
});

/** A batch of 20 with a row in it that nobody can handle. */
describe("a batch that fails for one of its events", () => {
  test("is split until that event stands alone, which is skipped; the others are handled in order (34)", async () => {
    const table = await TestTable.create(db, "poison", { retry: { ...quick, attempts: 2 } });
    await table.insert(1, 2, 3, 4, 5);
    await table.insertMany(6, 17);
    await table.insert(18, 19, 20);
    const poison = ["1", "7", "8", "20"];
    const handled: string[] = [];
    const failures: string[] = [];
    const tries = new Map<string, number>();
    const stream = table.stream({
      onFailure: ({ events, attempts }) => {
        failures.push(`${events.map(({ key }) => key)}/${attempts}`);
        handled.push(`(${events.map(({ key }) => key)})`);
        return "skip";
      },
    }).onBatch((events, _sink, { attempt }) => {
      const keys = events.map(({ key }) => key!);
      for (const key of keys) tries.set(key, (tries.get(key) ?? 0) + 1);
      assertEquals(attempt, Math.max(...keys.map((key) => tries.get(key)!)), keys.join());
      if (keys.some((key) => poison.includes(key))) throw new Error("poison");
      handled.push(...keys);
    }, { maxEvents: 20, maxDelayMs: 60_000 });
    const running = await started(stream);
    await until("all of them", () => handled.length >= 20);
    await until("the last transaction", () => stream.status().transactions === 9);
    await running.stop();
    assertEquals(
      handled,
      texts(1, 20).map((key) => poison.includes(key) ? `(${key})` : key),
    );
    assertEquals(failures, poison.map((key) => `${key}/${tries.get(key)}`));
    const { skipped, events } = stream.status();
    assertEquals([skipped, events.insert], [4, 16]);
    const again: string[] = [];
    const next = await started(table.stream().onChange((event) => void again.push(event.key!)));
    await table.insert(21);
    await until("the next event", () => again.length > 0);
    await next.stop();
    assertEquals(again, ["21"]);
    await table.remove();
  });

  test("stops there: what is before it is handled and confirmed, its transaction is not (34)", async () => {
    const table = await TestTable.create(db, "stop", { retry: { ...quick, attempts: 2 } });
    await table.insert(1, 2, 3);
    await table.insertMany(4, 9);
    await table.insert(10, 11);
    const handled: string[] = [];
    let alone = false;
    const stream = table.stream().onBatch((events) => {
      const keys = events.map(({ key }) => key!);
      alone ||= keys.join() === "6";
      if (keys.includes("6")) throw new Error("poison");
      handled.push(...keys);
    }, { maxEvents: 11, maxDelayMs: 60_000 });
    const error = await failed((await started(stream)).ended);
    assertEquals([error.operation, error.ordinal, alone], ["insert", 2, true]);
    assertEquals(handled, texts(1, 5));
    assertEquals(stream.status().skipped, 0);
    const again: string[] = [];
    const next = await started(
      table.stream().onBatch((events) => void again.push(...events.map(({ key }) => key!))),
    );
    await until("the rest", () => again.at(-1) === "11");
    await next.stop();
    assertEquals(again, texts(4, 11));
    await table.remove();
  });

  test("for an error that will not pass is split without being tried twice", async () => {
    const table = await TestTable.create(db, "hard", { retry: quick });
    await table.insertMany(1, 16);
    const calls: string[] = [];
    const stream = table.stream({ onFailure: () => "skip" }).onBatch((events) => {
      const keys = events.map(({ key }) => key!);
      calls.push(keys.join());
      if (keys.includes("11")) {
        throw new SinkError("bad vector", { kind: "sink-refused", sink: "test" });
      }
    }, { maxEvents: 16, maxDelayMs: 60_000 });
    const running = await started(stream);
    await until("the transaction", () => stream.status().transactions === 1);
    await running.stop();
    assertEquals(new Set(calls).size, calls.length, calls.join(" | "));
    assert(calls.includes("11"));
    assertLess(calls.length, 16);
    assertEquals(stream.status().skipped, 1);
    await table.remove();
  });

  test("beside a handler of single events is split there too", async () => {
    const table = await TestTable.create(db, "mixed", { retry: { ...quick, attempts: 2 } });
    await table.insertMany(1, 8);
    const batched: string[] = [];
    const failures: string[] = [];
    const stream = table.stream({
      onFailure: ({ events }) => {
        failures.push(...events.map(({ key }) => key!));
        return "skip";
      },
    })
      .onChange((event) => {
        if (event.key === "5") throw new Error("poison");
      })
      .onBatch((events) => void batched.push(...events.map(({ key }) => key!)), {
        maxEvents: 8,
        maxDelayMs: 60_000,
      });
    const running = await started(stream);
    await until("the transaction", () => stream.status().transactions === 1);
    await running.stop();
    assertEquals(failures, ["5"]);
    assertEquals(batched.filter((key, index) => batched.indexOf(key) === index), [
      ...texts(1, 4),
      ...texts(6, 8),
    ]);
    await table.remove();
  });
});
