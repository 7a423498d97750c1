/**
 * A bounds-checked cursor over bytes, and a growing buffer to write them: the integers, strings and
 * byte runs of the Postgres protocol, in network byte order.
 * https://www.postgresql.org/docs/current/protocol-message-types.html
 */

// A value that is not UTF-8 must never be handed on with replacement characters, and a text that
// begins with U+FEFF keeps it. The decoder that replaces is the quicker one on every runtime.
const strictUtf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });
const encoder = new TextEncoder();
const REPLACEMENT = "\ufffd";

// Where there is a `Buffer`, its decoder needs no view and a third of the time of a TextDecoder's, which it agrees with.
type SliceText = (this: Uint8Array, start: number, end: number) => string;
const { Buffer: { prototype: { utf8Slice } = {} } = {} } = globalThis as {
  Buffer?: { prototype?: { utf8Slice?: SliceText } };
};

// Where Int64s are put together; a DataView for each reader would cost more than a short read.
const int64 = new DataView(new ArrayBuffer(8));

const NOTHING = new Uint8Array(0);

/**
 * Reads from one `Uint8Array`, or a part of it, which it borrows and never changes. Each read moves the
 * cursor and throws a `RangeError` rather than look past the end; what it returns as bytes is a view.
 */
export class ByteReader {
  #bytes: Uint8Array = NOTHING;
  /** Where the first byte lies, the cursor, and the end, within `#bytes`. */
  #start = 0;
  #offset = 0;
  #end = 0;

  /**
   * Begins at the first byte.
   *
   * @param bytes borrowed: must not change while the reader, or a view it gave out, is in use.
   */
  constructor(bytes: Uint8Array = NOTHING) {
    this.#bytes = bytes;
    this.#end = bytes.length;
  }

  /**
   * Begins anew at other bytes, so that many messages of a chunk need one reader and no views.
   *
   * @param bytes borrowed, as in the constructor; nothing before `start` or from `end` on is read.
   * @throws {RangeError} where the part is not within the bytes.
   */
  aim(bytes: Uint8Array, start: number, end: number): void {
    if (!(start >= 0 && start <= end && end <= bytes.length)) {
      throw new RangeError(`Bytes ${start} to ${end} of ${bytes.length}`);
    }
    this.#bytes = bytes;
    this.#start = start;
    this.#offset = start;
    this.#end = end;
  }

  /** Lets go of the bytes, for a reader that is kept: they may be many. */
  release(): void {
    this.aim(NOTHING, 0, 0);
  }

  /** What is read from, for what reads without a call for each part; see `position`. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** Where the cursor is within `bytes`; what is read lies before `position + remaining`. */
  get position(): number {
    return this.#offset;
  }

  /** Bytes before the cursor. */
  get offset(): number {
    return this.#offset - this.#start;
  }

  /** Bytes that are still to be read. */
  get remaining(): number {
    return this.#end - this.#offset;
  }

  /** Byte1 or Int8, unsigned. */
  readUint8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  /** Int16, signed. */
  readInt16(): number {
    return (this.readUint16() << 16) >> 16;
  }

