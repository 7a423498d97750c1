/**
 * The way of a stream from the socket to the decoder: chunks, frames, CopyData, XLogData, pgoutput, made wrong at any
 * level. Each piece is compared with a plain reading of the protocol; the first error ends the stream, as it does in
 * a session.
 */
import { PgOutputDecoder } from "../../src/pgoutput/mod.ts";
import { ReplicationMessageReader } from "../../src/replication/messages.ts";
import { FrameReader, MessageType, SESSION_LIMITS } from "../../src/wire/frames.ts";
import { goldenStreams } from "./corpus.ts";
import { NOISE } from "./dice.ts";
import type { Mutator } from "./mutate.ts";
import type { Stage } from "./target.ts";
import { Finding, hex, type Tally } from "./tally.ts";

const STREAMS_OF_BATCH = 20;
const READER_KINDS = new Set(["replication-message"]);
const STREAM_KINDS = new Set(["protocol-violation", "replication-message", "decode"]);
const XLOG_DATA = 0x77;
const KEEPALIVE = 0x6b;
const XLOG_DATA_HEADER_BYTES = 25;
const KEEPALIVE_BYTES = 18;

/** See `Batch`. */
export function batch(stage: Stage): void {
  const reader = new ReplicationMessageReader();
  const decoder = new PgOutputDecoder();
  for (let round = 0; round < STREAMS_OF_BATCH; round++) {
    playMessages(stage, reader);
    playStream(stage, reader, decoder);
  }
}

/** Payloads by themselves. */
function playMessages({ dice, mutator, tally }: Stage, reader: ReplicationMessageReader): void {
  const { messages } = dice.pick(goldenStreams);
  for (let count = 0; count < 50; count++) {
    if (dice.chance(0.7)) fillXLogData(mutator, dice.below(NOISE.length - 24), dice.pick(messages));
    else fillKeepalive(mutator, dice.below(NOISE.length - 24));
    if (dice.chance(0.6)) mutator.mutate(dice.pick(messages));
    tally.begin(mutator.length);
    readOne(reader, mutator.bytes, mutator.start, mutator.end, tally);
  }
}

/** Reads one, and compares. @returns false where it was refused */
function readOne(
  reader: ReplicationMessageReader,
  bytes: Uint8Array,
  start: number,
  end: number,
  tally: Tally,
): boolean {
  const expected = kindOf(bytes, start, end);
  try {
    reader.read(bytes, start, end);
  } catch (error) {
    tally.refuse(error, READER_KINDS);
    if (expected !== null) throw new Finding(`Refused: ${hex(bytes.subarray(start, end))}`);
    return false;
  }
  tally.messages++;
  const what = () => hex(bytes.subarray(start, end));
  if (expected === null) throw new Finding(`Taken: ${what()}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, end - start);
  const { message } = reader;
  if (message.type === "primaryKeepalive") {
    const right = expected === "keepalive" && message.walEnd === view.getBigUint64(1) &&
      message.sendTimeUs === view.getBigInt64(9) &&
      message.replyRequested === (view.getUint8(17) !== 0);
    if (!right) throw new Finding(`Another keepalive: ${what()}`);
    return true;
  }
  const { data } = message;
  const right = expected === "xLogData" && message.walStart === view.getBigUint64(1) &&
    message.walEnd === view.getBigUint64(9) && message.sendTimeUs === view.getBigInt64(17) &&
    reader.walStartHigh === view.getUint32(1) && reader.walStartLow === view.getUint32(5) &&
    reader.start === start + XLOG_DATA_HEADER_BYTES && reader.end === end &&
    data.length === end - reader.start && data.buffer === bytes.buffer &&
    data.byteOffset === bytes.byteOffset + reader.start;
  if (!right) throw new Finding(`Another XLogData: ${what()}`);
  return true;
}

function kindOf(bytes: Uint8Array, start: number, end: number): "xLogData" | "keepalive" | null {
  const length = end - start;
  if (length === 0) return null;
  if (bytes[start] === XLOG_DATA) return length >= XLOG_DATA_HEADER_BYTES ? "xLogData" : null;
  return bytes[start] === KEEPALIVE && length === KEEPALIVE_BYTES ? "keepalive" : null;
}

/** A whole stream. */
function playStream(
  { dice, mutator, spare, tally }: Stage,
  reader: ReplicationMessageReader,
  decoder: PgOutputDecoder,
): void {
  decoder.reset();
  const { messages } = dice.pick(goldenStreams);
  const wrong = dice.pick([0, 0, 0.005, 0.05]);
  spare.end = spare.start;
  for (const message of messages) {
    const from = dice.below(NOISE.length - 24);
    if (dice.chance(0.1)) fillKeepalive(mutator, from);
    else fillXLogData(mutator, from, message);
    if (wrong > 0 && dice.chance(wrong)) mutator.mutate(dice.pick(messages));
    const payload = mutator.view;
    spare.add(Uint8Array.of(MessageType.CopyData, ...int32Bytes(payload.length + 4))).add(payload);
  }
  if (dice.chance(0.3)) spare.mutate(mutator.view);
  const stream = spare.view.slice();
  const most = dice.size(stream.length + 1);
  const frames = new FrameReader(SESSION_LIMITS);
  tally.begin(stream.length);
  try {
    for (let at = 0; at < stream.length;) {
      const chunk = stream.subarray(at, at + dice.between(1, most));
      at += chunk.length;
      frames.push(chunk);
      while (frames.advance()) {
        if (frames.type !== MessageType.CopyData) return;
        if (!readOne(reader, frames.bytes, frames.start, frames.end, tally)) return;
        if (reader.keepalive === null) decoder.decodeAt(reader.bytes, reader.start, reader.end);
      }
    }
  } catch (error) {
    if (error instanceof Finding) throw error;
    tally.refuse(error, STREAM_KINDS);
  }
}

function int32Bytes(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

function fillXLogData(mutator: Mutator, from: number, data: Uint8Array): void {
  mutator.take(Uint8Array.of(XLOG_DATA)).add(NOISE.subarray(from, from + 24)).add(data);
}

function fillKeepalive(mutator: Mutator, from: number): void {
  mutator.take(Uint8Array.of(KEEPALIVE)).add(NOISE.subarray(from, from + KEEPALIVE_BYTES - 1));
}
