import { describe, test } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { formatSourcePosition, parseSourcePosition } from "../../../src/sinks/pgvector_position.ts";
import { compareSourcePositions } from "../../../src/sinks/positions.ts";
import { IN_ORDER } from "../../contract/row_sink/order.ts";

describe("positions as text", () => {
  test("they are the same in every version: tables in use depend on it", () => {
    assertEquals(
      formatSourcePosition({ timeline: 1, lsn: "0/1A3F28", ordinal: -1 }),
      "00000001/00000000001A3F28/000000000000",
    );
    assertEquals(
      formatSourcePosition({ timeline: 4_294_967_295, lsn: "16/B374D848", ordinal: 4_294_967_295 }),
      "FFFFFFFF/00000016B374D848/000100000000",
    );
  });

  test("they sort as the positions do, and read back to the same", () => {
    const positions = IN_ORDER.flatMap(([, earlier, later]) => [earlier, later]);
    for (const a of positions) {
      const text = formatSourcePosition(a);
      assertEquals({ systemId: a.systemId, ...parseSourcePosition(text) }, a);
      for (const b of positions) {
        const other = formatSourcePosition(b);
        const order = text < other ? -1 : text > other ? 1 : 0;
        assertEquals(order, Math.sign(compareSourcePositions(a, b)!), `${text} ${other}`);
      }
    }
  });

  test("a text that is none is refused", () => {
    for (const text of ["", "1/2/3", "00000001/00000000001A3F28/00000000000G"]) {
      assertThrows(() => parseSourcePosition(text), RangeError);
    }
  });
});