  /** Int16, read as unsigned. */
  readUint16(): number {
    const at = this.#take(2);
    return (this.#bytes[at]! << 8) | this.#bytes[at + 1]!;
  }

  /** Int32, signed. */
  readInt32(): number {
    return this.#int32At(this.#take(4));
  }

  /** Int32, read as unsigned: OIDs and transaction ids. */
  readUint32(): number {
    return this.#int32At(this.#take(4)) >>> 0;
  }

  /** Int64, signed: times. */
  readInt64(): bigint {
    this.#loadInt64();
    return int64.getBigInt64(0);
  }

  /** Int64, read as unsigned: LSNs. */
  readUint64(): bigint {
    this.#loadInt64();
    return int64.getBigUint64(0);
  }

  /** Passes over the next `length` bytes. */
  skip(length: number): void {
    this.#take(length);
  }

  /** The next `length` bytes, as a view: a plain `Uint8Array`, also of a Node `Buffer`. */
  readBytes(length: number): Uint8Array {
    const start = this.#take(length);
    return this.#viewOf(start, start + length);
  }

  /** The next `length` bytes, as UTF-8. @throws {RangeError} where they are not UTF-8. */
  readText(length: number): string {
    const start = this.#take(length);
    return decodeText(this.#bytes, start, start + length);
  }

  /** String: UTF-8 up to a zero byte, which is consumed. */
  readCString(): string {
    return decodeText(this.readCStringBytes());
  }

  /** The bytes of a String, as a view; its zero byte is consumed too. */
  readCStringBytes(): Uint8Array {
    const end = this.#bytes.indexOf(0, this.#offset);
    if (end === -1 || end >= this.#end) {
      throw new RangeError(`String at byte ${this.offset} has no end`);
    }
    const bytes = this.readBytes(end - this.#offset);
    this.#take(1);
    return bytes;
  }

  /** Throws unless everything was read: bytes left over mean that they were misunderstood. */
  expectEnd(): void {
    if (this.remaining !== 0) {
      throw new RangeError(`${this.remaining} bytes left over at byte ${this.offset}`);
    }
  }

  // Not `subarray()`: that of a Buffer makes Buffers, whose `slice()` shares memory.
  #viewOf(start: number, end: number): Uint8Array {
    const { buffer, byteOffset } = this.#bytes;
    return new Uint8Array(buffer, byteOffset + start, end - start);
  }

  #int32At(at: number): number {
    const bytes = this.#bytes;
    return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
  }

  #loadInt64(): void {
    const at = this.#take(8);
    int64.setInt32(0, this.#int32At(at));
    int64.setInt32(4, this.#int32At(at + 4));
  }

  #take(length: number): number {
    const start = this.#offset;
    if (!(length >= 0 && length <= this.#end - start)) {
      throw new RangeError(
        `${length} bytes wanted at byte ${this.offset}, ${this.remaining} there`,
      );
    }
    this.#offset = start + length;
    return start;
  }
}

/** UTF-8 to text; what is not UTF-8 becomes U+FFFD. @throws where it is too much for a string. */
export function decodeLossily(bytes: Uint8Array, start: number, end: number): string {
  return utf8Slice === undefined
    ? utf8.decode(new Uint8Array(bytes.buffer, bytes.byteOffset + start, end - start))
    : utf8Slice.call(bytes, start, end);
}

/** UTF-8 to text. @throws {RangeError} where the bytes are not UTF-8, or too many for a string. */
export function decodeText(
  bytes: Uint8Array,
  start = 0,
  end: number = bytes.length,
): string {
  try {
    const text = decodeLossily(bytes, start, end);
    return text.includes(REPLACEMENT) ? strictUtf8.decode(bytes.subarray(start, end)) : text;
  } catch (cause) {
    throw new RangeError(`${end - start} bytes cannot be read as UTF-8`, { cause });
  }
}

/** Writes into a buffer that grows. `finish()` hands over the bytes. */
export class ByteWriter {
  #bytes: Uint8Array<ArrayBuffer>;
  #view: DataView;
  #length = 0;

  /**
   * Begins empty.
   *
   * @param capacity bytes to begin with.
   */
  constructor(capacity = 64) {
    this.#bytes = new Uint8Array(capacity);
    this.#view = new DataView(this.#bytes.buffer);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** Byte1 or Int8. */
  writeUint8(value: number): this {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
    return this;
  }

  /** Int16. */
  writeInt16(value: number): this {
    const at = this.#grow(2);
    this.#view.setInt16(at, value);
    return this;
  }

  /** Int32. */
  writeInt32(value: number): this {
    const at = this.#grow(4);
    this.#view.setInt32(at, value);
    return this;
  }

  /** Int64, signed: times. */
  writeInt64(value: bigint): this {
    const at = this.#grow(8);
    this.#view.setBigInt64(at, value);
    return this;
  }

  /** Int64, unsigned: LSNs. */
  writeUint64(value: bigint): this {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, value);
    return this;
  }

  /** Bytes as they are; copied. */
  writeBytes(bytes: Uint8Array): this {
    const at = this.#grow(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** UTF-8 with no terminator. */
  writeText(text: string): this {
    return this.writeBytes(encoder.encode(text));
  }

  /** String: UTF-8 and a zero byte. @throws {RangeError} where the text holds a zero byte itself. */
  writeCString(text: string): this {
    if (text.includes("\0")) throw new RangeError("A string holds a zero byte");
    return this.writeText(text).writeUint8(0);
  }

  /** Overwrites four bytes that are written already: a length that is known at the end. */
  setInt32(at: number, value: number): this {
    if (at < 0 || at + 4 > this.#length) throw new RangeError(`No Int32 was written at byte ${at}`);
    this.#view.setInt32(at, value);
    return this;
  }

  /** The bytes written, as a view of the writer's buffer: the caller's own from here on. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  #grow(length: number): number {
    const at = this.#length;
    const wanted = at + length;
    if (wanted > this.#bytes.length) {
      const bytes = new Uint8Array(Math.max(wanted, this.#bytes.length * 2));
      bytes.set(this.#bytes.subarray(0, at));
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer);
    }
    this.#length = wanted;
    return at;
  }
}
