/** Reads the values of a tuple: first where each lies, then texts, many by one call of the runtime's decoder. */
import { type ByteReader, decodeLossily, decodeText } from "../bytes.ts";
import type { TupleValue } from "./messages.ts";

/** Byte1 before a value. */
const TEXT = 0x74; // t
const BINARY = 0x62; // b
const NULL = 0x6e; // n
const UNCHANGED = 0x75; // u

/**
 * A call of a decoder costs as much as ten `slice`s of a string, so short texts are cut out of a run of bytes that is
 * decoded at once, what stands between them included. Runs are short, for such a slice keeps all of it in memory.
 */
const MAX_RUN_BYTES = 512;
const REPLACEMENT = "\ufffd";
/** In place of an end: NULL, or what has not changed. */
const NO_BYTES = -1;
/** In place of an end: bytes that no run may reach over. */
const NO_TEXT = -2;

/** Reads one tuple after the other. */
export class TupleReader {
  /** What the last tuple holds, up to its count of columns; undefined for what has not changed. */
  readonly values: (TupleValue | undefined)[] = [];
  /** How many of them have not changed. */
  unchanged = 0;
  /** Where the text of each column lies; `NO_BYTES` or `NO_TEXT` as its end for what is none. */
  #starts = new Int32Array(32);
  #ends = new Int32Array(32);

  /** Reads the values of so many columns. @throws {RangeError} where they are none. */
  read(reader: ByteReader, count: number): void {
    if (count > this.#starts.length) {
      this.#starts = new Int32Array(count);
      this.#ends = new Int32Array(count);
    }
    this.#find(reader, count);
    const { bytes } = reader;
    for (let column = 0; column < count; column++) {
      if (this.#ends[column]! >= 0) column = this.#readRun(bytes, column, count);
    }
  }

  /** Lets go of values, which may be large. */
  release(): void {
    this.values.length = 0;
  }

  #find(reader: ByteReader, count: number): void {
    const { values } = this;
    const starts = this.#starts;
    const ends = this.#ends;
    this.unchanged = 0;
    for (let column = 0; column < count; column++) {
      const kind = reader.readUint8();
      if (kind === TEXT) {
        const length = reader.readInt32();
        starts[column] = reader.position;
        reader.skip(length);
        ends[column] = reader.position;
        continue;
      }
      ends[column] = NO_BYTES;
      if (kind === NULL) values[column] = null;
      else if (kind === UNCHANGED) {
        values[column] = undefined;
        this.unchanged++;
      } else if (kind === BINARY) {
        ends[column] = NO_TEXT;
        values[column] = readCopy(reader);
      } else throw new RangeError(`unknown kind of value ${byteText(kind)}`);
    }
  }

  /** Reads texts from that of a column on. @returns the last column that it has read */
  #readRun(bytes: Uint8Array, first: number, count: number): number {
    const starts = this.#starts;
    const ends = this.#ends;
    const start = starts[first]!;
    let last = first;
    if (ends[first]! - start <= MAX_RUN_BYTES / 2) {
      for (let column = first + 1; column < count; column++) {
        const end = ends[column]!;
        if (end === NO_BYTES) continue;
        // What stands between has to be ASCII, lengths too, which are no larger than a run.
        if (end === NO_TEXT || end - start > MAX_RUN_BYTES || ((end - starts[column]!) & 0x80)) {
          break;
        }
        last = column;
      }
    }
    if (last === first) {
      this.values[first] = decodeText(bytes, start, ends[first]!);
      return first;
    }
    const run = decodeLossily(bytes, start, ends[last]!);
    const strict = run.includes(REPLACEMENT);
    const ascii = run.length === ends[last]! - start;
    // How many bytes more than characters there were so far.
    let extra = start;
    for (let column = first; column <= last; column++) {
      const from = starts[column]!;
      const end = ends[column]!;
      if (end < 0) continue;
      if (strict) this.values[column] = decodeText(bytes, from, end);
      else {
        const at = from - extra;
        if (!ascii) extra += bytesBeyondUtf16(bytes, from, end);
        this.values[column] = run.slice(at, end - extra);
      }
    }
    return last;
  }
}

/** How many more bytes there are than UTF-16 code units in the text. */
function bytesBeyondUtf16(bytes: Uint8Array, start: number, end: number): number {
  let extra = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    if (byte >= 0x80) extra += byte < 0xc0 ? 1 : byte < 0xf0 ? 0 : -1;
  }
  return extra;
}

/** Int32 and as many bytes, copied: a message may be kept for longer than the chunk it came in. */
export function readCopy(reader: ByteReader): Uint8Array {
  // Not `slice()`: where the chunk is a Node `Buffer`, that shares its memory.
  return new Uint8Array(reader.readBytes(reader.readInt32()));
}

/** How messages of errors name a byte. */
export function byteText(byte: number): string {
  return `0x${byte.toString(16).padStart(2, "0")}`;
}
