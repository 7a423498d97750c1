/**
 * Cuts the bytes of a server into messages: `Byte1` type, `Int32` length that counts itself, body.
 * Pure: chunks of any size go in, whole frames come out.
 * https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-MESSAGE-CONCEPTS
 */
import { ProtocolError } from "./errors.ts";

/** One message of the server, not looked into. */
export interface Frame {
  /** The message's type: the code of its first byte. */
  readonly type: number;
  /**
   * What follows the length: a view of the chunk where it lay whole inside one, else of a buffer
   * of its own. Never overwritten.
   */
  readonly body: Uint8Array;
}

/** A run of bytes, told by where it lies, so that it costs no view: `bytes` from `start` to `end`. */
export interface Span {
  /** Borrowed; never overwritten. */
  readonly bytes: Uint8Array;
  /** Its first byte. */
  readonly start: number;
  /** Behind its last byte. */
  readonly end: number;
}

/** The types of backend messages, as bytes. */
export const MessageType = {
  Authentication: 0x52, // R
  BackendKeyData: 0x4b, // K
  CommandComplete: 0x43, // C
  CopyBothResponse: 0x57, // W
  CopyData: 0x64, // d
  CopyDone: 0x63, // c
  CopyInResponse: 0x47, // G
  CopyOutResponse: 0x48, // H
  DataRow: 0x44, // D
  EmptyQueryResponse: 0x49, // I
  ErrorResponse: 0x45, // E
  NegotiateProtocolVersion: 0x76, // v
  NoticeResponse: 0x4e, // N
  NotificationResponse: 0x41, // A
  ParameterStatus: 0x53, // S
  ReadyForQuery: 0x5a, // Z
  RowDescription: 0x54, // T
} as const;

/** For every message type the longest body that is accepted, in bytes; −1 where none is expected. */
export type FrameLimits = Int32Array;

const KiB = 1024;
const MiB = 1024 * KiB;
// The server builds a message in one allocation, which is below 1 GiB.
const LARGEST = 1024 * MiB;
const HEADER_BYTES = 5;
// Up to here a body that spans chunks gets its buffer at once; a longer one as its bytes arrive,
// so that a length alone makes nobody allocate a gigabyte.
const TRUSTED_BYTES = MiB;

function limits(entries: readonly (readonly [type: number, maxBytes: number])[]): FrameLimits {
  const table = new Int32Array(256).fill(-1);
  for (const [type, maxBytes] of entries) table[type] = maxBytes;
  return table;
}

const ALWAYS = [
  [MessageType.ErrorResponse, MiB],
  [MessageType.NoticeResponse, MiB],
  [MessageType.ParameterStatus, 64 * KiB],
  [MessageType.ReadyForQuery, 1],
] as const;

/** What a server may send before it is ready: little, since nobody is authenticated yet. */
export const STARTUP_LIMITS: FrameLimits = limits([
  ...ALWAYS,
  [MessageType.Authentication, 16 * KiB],
  [MessageType.BackendKeyData, 4 + 256],
  [MessageType.NegotiateProtocolVersion, 16 * KiB],
]);

/** What a server may send once it is ready. */
export const SESSION_LIMITS: FrameLimits = limits([
  ...ALWAYS,
  [MessageType.CommandComplete, KiB],
  [MessageType.CopyBothResponse, 256 * KiB],
  [MessageType.CopyData, LARGEST],
  [MessageType.CopyDone, 0],
  [MessageType.CopyInResponse, 256 * KiB],
  [MessageType.CopyOutResponse, 256 * KiB],
  [MessageType.DataRow, LARGEST],
  [MessageType.EmptyQueryResponse, 0],
  [MessageType.NotificationResponse, 64 * KiB],
  [MessageType.RowDescription, MiB],
]);

const NOTHING = new Uint8Array(0);

/**
 * Cuts chunks into frames. Call `advance()` until it gives false, then `push()` the next chunk. Of the
 * frame at hand it tells the type, and as a `Span` the body: it makes nothing for it.
 */
export class FrameReader implements Span {
  /** The type of the frame at hand. */
  type = 0;
  /** The chunk where the frame lay whole inside one, else a buffer of its own. Never overwritten. */
  bytes: Uint8Array = NOTHING;
  /** Where the body begins. */
  start = 0;
  /** Where the body ends. */
  end = 0;
  /** What is accepted from the next frame on. */
  limits: FrameLimits;
  #chunk: Uint8Array = NOTHING;
  #offset = 0;
  /** The frame that spans chunks: its header as far as it is here, then its body. */
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #body: Uint8Array | null = null;
  #bodyBytes = 0;
  #bodyLength = 0;

