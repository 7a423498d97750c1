import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { parseTimelineEnd } from "../../../src/replication/timeline.ts";

test("a timeline's history tells where each of those before it was left", () => {
  const history =
    "1\t0/1507558\tno recovery target specified\n\n2\t16/B374D848\tbefore 2000-01-01\n" +
    '11\t17/0\tat restore point "1"\n';
  assertEquals(
    [1, 2, 3, 11, 0].map((timeline) => parseTimelineEnd(history, timeline)),
    [0x1507558n, 0x16_b374d848n, null, 0x17_0000_0000n, null],
  );
  assertEquals(parseTimelineEnd("", 1), null);
});
