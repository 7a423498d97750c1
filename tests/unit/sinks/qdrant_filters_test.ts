/** Filters of Qdrant, held against every pair of positions by the stand-in's own reading of them. */

import { describe, test } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { compareSourcePositions } from "../../../src/sinks/positions.ts";
import {
  eachNotLater,
  hasId,
  isOfRow,
  notLater,
  searchFilter,
} from "../../../src/sinks/qdrant_filters.ts";
import { formatRow, readPosition } from "../../../src/sinks/qdrant_payload.ts";
import { rowPointId, type RowWrite, type SourcePosition } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { compileFilter } from "../../support/servers/qdrant_filter.ts";
import type { Json, QdrantPoint } from "../../support/servers/qdrant_point.ts";

const LSNS = ["0/0", "0/1", "0/FFFFFFFF", "1/0", "1/1", "200000/FFFFFFFF", "FFFFFFFF/FFFFFFFF"];
const POSITIONS: SourcePosition[] = ["7302345678901234567", "7302345678901234568"].flatMap(
  (systemId) =>
    [1, 2].flatMap((timeline) =>
      LSNS.flatMap((lsn) => [-1, 0, 10].map((ordinal) => ({ systemId, timeline, lsn, ordinal })))
    ),
);

function uuid(index: number): string {
  return `00000000-0000-5000-8000-${String(index).padStart(12, "0")}`;
}

function stored(position: SourcePosition, key: string): QdrantPoint {
  const point = { id: rowPointId("public.t", key, 0), fingerprint: "f", vector: [1], payload: {} };
  const row: RowWrite = {
    ...{ table: "public.t", key, position, model: "m", surplus: true },
    points: [point],
  };
  return {
    id: uuid(Number(key)),
    vectors: new Map(),
    payload: { pgstream: { ...formatRow(row, 0) } },
  };
}

function mayReplace(there: SourcePosition, given: SourcePosition): boolean {
  return (compareSourcePositions(there, given) ?? 0) <= 0;
}

describe("guards of Qdrant", () => {
  test("of each two positions the one is later by the filter that is so by comparing them", () => {
    const points = POSITIONS.map((position) => stored(position, "0"));
    for (const given of POSITIONS) {
      const matches = compileFilter(notLater(given) as Json);
      for (const [index, there] of POSITIONS.entries()) {
        const what = `${JSON.stringify(there)} <= ${JSON.stringify(given)}`;
        assertEquals(matches(points[index]!), mayReplace(there, given), what);
      }
    }
  });

  test("in one filter for many writes each point is held against its own write, and no other", () => {
    // Each with another one's position.
    const writes = POSITIONS.map((position, index) => ({ position, value: uuid(index) }));
    for (let shift = 0; shift < POSITIONS.length; shift += 5) {
      const matches = compileFilter(eachNotLater(writes, hasId) as Json);
      for (const [index, given] of POSITIONS.entries()) {
        const there = POSITIONS[(index + shift) % POSITIONS.length]!;
        assertEquals(matches(stored(there, String(index))), mayReplace(there, given));
      }
      assertEquals(matches(stored(POSITIONS[0]!, String(writes.length))), false);
    }
  });

  test("rows are found by table and key together", () => {
    const position = POSITIONS.at(-1)!;
    const matches = compileFilter(
      eachNotLater([{ position, value: JSON.stringify(["public.t", "1"]) }], isOfRow) as Json,
    );
    assertEquals(matches(stored(position, "1")), true);
    assertEquals(matches(stored(position, "11")), false);
  });

  test("plain points may be replaced", () => {
    const plain = { id: uuid(1), vectors: new Map(), payload: { pgstream: null } };
    for (const position of POSITIONS) {
      assertEquals(compileFilter(notLater(position) as Json)(plain), true);
    }
  });

  test("a thousand rows cost few bytes beside their vectors, of one transaction or of many", () => {
    const bytes = (position: (index: number) => Partial<SourcePosition>) =>
      JSON.stringify(eachNotLater(
        Array.from({ length: 1000 }, (_, index) => ({
          position: { ...POSITIONS[0]!, ...position(index) },
          value: uuid(index),
        })),
        hasId,
      )).length / 1000;
    const many = bytes((index) => ({ lsn: `1/${index.toString(16).toUpperCase()}` }));
    const backfill = bytes(() => ({ ordinal: -1 }));
    const one = bytes((ordinal) => ({ ordinal }));
    assertEquals(
      [many < 600, one < 170, backfill < 45],
      [true, true, true],
      `${[many, one, backfill]}`,
    );
  });

  test("a position is read back as it was", () => {
    for (const position of POSITIONS) {
      const { pgstream } = stored(position, "1").payload;
      // deno-lint-ignore no-explicit-any -- what formatRow made, as JSON
      assertEquals(readPosition(pgstream as any), position);
    }
  });
});

describe("filters of searches in Qdrant", () => {
  test("nothing to narrow is no filter", () => {
    assertEquals(searchFilter({ filter: {}, limit: 3 }), undefined);
  });

  test("what a path cannot say is refused before anything is asked", () => {
    for (const name of ['a"b', "a\\b"]) {
      const error = assertThrows(() => searchFilter({ filter: { [name]: 1 } }), SinkError);
      assertEquals(error.kind, "sink-options");
    }
  });
});
