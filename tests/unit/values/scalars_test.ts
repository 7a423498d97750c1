import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  parseBool,
  parseBytea,
  parseFloat4,
  parseFloat8,
  parseInt8,
  parseInteger,
} from "../../../src/values/scalars.ts";

/** The error must not tell what stands in a column. */
function refused(parse: (text: string) => unknown, texts: readonly string[]): void {
  for (const text of texts) {
    const error = assertThrows(() => parse(text), RangeError);
    if (text.length > 2) assert(!error.message.includes(text), error.message);
  }
}

describe("single values:", () => {
  test("bool", () => {
    assertEquals([parseBool("t"), parseBool("f")], [true, false]);
    refused(parseBool, ["", "true", "T", "1"]);
  });

  test("int2 and int4 to their limits", () => {
    for (const value of [0, -1, 32767, -32768, 2147483647, -2147483648]) {
      assertEquals(parseInteger(`${value}`), value);
    }
    refused(parseInteger, ["", " 1", "1.5", "1e3", "0x10", "NaN", "12345678901234567890"]);
  });

  test("int8 to its limits, small ones are bigints too", () => {
    const limits = ["9223372036854775807", "-9223372036854775808", "9007199254740993", "0"];
    assertEquals(limits.map(parseInt8), [
      9223372036854775807n,
      -9223372036854775808n,
      9007199254740993n,
      0n,
    ]);
    refused(parseInt8, ["", "-", "1.0", "0x10", " 1", "12345678901234567890123"]);
  });

  test("float8: NaN, infinities, minus zero, all digits", () => {
    const texts = ["NaN", "Infinity", "-Infinity", "-0", "0.1", "1e+300", "5e-324"];
    const values = [NaN, Infinity, -Infinity, -0, 0.1, 1e300, 5e-324];
    texts.forEach((text, at) => assert(Object.is(parseFloat8(text), values[at]), text));
    assertEquals(parseFloat8("0.10000000000000001"), 0.1);
    refused(parseFloat8, ["", " ", "nan", "infinity", "1 ", "0x10", "1,5", "12abc"]);
  });

  test("float4 is the same number, however many digits the server prints", () => {
    assertEquals(["0.1", "0.100000001"].map(parseFloat4), [0.1, 0.1]);
    assertEquals(["3.4028235e+38", "3.40282347e+38"].map(parseFloat4), [
      3.4028235e38,
      3.4028235e38,
    ]);
    assertEquals(["16777216", "1.6777216e+07"].map(parseFloat4), [16777216, 16777216]);
    assert(Object.is(parseFloat4("-0"), -0));
    assertEquals([parseFloat4("NaN"), parseFloat4("-Infinity")], [NaN, -Infinity]);
    refused(parseFloat4, ["", "0.1.2"]);
  });

  test("bytea, empty and with every byte", () => {
    assertEquals(parseBytea("\\x"), new Uint8Array(0));
    const bytes = Uint8Array.from({ length: 256 }, (_, byte) => byte);
    const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    assertEquals(parseBytea(`\\x${digits}`), bytes);
    refused(parseBytea, ["", "\\x0", "\\xzz", "00", "\\000", "\\x0 "]);
  });
});
