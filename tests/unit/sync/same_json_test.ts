import { assert } from "@std/assert";
import { test } from "node:test";
import { isSameJson } from "../../../src/sync/same_json.ts";

const parse = (text: string): unknown => JSON.parse(text);

test("a payload that a store gives back in another order is the same: it is not written again", () => {
  for (
    const [a, b] of [
      ['{"a":1,"b":[1,{"c":null,"d":"x"}]}', '{"b":[1,{"d":"x","c":null}],"a":1}'],
      ['{"__proto__":1}', '{"__proto__":1}'],
      ["{}", "{}"],
    ] as const
  ) assert(isSameJson(parse(a), parse(b)), `${a} ${b}`);
});

test("a payload that differs anywhere is another", () => {
  const texts = [
    ...['{"a":1}', '{"a":"1"}', '{"a":null}', '{"a":[]}', '{"a":{}}', "{}", '{"a":[1]}'],
    ...['{"a":[1,2]}', '{"a":[2,1]}', '{"b":1}', '{"a":1,"b":1}', '{"__proto__":1}'],
    ...['{"a":{"0":1}}', '{"toString":1}', '{"a":false}', '{"a":0}'],
  ];
  for (const a of texts) {
    for (const b of texts) {
      assert(isSameJson(parse(a), parse(b)) === (a === b), `${a} ${b}`);
    }
  }
});
