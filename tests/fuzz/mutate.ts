/**
 * Bytes made wrong: in single bits, in whole fields, in their order and their number. What is done is drawn
 * by `Dice`, so that a seed does it again.
 */
import { type Dice, NOISE } from "./dice.ts";

/** What it makes at most, in bytes. */
export const MOST_BYTES: number = 1 << 21;
/** What lies before and behind the bytes: what is left of others, so that a read beyond them finds something. */
export const MARGIN = 64;
const HEADER_BYTES = 5;
/** A repetition is this long as a rule; seldom it is as long as can be. */
const USUAL_REPEAT = 4096;

/** What lengths, counts and OIDs are made: the ends of what they can hold, and what is a special case. */
const INT32 = [0, 1, 2, 3, 4, 5, -1, -2, 0x7fff_ffff, 0x7fff_fffe, -0x8000_0000, 0xffff, 0x1_0000];
const INT16 = [0, 1, 2, 3, -1, 0x7fff, -0x8000];
/** Bytes that mean something somewhere: ends of strings, kinds of tuples and values, digits, delimiters. */
const BYTES = [...Array.from('\0\n\r\t\\,="{}[]()-+.:09azAZINTKOtnubRdwkBCUDSEcr', codeOf), 0x7f]
  .concat([0x80, 0xc0, 0xc3, 0xe2, 0xed, 0xf0, 0xff]);

function codeOf(character: string): number {
  return character.charCodeAt(0);
}

/**
 * Holds bytes that are being made wrong, from `start` to `end` of `bytes`. The array is the same all the time:
 * who keeps a view of it sees something else soon.
 */
export class Mutator {
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(MOST_BYTES + 2 * MARGIN);
  readonly start: number = MARGIN;
  end: number = MARGIN;
  readonly #dice: Dice;

  /** Begins with no bytes. */
  constructor(dice: Dice) {
    this.#dice = dice;
    this.bytes.set(NOISE.subarray(0, MARGIN));
  }

  /** How many bytes there are. */
  get length(): number {
    return this.end - this.start;
  }

  /** What there is, as a view. */
  get view(): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(this.start, this.end);
  }

  /** Takes a copy of these in place of what there was. */
  take(bytes: Uint8Array): this {
    this.bytes.set(bytes, this.start);
    this.end = this.start + bytes.length;
    return this;
  }

  /** Adds these at the end; what has no room is left away. */
  add(bytes: Uint8Array): this {
    const room = this.start + MOST_BYTES - this.end;
    const part = bytes.length > room ? bytes.subarray(0, room) : bytes;
    this.bytes.set(part, this.end);
    this.end += part.length;
    return this;
  }

  /**
   * Takes a copy of a frame, and makes something of it wrong: any byte, or only bytes of its body, whose length is
   * then told right, so that it is read.
   *
   * @param other a frame that it may take a piece of.
   */
  alterFrame(frame: Uint8Array, other: Uint8Array): this {
    if (frame.length < HEADER_BYTES || this.#dice.chance(0.3)) {
      return this.take(frame).mutate(other);
    }
    this.take(frame.subarray(HEADER_BYTES)).mutate(other.subarray(HEADER_BYTES));
    this.#insert(this.start, frame.subarray(0, HEADER_BYTES));
    this.#write(this.start + 1, 4, this.length - 1);
    return this;
  }

  /**
   * Makes them wrong once or a few times, somewhere.
   *
   * @param other what it may take a piece of.
   */
  mutate(other: Uint8Array): this {
    const dice = this.#dice;
    for (let times = dice.chance(0.7) ? 1 : dice.between(2, 6); times > 0; times--) {
      this.#once(other);
    }
    return this;
  }

  #once(other: Uint8Array): void {
    const dice = this.#dice;
    const { bytes, length } = this;
    if (length === 0) return this.#insertNoise(dice.size(64));
    const at = this.start + dice.below(length);
    switch (dice.below(12)) {
      case 0:
      case 1:
        bytes[at]! ^= 1 << dice.below(8);
        return;
      case 2:
        bytes[at] = dice.pick(BYTES);
        return;
      case 3:
        bytes[at]! += dice.chance(0.5) ? 1 : -1;
        return;
      case 4:
      case 5:
        return this.#write(at, 4, this.#int32(at));
      case 6:
        return this.#write(at, 2, dice.pick(INT16));
      case 7:
        return this.#insertNoise(dice.size(64));
      case 8:
        return this.#delete(at, dice.size(this.end - at));
      case 9:
        return this.#repeat(at, dice.size(Math.min(this.end - at, 512)));
      case 10:
        return this.#splice(other);
      case 11:
        if (dice.chance(0.8)) this.end = at;
        else this.#overwriteNoise(at, dice.size(this.end - at));
    }
  }

  /** A length that lies, now and then by one only, or about exactly what is left. */
  #int32(at: number): number {
    const dice = this.#dice;
    const { bytes } = this;
    switch (dice.below(4)) {
      case 0:
        return this.end - at - 4 + dice.between(-1, 1);
      case 1: {
        const there = (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) |
          bytes[at + 3]!;
        return there + dice.between(-4, 4);
      }
      default:
        return dice.pick(INT32);
    }
  }

  #write(at: number, size: number, value: number): void {
    for (let i = size - 1; i >= 0; i--) {
      if (at + i < this.end) this.bytes[at + i] = value & 255;
      value >>= 8;
    }
  }

  #insertNoise(length: number): void {
    const from = this.#dice.below(NOISE.length - length);
    this.#insert(
      this.start + this.#dice.below(this.length + 1),
      NOISE.subarray(from, from + length),
    );
  }

  #overwriteNoise(at: number, length: number): void {
    const size = Math.min(length, NOISE.length);
    const from = this.#dice.below(NOISE.length - size + 1);
    this.bytes.set(NOISE.subarray(from, from + size), at);
  }

  #insert(at: number, piece: Uint8Array): void {
    if (this.length + piece.length > MOST_BYTES) return;
    this.bytes.copyWithin(at + piece.length, at, this.end);
    this.bytes.set(piece, at);
    this.end += piece.length;
  }

  #delete(at: number, length: number): void {
    this.bytes.copyWithin(at, at + length, this.end);
    this.end -= length;
  }

  /** The same piece again and again, where it lies. */
  #repeat(at: number, length: number): void {
    const dice = this.#dice;
    const most = dice.chance(0.1) ? MOST_BYTES : USUAL_REPEAT;
    const times = Math.min(
      dice.size(most / length),
      Math.floor((MOST_BYTES - this.length) / length),
    );
    const added = times * length;
    if (times <= 0) return;
    this.bytes.copyWithin(at + added, at, this.end);
    this.end += added;
    // What was written is copied in turn: a few large copies in place of many small ones.
    this.bytes.copyWithin(at, at + added, at + added + length);
    for (let done = length; done < added; done *= 2) {
      this.bytes.copyWithin(at + done, at, at + Math.min(done, added - done));
    }
  }

  /** Our beginning, the other one's end; or a piece of the other one, put somewhere. */
  #splice(other: Uint8Array): void {
    const dice = this.#dice;
    if (other.length === 0) return;
    const from = dice.below(other.length);
    if (dice.chance(0.5)) {
      this.end = this.start + dice.below(this.length + 1);
      this.add(other.subarray(from));
    } else {
      const piece = other.subarray(from, from + dice.size(other.length - from));
      this.#insert(this.start + dice.below(this.length + 1), piece);
    }
  }
}
