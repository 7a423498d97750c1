/** Bytes that wait, in order. */
import type { Span } from "./frames.ts";

/** Of which a backlog allocates. They are used again and again: garbage would pile up before it is let go. */
const BLOCK_BYTES = 256 * 1024;
/** Int32 before each entry. */
const LENGTH_BYTES = 4;
/** Up to here a loop is as quick as a view and `set`, and makes nothing. */
const SHORT_BYTES = 512;
const NOTHING = new Uint8Array(0);

interface Block {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** What of it is filled. */
  written: number;
}

/**
 * A queue of byte runs, which it copies: what waits costs a process its length, where as many objects
 * would cost several times as much. It is the `Span` of the entry at hand.
 */
export class Backlog implements Span {
  /** What the entry at hand lies in. */
  bytes: Uint8Array = NOTHING;
  /** Where it begins. */
  start = 0;
  /** Where it ends. */
  end = 0;
  /** The first is being read, the last one written. */
  readonly #blocks: Block[] = [];
  readonly #spare: Block[] = [];
  /** What of the first block was read. */
  #read = 0;
  #waitingBytes = 0;

  /** Bytes that wait; the entry at hand does not. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Puts a copy behind all others. */
  push(span: Span): void {
    const length = span.end - span.start;
    const size = LENGTH_BYTES + length;
    let block = this.#blocks.at(-1);
    if (block === undefined || block.bytes.length - block.written < size) {
      block = this.#nextBlock(size);
      this.#blocks.push(block);
    }
    block.view.setInt32(block.written, length);
    copy(span, block.bytes, block.written + LENGTH_BYTES);
    block.written += size;
    this.#waitingBytes += size;
  }

  /**
   * Goes on to the next entry, which is at hand until the next call.
   *
   * @returns false where none waits: none is at hand then.
   */
  advance(): boolean {
    for (let block = this.#blocks[0]; block !== undefined; block = this.#blocks[0]) {
      if (this.#read < block.written) {
        this.bytes = block.bytes;
        this.start = this.#read + LENGTH_BYTES;
        this.end = this.start + block.view.getInt32(this.#read);
        this.#read = this.end;
        this.#waitingBytes -= LENGTH_BYTES + this.end - this.start;
        return true;
      }
      this.#blocks.shift();
      this.#read = 0;
      // A larger one was made for one entry.
      if (block.bytes.length === BLOCK_BYTES) this.#spare.push(block);
    }
    this.bytes = NOTHING;
    this.start = this.end = 0;
    return false;
  }

  #nextBlock(size: number): Block {
    const spare = size <= BLOCK_BYTES ? this.#spare.pop() : undefined;
    if (spare !== undefined) {
      spare.written = 0;
      return spare;
    }
    const bytes = new Uint8Array(Math.max(size, BLOCK_BYTES));
    return { bytes, view: new DataView(bytes.buffer), written: 0 };
  }
}

function copy({ bytes, start, end }: Span, into: Uint8Array, at: number): void {
  if (end - start > SHORT_BYTES) into.set(bytes.subarray(start, end), at);
  else for (let from = start; from < end; from++) into[at++] = bytes[from]!;
}
