import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { parseTimestamp, parseTimestamptz } from "../../../src/values/timestamp.ts";

const isoOf = (text: string) => parseTimestamptz(text).toISOString();

describe("timestamps:", () => {
  test("with a time zone: the moment, microseconds cut", () => {
    assertEquals(isoOf("2024-02-29 12:34:56.123456+00"), "2024-02-29T12:34:56.123Z");
    assertEquals(isoOf("2024-02-29 12:34:56.9999+00"), "2024-02-29T12:34:56.999Z");
    assertEquals(isoOf("2024-02-29 12:34:56.1+00"), "2024-02-29T12:34:56.100Z");
    assertEquals(isoOf("1969-12-31 23:59:59.999999+00"), "1969-12-31T23:59:59.999Z");
    assertEquals(isoOf("2024-01-01 00:00:00+00"), "2024-01-01T00:00:00.000Z");
  });

  test("with an offset, to the second", () => {
    assertEquals(isoOf("2024-01-01 00:00:00+05:30"), "2023-12-31T18:30:00.000Z");
    assertEquals(isoOf("2024-01-01 00:00:00-08"), "2024-01-01T08:00:00.000Z");
    assertEquals(isoOf("1800-01-01 00:00:00+00:53:28"), "1799-12-31T23:06:32.000Z");
  });

  test("years before 100, before Christ, and beyond 9999", () => {
    assertEquals(isoOf("0044-03-15 10:00:00+00 BC"), "-000043-03-15T10:00:00.000Z");
    assertEquals(isoOf("0001-12-31 23:59:59+00 BC"), "0000-12-31T23:59:59.000Z");
    assertEquals(isoOf("0099-01-01 00:00:00+00"), "0099-01-01T00:00:00.000Z");
    assertEquals(isoOf("4713-01-01 00:00:00+00 BC"), "-004712-01-01T00:00:00.000Z");
    assertEquals(isoOf("12024-01-01 00:00:00+00"), "+012024-01-01T00:00:00.000Z");
  });

  test("what a Date cannot hold is an Invalid Date", () => {
    for (const text of ["infinity", "-infinity"]) {
      assert(Number.isNaN(parseTimestamptz(text).getTime()));
      assert(Number.isNaN(parseTimestamp(text).getTime()));
    }
    assert(Number.isNaN(parseTimestamptz("294276-12-31 23:59:59+00").getTime()));
    assert(Number.isNaN(parseTimestamp("294276-12-31 23:59:59").getTime()));
  });

  test("without a time zone: the local time of the process", () => {
    const local = (...parts: [number, number, number, number, number, number, number]) => {
      const [year, month, day, ...time] = parts;
      const date = new Date(0);
      date.setFullYear(year, month - 1, day);
      date.setHours(...time);
      return date;
    };
    assertEquals(
      parseTimestamp("2024-02-29 12:34:56.123456"),
      new Date(2024, 1, 29, 12, 34, 56, 123),
    );
    assertEquals(parseTimestamp("0099-07-01 01:02:03"), local(99, 7, 1, 1, 2, 3, 0));
    assertEquals(parseTimestamp("0044-03-15 00:00:00 BC"), local(-43, 3, 15, 0, 0, 0, 0));
    assertEquals(parseTimestamp("1900-01-01 00:00:00"), new Date(1900, 0, 1));
  });

  test("anything else is refused, and not repeated", () => {
    const zoned = ["", "2024-02-29", "29.02.2024 12:34:56+00", "2024-02-29 12:34:56", "Infinity"];
    const others = ["2024-13-01 00:00:00+00", "2024-01-01 00:60:00+00", "2024-01-01T00:00:00+00"];
    for (const text of [...zoned, ...others]) {
      const error = assertThrows(() => parseTimestamptz(text), RangeError);
      assert(text === "" || !error.message.includes(text));
    }
    assertThrows(() => parseTimestamp("2024-02-29 12:34:56+00"), RangeError);
  });
});