  /**
   * Begins between two frames.
   *
   * @param limits what is accepted at first.
   */
  constructor(limits: FrameLimits) {
    this.limits = limits;
  }

  /** True where part of a frame is here and the rest is not: an end of the stream would cut it. */
  get midFrame(): boolean {
    return this.#headerBytes > 0 || this.#offset < this.#chunk.length;
  }

  /** The frame at hand, as an object. */
  get frame(): Frame {
    return { type: this.type, body: this.bytes.subarray(this.start, this.end) };
  }

  /** Hands over the next bytes. Only when `advance()` has given false. */
  push(chunk: Uint8Array): void {
    if (this.#offset < this.#chunk.length) {
      throw new RangeError("Frames of the last chunk are still to be taken");
    }
    this.#chunk = chunk;
    this.#offset = 0;
  }

  /**
   * Goes on to the next frame. @returns false where more bytes are needed: none is at hand then.
   *
   * @throws {ProtocolError} where a frame is of no expected type, or its length is out of bounds.
   */
  advance(): boolean {
    const chunk = this.#chunk;
    const start = this.#offset;
    if (this.#headerBytes > 0 || chunk.length - start < HEADER_BYTES) {
      return this.#advanceSpanning();
    }
    const type = chunk[start]!;
    const length = this.#checkedLength(type, chunk, start + 1);
    const bodyStart = start + HEADER_BYTES;
    const end = bodyStart + length;
    if (end > chunk.length) return this.#advanceSpanning();
    this.#offset = end;
    this.#set(type, chunk, bodyStart, end);
    return true;
  }

  #set(type: number, bytes: Uint8Array, start: number, end: number): void {
    this.type = type;
    this.bytes = bytes;
    this.start = start;
    this.end = end;
  }

  #advanceSpanning(): boolean {
    // A body may be large, and who waits for the next one may wait for long.
    this.#set(0, NOTHING, 0, 0);
    if (this.#body === null) {
      const missing = HEADER_BYTES - this.#headerBytes;
      const part = this.#rest(missing);
      this.#header.set(part, this.#headerBytes);
      this.#headerBytes += part.length;
      if (part.length < missing) return false;
      this.#bodyLength = this.#checkedLength(this.#header[0]!, this.#header, 1);
      this.#body = new Uint8Array(Math.min(this.#bodyLength, TRUSTED_BYTES));
      this.#bodyBytes = 0;
    }
    const part = this.#rest(this.#bodyLength - this.#bodyBytes);
    const wanted = this.#bodyBytes + part.length;
    if (wanted > this.#body.length) {
      // Doubling keeps the whole linear in the frame's length; it ends at exactly that length.
      const size = Math.min(this.#bodyLength, Math.max(wanted, this.#body.length * 2));
      const body = new Uint8Array(size);
      body.set(this.#body.subarray(0, this.#bodyBytes));
      this.#body = body;
    }
    this.#body.set(part, this.#bodyBytes);
    this.#bodyBytes = wanted;
    if (wanted < this.#bodyLength) return false;
    this.#set(this.#header[0]!, this.#body, 0, this.#bodyLength);
    this.#body = null;
    this.#headerBytes = 0;
    return true;
  }

  /** At most `length` bytes of what is left of the chunk. */
  #rest(length: number): Uint8Array {
    const end = Math.min(this.#offset + length, this.#chunk.length);
    const part = this.#chunk.subarray(this.#offset, end);
    this.#offset = end;
    return part;
  }

  #checkedLength(type: number, bytes: Uint8Array, at: number): number {
    const length = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) |
      bytes[at + 3]!;
    const bodyLength = length - 4;
    const limit = this.limits[type]!;
    if (limit === -1) {
      throw new ProtocolError(`The server sent a message that has no place here: ${nameOf(type)}`, {
        hint: "Does a PostgreSQL server listen at this address?",
      });
    }
    if (bodyLength < 0 || bodyLength > limit) {
      throw new ProtocolError(
        `The server sent a ${nameOf(type)} message of length ${length}; allowed are 4 to ${
          limit + 4
        }`,
      );
    }
    return bodyLength;
  }
}

const NAMES = new Map<number, string>(
  Object.entries(MessageType).map(([name, type]) => [type, name]),
);

/** A message type for people: its name, or its byte where it has none. */
export function nameOf(type: number): string {
  return NAMES.get(type) ?? `type 0x${type.toString(16).padStart(2, "0")}`;
}
