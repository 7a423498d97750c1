import { assert, assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { ReplicationError } from "../../../src/replication/errors.ts";
import {
  encodeStandbyStatusUpdate,
  type ReplicationMessage,
  ReplicationMessageReader,
} from "../../../src/replication/messages.ts";

// One for all, as in a stream: what it read before must not show.
const reader = new ReplicationMessageReader();

function decodeReplicationMessage(payload: Uint8Array): ReplicationMessage {
  reader.read(payload, 0, payload.length);
  return reader.message;
}

/** Bytes from hexadecimal digits; spaces are for the reader. */
function hex(text: string): Uint8Array {
  const digits = text.replaceAll(" ", "").match(/../g) ?? [];
  return Uint8Array.from(digits, (pair) => parseInt(pair, 16));
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const XLOG_DATA = hex("77 00000016b374d848 ffffffffffffffff 0000000000000001 42 ff 00");
const KEEPALIVE = hex("6b ffffffff00000001 fffffffffffffffe 01");

test("XLogData gives its positions, unsigned, and the plugin's message", () => {
  assertEquals(decodeReplicationMessage(XLOG_DATA), {
    type: "xLogData",
    walStart: 0x16_b374d848n,
    walEnd: 2n ** 64n - 1n,
    sendTimeUs: 1n,
    data: hex("42 ff 00"),
  });
});

test("XLogData tells its position and where its data lies, in the middle of a chunk", () => {
  const chunk = new Uint8Array(100).fill(0x77);
  chunk.set(XLOG_DATA, 31);
  reader.read(chunk, 31, 31 + XLOG_DATA.length);
  const { bytes, start, end, walStartHigh, walStartLow, keepalive } = reader;
  assertEquals(bytes.subarray(start, end), hex("42 ff 00"));
  assertEquals([walStartHigh, walStartLow, keepalive], [0x16, 0xb374d848, null]);
  const { message } = reader;
  assert(message.type === "xLogData");
  assertEquals([message.walStart, message.data], [0x16_b374d848n, hex("42 ff 00")]);
});

test("XLogData may be empty", () => {
  const message = decodeReplicationMessage(XLOG_DATA.subarray(0, 25));
  assert(message.type === "xLogData");
  assertEquals(message.data.length, 0);
});

test("a payload that lies in the middle of a larger chunk is read from its own start", () => {
  const chunk = new Uint8Array(100).fill(0x77);
  chunk.set(KEEPALIVE, 31);
  assertEquals(
    decodeReplicationMessage(chunk.subarray(31, 31 + KEEPALIVE.length)),
    decodeReplicationMessage(KEEPALIVE),
  );
});

test("a keepalive gives its position, a time before 2000, and whether it wants an answer", () => {
  assertEquals(decodeReplicationMessage(KEEPALIVE), {
    type: "primaryKeepalive",
    walEnd: 0xffff_ffff_0000_0001n,
    sendTimeUs: -2n,
    replyRequested: true,
  });
  const quiet = KEEPALIVE.with(17, 0);
  const message = decodeReplicationMessage(quiet);
  assert(message.type === "primaryKeepalive");
  assertEquals(message.replyRequested, false);
});

test("a message cut at any byte is a typed error, never half a message", () => {
  for (const [whole, header] of [[XLOG_DATA, 25], [KEEPALIVE, KEEPALIVE.length]] as const) {
    for (let length = 0; length < header; length++) {
      const error = assertThrows(
        () => decodeReplicationMessage(whole.subarray(0, length)),
        ReplicationError,
        `${length} bytes`,
      );
      assertEquals(error.kind, "replication-message");
    }
  }
});

test("a keepalive with bytes left over is a typed error", () => {
  const longer = new Uint8Array(KEEPALIVE.length + 1);
  longer.set(KEEPALIVE);
  assertThrows(() => decodeReplicationMessage(longer), ReplicationError);
});

test("every type of message but the two is a typed error", () => {
  for (let type = 0; type < 256; type++) {
    if (type === 0x77 || type === 0x6b) continue;
    const error = assertThrows(
      () => decodeReplicationMessage(KEEPALIVE.with(0, type)),
      ReplicationError,
    );
    assertEquals(error.kind, "replication-message");
  }
});

test("a status update is what the server expects, byte for byte", () => {
  const bytes = encodeStandbyStatusUpdate({
    writtenLsn: 2n ** 64n - 1n,
    flushedLsn: 0x16_b374d848n,
    clockMs: Date.UTC(2000, 0, 1, 0, 0, 1),
  });
  assertEquals(
    toHex(bytes),
    "72" + "ffffffffffffffff" + "00000016b374d848".repeat(2) + "00000000000f4240" + "00",
  );
});

test("a status update asks for an answer only when told to", () => {
  const at = { writtenLsn: 1n, flushedLsn: 1n, clockMs: 0 };
  assertEquals(encodeStandbyStatusUpdate({ ...at, replyRequested: true }).at(-1), 1);
  assertEquals(encodeStandbyStatusUpdate({ ...at, replyRequested: false }).at(-1), 0);
  assertEquals(encodeStandbyStatusUpdate(at).at(-1), 0);
});

test("a clock with fractions, or before 2000, is no error", () => {
  const clockOf = (clockMs: number) =>
    new DataView(encodeStandbyStatusUpdate({ writtenLsn: 0n, flushedLsn: 0n, clockMs }).buffer)
      .getBigInt64(25);
  assertEquals(clockOf(Date.UTC(2000, 0, 1) + 0.5), 500n);
  assertEquals(clockOf(0), -946_684_800_000_000n);
  assertEquals(clockOf(Date.UTC(2100, 0, 1)), 3_155_760_000_000_000n);
});
