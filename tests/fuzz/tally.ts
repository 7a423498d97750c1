/** What a batch of cases came to, and the watch on each of them. */
import { PgStreamError } from "../../src/errors.ts";

/** A case that takes longer is a finding, in milliseconds. */
export const HANG_MS = 1000;

/** Something that must not be: thrown by targets, with what it is as its message. */
export class Finding extends Error {
  override name = "Finding";
}

/** A case of a batch that was slow. */
export interface SlowCase {
  index: number;
  ms: number;
}

/** Counts, and looks at the clock. */
export class Tally {
  /** Since the beginning. */
  cases = 0;
  /** Bytes that the library was given, each time that it was given them. */
  bytes = 0;
  /** Messages, frames, rows that were taken as right. */
  messages = 0;
  /** What was refused, by class and kind. */
  readonly refused: Map<string, number> = new Map();
  /** The case that took longest, in milliseconds; of one in `slow` what it took when it was measured again. */
  slowestMs = 0;
  /** Of the batch at hand, from 0. */
  index = -1;
  /** Of the batch at hand: what has to be measured again. */
  slow: SlowCase[] = [];
  /** Called before each case with its index: for a batch that is gone through again. */
  onCase: ((index: number) => void) | null = null;
  #beganAt = 0;

  /** Begins a batch. */
  beginBatch(): void {
    this.index = -1;
    this.slow = [];
    this.#beganAt = 0;
  }

  /** Ends the case before, and begins one. @param bytes that the library will be given */
  begin(bytes: number): void {
    this.#end();
    this.index++;
    this.cases++;
    this.bytes += bytes;
    this.onCase?.(this.index);
  }

  /** Ends the last case. */
  endBatch(): void {
    this.#end();
  }

  #end(): void {
    const now = performance.now();
    if (this.#beganAt !== 0) {
      const ms = now - this.#beganAt;
      if (ms > HANG_MS) this.slow.push({ index: this.index, ms });
      else if (ms > this.slowestMs) this.slowestMs = ms;
    }
    this.#beganAt = now;
  }

  /**
   * Judges an error of the library's, and counts it.
   *
   * @param kinds what it may be; undefined: whatever the library has.
   * @throws {Finding} where it is none of its own, or not of these.
   */
  refuse(error: unknown, kinds?: ReadonlySet<string>): void {
    if (!(error instanceof PgStreamError)) throw new Finding(`Not a typed error: ${shown(error)}`);
    if (kinds !== undefined && !kinds.has(error.kind)) {
      throw new Finding(
        `An error of kind "${error.kind}", which has no place here: ${shown(error)}`,
      );
    }
    if (error.summary === "") throw new Finding(`An error that says nothing: ${shown(error)}`);
    this.count(`${error.name} ${error.kind}`);
  }

  /** Counts what was refused in another way. */
  count(what: string): void {
    this.refused.set(what, (this.refused.get(what) ?? 0) + 1);
  }
}

const SHOWN_LINES = 8;

/** An error with the top of its stack. */
export function shown(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const text = `${error.stack ?? ""}`;
  const lines = text.includes(error.message) ? text : `${error}\n${text}`;
  return lines.split("\n").slice(0, SHOWN_LINES).join("\n");
}

/** Bytes for people, as far as a line holds. */
export function hex(bytes: Uint8Array): string {
  const digits = Array.from(
    bytes.subarray(0, 200),
    (byte) => byte.toString(16).padStart(2, "0"),
  ).join("");
  return bytes.length > 200 ? `${digits}… (${bytes.length} bytes)` : digits;
}
