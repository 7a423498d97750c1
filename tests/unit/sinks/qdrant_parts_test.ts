import { assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { groupsInParts, inParts, sendParts } from "../../../src/sinks/qdrant_parts.ts";
import { SinkError } from "../../../src/sinks/sink.ts";

const MB = 1024 * 1024;
const sized = (maxBytes: number) => ({ maxBytes });
const group = (count: number, maxBytes = 1) => Array.from({ length: count }, () => sized(maxBytes));

describe("parts of a write to Qdrant", () => {
  test("hold 240 points, or 16 MB, or a point that is larger alone", () => {
    const lengths = (points: { maxBytes: number }[]) => [...inParts(points)].map((it) => it.length);
    assertEquals(lengths(group(600)), [240, 240, 120]);
    assertEquals(lengths([6 * MB, 6 * MB, 6 * MB, 40 * MB, 1].map(sized)), [2, 1, 1, 1]);
    assertEquals(lengths([]), []);
  });

  test("hold rows whole; one that is larger has requests of its own", () => {
    const lengths = (groups: { maxBytes: number }[][]) =>
      [...groupsInParts(groups)].map((requests) => requests.map((it) => it.length));
    assertEquals(lengths([group(100), group(100), group(51), group(1)]), [[200], [52]]);
    assertEquals(lengths([group(1), group(241), group(1), group(1)]), [[1], [240, 1], [2]]);
    assertEquals(lengths([group(1), group(3, 8 * MB), group(1)]), [[1], [2, 1], [1]]);
    assertEquals(lengths([group(2, 5 * MB), group(2, 5 * MB)]), [[2], [2]]);
    assertEquals(lengths([[], []]), []);
  });

  test("are sent two at a time", async () => {
    let open = 0;
    let most = 0;
    const sent: number[] = [];
    await sendParts([1, 2, 3, 4, 5], async (part) => {
      sent.push(part);
      most = Math.max(most, ++open);
      await new Promise((resolve) => setTimeout(resolve, 5));
      open--;
    });
    assertEquals([sent, most, open], [[1, 2, 3, 4, 5], 2, 0]);
  });

  test("after one that failed no other is sent, and what is under way is waited for", async () => {
    const first = Promise.withResolvers<void>();
    const second = Promise.withResolvers<void>();
    const sent: number[] = [];
    let over = false;
    const sending = assertRejects(() =>
      sendParts([1, 2, 3, 4], async (part) => {
        sent.push(part);
        await (part === 1 ? first : second).promise;
      }), SinkError)
      .finally(() => over = true);
    await new Promise((resolve) => setTimeout(resolve, 10));
    const failure = (retryable: boolean) =>
      new SinkError("failed", { kind: "sink-rejected", sink: "qdrant", retryable });
    first.reject(failure(false));
    await new Promise((resolve) => setTimeout(resolve, 10));
    assertEquals([sent, over], [[1, 2], false]);
    second.reject(failure(true));
    // Who tries again learns of the other one then.
    assertEquals((await sending).retryable, true);
    assertEquals(sent, [1, 2]);
  });
});
