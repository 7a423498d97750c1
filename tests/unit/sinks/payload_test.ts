import { describe, test } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { copyPayload, formatPayload } from "../../../src/sinks/payload.ts";
import { SinkError } from "../../../src/sinks/sink.ts";

describe("payload", () => {
  test("no payload is an empty object", () => {
    assertEquals(formatPayload(undefined, "test"), "{}");
  });

  test("a bigint is a number exactly where a number can hold it", () => {
    const payload = { a: 2n ** 53n - 1n, b: 2n ** 53n, c: -(2n ** 63n), d: 0n };
    assertEquals(
      formatPayload(payload, "test"),
      '{"a":9007199254740991,"b":"9007199254740992","c":"-9223372036854775808","d":0}',
    );
  });

  test("bytes are hex as Postgres prints them, in every class of bytes", () => {
    class Bytes extends Uint8Array {
      toJSON(): unknown {
        return { type: "Buffer" };
      }
    }
    const payload = { a: Uint8Array.of(1, 171), b: new Bytes(2), c: new Uint8Array() };
    assertEquals(formatPayload(payload, "test"), '{"a":"\\\\x01ab","b":"\\\\x0000","c":"\\\\x"}');
  });

  test("a date that is none is null, what JSON has no form for is left out", () => {
    const payload = { date: new Date(NaN), method() {}, symbol: Symbol("s"), list: [undefined] };
    assertEquals(formatPayload(payload, "test"), '{"date":null,"list":[null]}');
  });

  test("a row without a prototype is written like any other", () => {
    const row = Object.assign(Object.create(null), { id: "1" });
    assertEquals(formatPayload(row, "test"), '{"id":"1"}');
  });

  test("what is no object is refused", () => {
    // deno-lint-ignore no-explicit-any -- what callers without types do
    for (const payload of [null, [1], "text", 7, () => {}] as any[]) {
      const error = assertThrows(() => formatPayload(payload, "test"), SinkError);
      assertEquals(error.kind, "sink-payload");
    }
  });

  test("a copy has a property called __proto__ as its own", () => {
    const copy = copyPayload(JSON.parse('{"__proto__": 1}'), "test");
    assertEquals(Object.entries(copy), [["__proto__", 1]]);
    assertEquals(Object.getPrototypeOf(copy), Object.prototype);
  });
});
