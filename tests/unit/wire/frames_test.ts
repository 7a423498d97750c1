import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { ProtocolError } from "../../../src/wire/errors.ts";
import {
  type Frame,
  FrameReader,
  SESSION_LIMITS,
  STARTUP_LIMITS,
} from "../../../src/wire/frames.ts";
import { concat, int32, msg, say } from "../../support/scripted_server.ts";

const messages = [
  say.ready,
  say.copyData("hello"),
  say.copyDone,
  say.row("one", null, ""),
  say.copyData(new Uint8Array(300).fill(9)),
  say.complete("SELECT 1"),
];
const stream = concat(messages);
const expected = messages.map((bytes) => ({ type: bytes[0]!, body: bytes.slice(5) }));

function takeAll(reader: FrameReader): Frame[] {
  const frames: Frame[] = [];
  while (reader.advance()) frames.push(reader.frame);
  return frames;
}

function read(chunks: readonly Uint8Array[], reader = new FrameReader(SESSION_LIMITS)): Frame[] {
  return chunks.flatMap((chunk) => {
    reader.push(chunk);
    return takeAll(reader);
  });
}

test("frames are the same wherever the bytes are cut", () => {
  for (let cut = 0; cut <= stream.length; cut++) {
    assertEquals(read([stream.slice(0, cut), stream.slice(cut)]), expected, `cut at ${cut}`);
  }
});

test("frames are the same one byte at a time", () => {
  assertEquals(read(Array.from(stream, (byte) => Uint8Array.of(byte))), expected);
});

test("frames are the same whatever the chunks' sizes", () => {
  for (let size = 1; size <= 40; size++) {
    const chunks: Uint8Array[] = [];
    for (let at = 0; at < stream.length; at += size) chunks.push(stream.slice(at, at + size));
    assertEquals(read(chunks), expected, `chunks of ${size}`);
  }
});

test("a frame whole inside its chunk is a view of it; one that spans chunks is not", () => {
  const chunk = concat([say.copyData("view"), say.copyData("spanning").slice(0, 8)]);
  const rest = say.copyData("spanning").slice(8);
  const [view, spanning] = read([chunk, rest]);
  assertStrictEquals(view!.body.buffer, chunk.buffer);
  assert(spanning!.body.buffer !== chunk.buffer && spanning!.body.buffer !== rest.buffer);
});

test("a frame that was taken does not change when later ones arrive", () => {
  const reader = new FrameReader(SESSION_LIMITS);
  const first = read([say.copyData("aaaa").slice(0, 6), say.copyData("aaaa").slice(6)], reader)[0]!;
  read([say.copyData("bbbb").slice(0, 6), say.copyData("bbbb").slice(6)], reader);
  assertEquals(new TextDecoder().decode(first.body), "aaaa");
});

test("a frame of 64 MiB in chunks of 16 KiB is read in linear time, into a buffer of its size", () => {
  const length = 64 * 1024 * 1024;
  const reader = new FrameReader(SESSION_LIMITS);
  reader.push(Uint8Array.from([0x64, ...int32(length + 4)]));
  assertStrictEquals(reader.advance(), false);
  const chunk = new Uint8Array(16 * 1024).fill(5);
  const started = performance.now();
  let frame: Frame | null = null;
  for (let at = 0; at < length; at += chunk.length) {
    assertStrictEquals(frame, null);
    reader.push(chunk);
    if (reader.advance()) frame = reader.frame;
  }
  assertEquals(frame!.body.length, length);
  assertEquals(frame!.body.buffer.byteLength, length);
  assert(frame!.body.every((byte) => byte === 5));
  // Copying all again for each chunk would move 128 GiB.
  assert(performance.now() - started < 10_000);
});

test("hostile lengths are refused as soon as the header is here, whole or byte by byte (27)", () => {
  for (const length of [0, 1, 3, -1, -(2 ** 31), 2 ** 31 - 1]) {
    const header = Uint8Array.from([0x64, ...int32(length)]);
    const error = assertThrows(() => read([header]), ProtocolError, `${length}`);
    assertEquals(error.kind, "protocol-violation");
    assertThrows(() => read(Array.from(header, (byte) => Uint8Array.of(byte))), ProtocolError);
  }
});

test("each type has its bound: a status message cannot be a gigabyte", () => {
  const cases: [string, number][] = [["Z", 2], ["S", 65_537], ["E", 1024 * 1024 + 1], ["C", 1025]];
  for (const [type, length] of cases) {
    const header = concat([new TextEncoder().encode(type), Uint8Array.from(int32(length + 4))]);
    assertThrows(() => read([header]), ProtocolError, "length");
  }
  assertEquals(read([Uint8Array.from([0x64, ...int32(2 ** 30 + 4)])]), []);
});

test("before the server is ready it may send no data at all", () => {
  const reader = new FrameReader(STARTUP_LIMITS);
  assertThrows(() => read([msg("d", "x")], reader), ProtocolError, "CopyData");
});

test("a server that speaks something else is told apart by its first byte", () => {
  const http = new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n");
  const error = assertThrows(() => read([http], new FrameReader(STARTUP_LIMITS)), ProtocolError);
  assert(error.hint?.includes("PostgreSQL"));
  assertThrows(() => read([new Uint8Array(5)]), ProtocolError, "0x00");
});

test("an end in the middle of a frame can be told from one between frames", () => {
  for (let cut = 1; cut < say.row("x").length; cut++) {
    const reader = new FrameReader(SESSION_LIMITS);
    read([say.ready, say.row("x").slice(0, cut)], reader);
    assert(reader.midFrame, `cut at ${cut}`);
  }
  const reader = new FrameReader(SESSION_LIMITS);
  read([stream], reader);
  assert(!reader.midFrame);
});
