import { describe, test } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { compareSourcePositions, compareStreamPositions } from "../../../src/sinks/positions.ts";
import type { SourcePosition, StreamPosition } from "../../../src/sinks/rows.ts";

function source(timeline: number, lsn: string, ordinal: number, systemId = "1"): SourcePosition {
  return { systemId, timeline, lsn, ordinal };
}

function stream(
  timeline: number,
  endLsn: string,
  commitLsn: string | null = null,
  ordinal: number | null = null,
  { systemId = "1", slotName = "slot" } = {},
): StreamPosition {
  return { systemId, timeline, slotName, endLsn, commitLsn, ordinal };
}

/** Each is earlier than all behind it, and the same as itself. */
function assertAscending<T>(positions: T[], compare: (a: T, b: T) => number | null): void {
  for (const [i, a] of positions.entries()) {
    for (const [j, b] of positions.entries()) {
      assertEquals(
        Math.sign(compare(a, { ...b })!),
        Math.sign(i - j),
        `${JSON.stringify(a)} beside ${JSON.stringify(b)}`,
      );
    }
  }
}

describe("compareSourcePositions", () => {
  test("a timeline counts before an LSN, an LSN before an ordinal, as numbers and not as text", () => {
    assertAscending([
      source(1, "0/0", -1),
      source(1, "0/9", 0),
      source(1, "0/9", 9),
      source(1, "0/9", 10),
      source(1, "0/10", -1),
      source(1, "0/FFFFFFFF", 4_000_000_000),
      source(1, "1/0", 0),
      source(1, "9/0", 0),
      source(1, "10/0", 0),
      source(1, "200001/0", 0),
      source(1, "200001/1", 0),
      source(1, "FFFFFFFF/FFFFFFFF", 0),
      source(2, "0/1", -1),
      source(10, "0/1", -1),
    ], compareSourcePositions);
  });

  test("of two systems neither is the later one", () => {
    assertEquals(compareSourcePositions(source(1, "0/1", 0), source(2, "F/0", 9, "2")), null);
    assertEquals(compareSourcePositions(source(1, "0/1", 0), source(1, "0/1", 0, "01")), null);
  });

  test("an LSN is one, however it is written", () => {
    assertEquals(compareSourcePositions(source(1, "0/a", 3), source(1, "00000000/0000000A", 3)), 0);
    assertThrows(() => compareSourcePositions(source(1, "", 0), source(1, "0/1", 0)), RangeError);
  });
});

describe("compareStreamPositions", () => {
  test("what is whole counts first, then what there is of the transaction behind it", () => {
    assertAscending([
      stream(1, "0/9"),
      stream(1, "0/9", "0/A", 0),
      stream(1, "0/9", "0/A", 9),
      stream(1, "0/9", "0/A", 10),
      stream(1, "0/9", "0/FFFFFFFF", 3),
      stream(1, "0/9", "1/0", 0),
      stream(1, "0/10"),
      stream(1, "0/FFFFFFFF", "1/5", 9),
      stream(1, "1/0"),
      stream(2, "0/1"),
    ], compareStreamPositions);
  });

  test("of two systems, or two slots, neither is the later one", () => {
    const other = stream(7, "F/0", null, null, { systemId: "2" });
    assertEquals(compareStreamPositions(stream(1, "0/1"), other), null);
    const slot = stream(7, "F/0", null, null, { slotName: "other" });
    assertEquals(compareStreamPositions(stream(1, "0/1"), slot), null);
  });
});
