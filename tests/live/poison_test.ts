/** An event that no handler can take, in a batch of others. */

import { assertEquals, assertGreater, assertInstanceOf, assertLessOrEqual } from "@std/assert";
import { after, before, describe, test } from "node:test";
import { type ChangeEvent, HandlerError, parseLsn, type PgStreamOptions } from "../../mod.ts";
import { type TestPostgres, testPostgres } from "../support/servers/test_postgres.ts";
import {
  confirmedLsn,
  LogLines,
  newTable,
  sleep,
  started,
  until,
  within,
} from "../support/streams.ts";

let db: TestPostgres;
before(async () => {
  db = await testPostgres();
});
after(() => db?.stop());

const ROWS = 40;
const POISON = 23;
const retry = { attempts: 2, minDelayMs: 5, maxDelayMs: 10 };
const ids = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

/** A table with rows in transactions of five, and a handler of batches that cannot take one of them. */
async function poisoned(options: PgStreamOptions = {}) {
  const found = await newTable(db, "poisoned", { retry, ...options });
  for (let first = 1; first <= ROWS; first += 5) {
    await db.query(
      `INSERT INTO ${found.table} SELECT n FROM generate_series(${first}, ${first + 4}) n`,
    );
  }
  /** What was written: a batch is written whole or not at all. */
  const written: number[] = [];
  const batches: number[][] = [];
  const lsns = new Map<number, bigint>();
  const stream = found.make(() => {});
  const batched = (handle: (events: ChangeEvent[]) => unknown) =>
    stream.onBatch((events) => handle(events as ChangeEvent[]), {
      maxEvents: 20,
      maxDelayMs: 200,
    });
  batched((events) => {
    const keys = events.map(({ key }) => Number(key));
    for (const event of events) lsns.set(Number(event.key), parseLsn(event.lsn));
    batches.push(keys);
    if (keys.includes(POISON)) throw new Error("cannot be written");
    written.push(...keys);
  });
  return { ...found, stream, written, batches, lsns };
}

describe("a poison row in a batch", () => {
  test("is skipped where onFailure says so, after it is put aside; nothing is confirmed while it decides (34)", async () => {
    const logger = new LogLines();
    const parked: { keys: (string | null)[]; attempts: number; message: string }[] = [];
    let confirmedMeanwhile: bigint | undefined;
    const { slotName, stream, written, batches, lsns, make, teardown } = await poisoned({
      logger,
      onFailure: async ({ error, events, attempts }) => {
        await sleep(400);
        confirmedMeanwhile = await confirmedLsn(db, slotName);
        parked.push({
          keys: events.map(({ key }) => key),
          attempts,
          message: (error as Error).message,
        });
        return "skip" as const;
      },
    });
    const running = await started(stream);
    await until("the last row", () => written.at(-1) === ROWS);
    await until("the commit", () => stream.status().transactions === ROWS / 5);
    const { skipped, retries, state } = stream.status();
    await running.stop();
    assertEquals({ skipped, state }, { skipped: 1, state: "streaming" });
    assertGreater(retries, 0);
    assertEquals(written, ids(1, ROWS).filter((id) => id !== POISON));
    assertEquals(parked.length, 1);
    assertEquals([parked[0]!.keys, parked[0]!.message], [[String(POISON)], "cannot be written"]);
    assertGreater(parked[0]!.attempts, 1);
    assertGreater(batches.length, 2);
    assertLessOrEqual(confirmedMeanwhile!, lsns.get(POISON)!);
    const said = logger.lines.filter((line) => /Skipped/.test(line));
    assertEquals(said.length, 1, logger.lines.join("\n"));

    const again: string[] = [];
    const next = await started(make((event) => void again.push(event.key!)));
    await sleep(300);
    await next.stop();
    assertEquals(again, []);
    await teardown();
  });

  test("with handlers side by side: the keys beside it go on to the end of what they have in hand (34)", async () => {
    const { slotName, stream, written, lsns, make, teardown } = await poisoned({ concurrency: 4 });
    const { ended } = await started(stream);
    const error = await within("start() to reject", ended);
    assertInstanceOf(error, HandlerError, `${error}`);
    assertEquals(parseLsn(error.lsn), lsns.get(POISON));
    assertEquals(written.includes(POISON), false);
    assertEquals(new Set(written).size, written.length);
    assertLessOrEqual(await confirmedLsn(db, slotName), lsns.get(POISON)!);
    const again: number[] = [];
    const next = await started(make((event) => void again.push(Number(event.key))));
    await until("the rest", () => ids(21, ROWS).every((id) => again.includes(id)));
    await next.stop();
    assertEquals([...new Set([...written, ...again])].sort((a, b) => a - b), ids(1, ROWS));
    assertEquals(again.includes(POISON), true);
    await teardown();
  });
});
