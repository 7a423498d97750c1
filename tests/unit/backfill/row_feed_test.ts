import { assertEquals } from "@std/assert";
import { test } from "node:test";
import type { Chunk, ChunkReader } from "../../../src/backfill/chunk_reader.ts";
import { Job } from "../../../src/backfill/job.ts";
import { noProgress } from "../../../src/backfill/progress.ts";
import { RowFeed, type RowFeedOptions } from "../../../src/backfill/row_feed.ts";

const name = { schema: "public", table: "documents" };

/** Plays a chunk of no rows, by whose window something else was handed out, or not. */
async function play({ isTouched, isVoid }: { isTouched: boolean; isVoid: boolean }) {
  const offered: string[] = [];
  const window = { arrived: Promise.resolve(true), spoilt: false, isTouched, lsn: 100n };
  const rows = { table: {}, truncate: () => ({ operation: "truncate" }) };
  const chunk = {
    window,
    rows,
    waiting: { advance: () => false },
    count: 0,
    end: true,
    last: null,
  };
  const reader = { read: () => Promise.resolve(chunk as unknown as Chunk) };
  const options = {
    handOver: { abandon: () => {}, close: () => {}, wants: () => false },
    intake: {
      beside: () => (event: { operation: string }) => void offered.push(event.operation),
    },
    queue: { flush: () => {}, commit: () => {}, room: () => null },
    ask: () => {},
  };
  const feed = new RowFeed(
    reader as unknown as ChunkReader,
    options as unknown as RowFeedOptions,
  );
  const progress = { ...noProgress(name), void: isVoid };
  const job = new Job({ name, progress, initial: true });
  const done = await feed.chunk(job, job.wanted(1), { startedAt: "now" });
  return { done, offered };
}

test("what was handed out and is left out of a chunk is not taken back with what is void", async () => {
  assertEquals(await play({ isTouched: true, isVoid: true }), { done: false, offered: [] });
  assertEquals(await play({ isTouched: false, isVoid: true }), {
    done: true,
    offered: ["truncate"],
  });
  assertEquals(await play({ isTouched: true, isVoid: false }), { done: true, offered: [] });
});
