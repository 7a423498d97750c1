import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { ByteReader, ByteWriter, decodeText } from "../../src/bytes.ts";

describe("ByteReader", () => {
  test("integers at their limits, signed and unsigned, in network byte order", () => {
    const limits: [number[], (reader: ByteReader) => number | bigint, number | bigint][] = [
      [[0xff], (reader) => reader.readUint8(), 255],
      [[0x7f, 0xff], (reader) => reader.readInt16(), 32_767],
      [[0x80, 0x00], (reader) => reader.readInt16(), -32_768],
      [[0xff, 0xfe], (reader) => reader.readUint16(), 65_534],
      [[0x7f, 0xff, 0xff, 0xff], (reader) => reader.readInt32(), 2_147_483_647],
      [[0x80, 0x00, 0x00, 0x00], (reader) => reader.readInt32(), -2_147_483_648],
      [[0xff, 0xff, 0xff, 0xfe], (reader) => reader.readUint32(), 4_294_967_294],
      [[0x80, 0, 0, 0, 0, 0, 0, 0x01], (reader) => reader.readInt64(), -(2n ** 63n) + 1n],
      [
        [0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10],
        (reader) => reader.readUint64(),
        0xfedc_ba98_7654_3210n,
      ],
    ];
    for (const [bytes, read, expected] of limits) {
      const reader = new ByteReader(Uint8Array.from(bytes));
      assertEquals(read(reader), expected);
      reader.expectEnd();
      const short = new ByteReader(Uint8Array.from(bytes.slice(1)));
      assertThrows(() => read(short), RangeError, `${bytes.length} bytes wanted at byte 0`);
      assertEquals(short.offset, 0);
    }
  });

  test("a view of a larger buffer is read from its own start to its own end", () => {
    const reader = new ByteReader(Uint8Array.of(9, 9, 0, 1, 9, 9).subarray(2, 4));
    assertEquals(reader.readUint16(), 1);
    assertEquals(reader.remaining, 0);
    assertThrows(() => reader.readUint8(), RangeError);
  });

  test("a reader that is aimed reads a part of a chunk, and nothing around it", () => {
    const chunk = new TextEncoder().encode("before\0hello\0after\0");
    const reader = new ByteReader();
    assertEquals([reader.offset, reader.remaining], [0, 0]);
    assertThrows(() => reader.readUint8(), RangeError);
    reader.aim(chunk, 7, 13);
    assertEquals([reader.readText(2), reader.readCString(), reader.offset], ["he", "llo", 6]);
    reader.expectEnd();
    // What was decoded ahead belongs to where it was read.
    reader.aim(chunk, 0, 5);
    assertThrows(() => reader.readCString(), RangeError, "String at byte 0 has no end");
    assertThrows(() => reader.readBytes(6), RangeError, "6 bytes wanted at byte 0, 5 there");
    assertEquals(reader.readText(5), "befor");
    reader.aim(chunk, 8, 12);
    reader.skip(1);
    assertThrows(() => reader.skip(4), RangeError, "4 bytes wanted at byte 1, 3 there");
    assertThrows(() => reader.expectEnd(), RangeError, "3 bytes left over at byte 1");
    assertEquals(reader.readText(3), "llo");
    reader.release();
    assertEquals([reader.offset, reader.remaining], [0, 0]);
    for (const [start, end] of [[-1, 2], [2, 1], [0, 20], [NaN, 2], [0, NaN]]) {
      assertThrows(() => reader.aim(chunk, start!, end!), RangeError);
    }
  });

  test("a length that is negative, too large or no number moves nothing", () => {
    const reader = new ByteReader(Uint8Array.of(1, 2, 3));
    for (const length of [-1, 4, 2 ** 31 - 1, -(2 ** 31), NaN]) {
      assertThrows(() => reader.readBytes(length), RangeError);
      assertThrows(() => reader.readText(length), RangeError);
    }
    assertEquals(reader.offset, 0);
    assertEquals(reader.readBytes(3), Uint8Array.of(1, 2, 3));
    assertEquals(reader.readBytes(0), new Uint8Array());
  });

  test("texts of every length around the short ones, ASCII and not", () => {
    for (let length = 0; length < 80; length++) {
      for (
        const text of ["x".repeat(length), "x".repeat(length) + "é", "世" + "~".repeat(length)]
      ) {
        const bytes = new TextEncoder().encode(text);
        const reader = new ByteReader(bytes);
        assertEquals(reader.readText(bytes.length), text);
        reader.expectEnd();
      }
    }
  });

  test("a text keeps a byte order mark, and is refused where it is not UTF-8", () => {
    const bom = Uint8Array.of(0xef, 0xbb, 0xbf, 0x61);
    assertEquals(new ByteReader(bom).readText(4), "\ufeffa");
    assertEquals(decodeText(bom), "\ufeffa");
    const bad = Uint8Array.of(0x61, 0xff);
    assertThrows(() => new ByteReader(bad).readText(2), RangeError, "UTF-8");
    assertThrows(() => decodeText(bad), RangeError, "2 bytes cannot be read as UTF-8");
  });

  test("a String ends at its zero byte, and one that has none is an error", () => {
    const reader = new ByteReader(Uint8Array.of(0x61, 0, 0, 0x62));
    assertEquals([reader.readCString(), reader.readCString(), reader.offset], ["a", "", 3]);
    assertThrows(() => reader.readCString(), RangeError, "String at byte 3 has no end");
  });

  test("bytes left over are an error that counts them", () => {
    const reader = new ByteReader(Uint8Array.of(1, 2, 3));
    reader.readUint8();
    assertThrows(() => reader.expectEnd(), RangeError, "2 bytes left over at byte 1");
  });
});

describe("ByteWriter", () => {
  test("what it writes, a reader reads, also after the buffer grew", () => {
    const bytes = new ByteWriter(1)
      .writeUint8(255)
      .writeInt16(-2)
      .writeInt32(-3)
      .writeInt64(-4n)
      .writeUint64(2n ** 64n - 5n)
      .writeBytes(Uint8Array.of(6, 7))
      .writeText("é")
      .writeCString("世")
      .finish();
    const reader = new ByteReader(bytes);
    assertEquals(reader.readUint8(), 255);
    assertEquals(reader.readInt16(), -2);
    assertEquals(reader.readInt32(), -3);
    assertEquals(reader.readInt64(), -4n);
    assertEquals(reader.readUint64(), 2n ** 64n - 5n);
    assertEquals(reader.readBytes(2), Uint8Array.of(6, 7));
    assertEquals(reader.readText(2), "é");
    assertEquals(reader.readCString(), "世");
    reader.expectEnd();
  });

  test("a length is filled in at the end, and only over what was written", () => {
    const writer = new ByteWriter().writeUint8(1).writeInt32(0).writeText("abc");
    writer.setInt32(1, writer.length - 1);
    assertEquals(writer.finish(), Uint8Array.of(1, 0, 0, 0, 7, 0x61, 0x62, 0x63));
    for (const at of [-1, 5, 100]) assertThrows(() => writer.setInt32(at, 1), RangeError);
  });

  test("a zero byte cannot end a String early", () => {
    const writer = new ByteWriter();
    assertThrows(() => writer.writeCString("a\0b"), RangeError);
    assert(writer.length === 0);
  });
});
