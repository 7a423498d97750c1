/** A backfill that is asked for while the stream is in the middle of something. */

import { assertEquals, assertStrictEquals } from "@std/assert";
import { describe, test } from "node:test";
import { HandOver } from "../../../src/backfill/hand_over.ts";
import { parseSnapshot } from "../../../src/backfill/snapshot.ts";
import { Frontier } from "../../../src/delivery/frontier.ts";
import { LateHandOver } from "../../../src/stream/late_hand_over.ts";
import { DOCUMENTS, updateOf } from "../delivery/harness.ts";

const { name } = DOCUMENTS;

function openAt(handOver: HandOver, lsn: bigint): { there: boolean } {
  handOver.follow(name);
  handOver.pause();
  return handOver.open(name, parseSnapshot("10:10:"), lsn)!;
}

describe("a hand-over that comes late", () => {
  test("holds nothing back before", () => {
    assertStrictEquals(new LateHandOver().gate(1n), null);
  });

  test("holds back the transaction that was begun before, or a crash would lose its row", () => {
    const frontier = new Frontier(0n);
    const late = new LateHandOver();
    const transaction = frontier.begin();
    late.begin(transaction, 9, 20n);
    const handOver = late.become(new HandOver(frontier));
    handOver.follow(name);
    late.event(updateOf("moved", "before", { unchanged: ["body"] }), DOCUMENTS);
    frontier.commit(transaction, 28n);
    assertEquals(frontier.confirmed, 0n);
    const taken = handOver.take(name, 10);
    assertEquals(taken.map(([key]) => key), ["moved"]);
    handOver.done(taken);
    assertEquals(frontier.confirmed, 28n);
  });

  test("knows how far the stream has come, or a chunk would wait for more to be written", () => {
    const frontier = new Frontier(0n);
    const late = new LateHandOver();
    late.reached(100n);
    assertEquals(openAt(late.become(new HandOver(frontier)), 100n).there, true);
  });

  test("does not take the position of a stream that is lost for that of the next one", () => {
    const frontier = new Frontier(0n);
    const late = new LateHandOver();
    late.reached(100n);
    late.lose();
    const window = openAt(late.become(new HandOver(frontier)), 50n);
    assertEquals(window.there, false);
    late.reached(50n);
    assertEquals(window.there, true);
  });
});
