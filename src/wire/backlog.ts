/** Bytes that wait, in order. */
import type { Span } from "./frames.ts";

/** Of which a backlog allocates. They are used again and again: garbage would pile up before it is let go. */
const BLOCK_BYTES = 256 * 1024;
/** Before each entry, as before the body of a message: Byte1, and Int32 that counts itself. */
const HEADER_BYTES = 5;
const LENGTH_BYTES = 4;
const NOTHING = new Uint8Array(0);

/** A part of a backlog's memory. */
export interface Block {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** What of it is filled. */
  written: number;
}

/**
 * A queue of messages' bodies, which it copies: what waits costs a process its length, where as many
 * objects would cost several times as much. It is the `Span` of the entry at hand.
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
  readonly #spare: Block[];
  /** What of the first block was read. */
  #read = 0;
  #waitingBytes = 0;
  /** What came last and is not copied yet: bodies one behind the other, and the headers between them. */
  #run: Uint8Array = NOTHING;
  #runStart = 0;
  /** Where the first of them ends. */
  #firstEnd = 0;
  #runEnd = 0;

  /** @param spare what backlogs have in common that come one after the other: none uses what is in it */
  constructor(spare: Block[] = []) {
    this.#spare = spare;
  }

  /** Bytes that wait; the entry at hand does not. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Puts a message's body, or a part of it, behind all others. @param span is copied later: see `Span.bytes` */
  push({ bytes, start, end }: Span): void {
    this.#waitingBytes += HEADER_BYTES + end - start;
    // Messages that lie behind each other are copied at once, headers and all.
    if (bytes !== this.#run || start !== this.#runEnd + HEADER_BYTES) {
      this.#copyRun();
      this.#run = bytes;
      this.#runStart = start;
      this.#firstEnd = end;
    }
    this.#runEnd = end;
  }

  /**
   * Goes on to the next entry, which is at hand until the next call.
   *
   * @returns false where none waits: none is at hand then.
   */
  advance(): boolean {
    this.#copyRun();
    for (let block = this.#blocks[0]; block !== undefined; block = this.#blocks[0]) {
      if (this.#read < block.written) {
        this.bytes = block.bytes;
        this.start = this.#read + HEADER_BYTES;
        const length = block.view.getInt32(this.start - LENGTH_BYTES) - LENGTH_BYTES;
        this.end = this.#read = this.start + length;
        this.#waitingBytes -= HEADER_BYTES + length;
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

  #copyRun(): void {
    if (this.#run === NOTHING) return;
    const run = this.#run.subarray(this.#runStart, this.#runEnd);
    const block = this.#blockFor(HEADER_BYTES + run.length);
    const at = block.written + HEADER_BYTES;
    block.view.setInt32(at - LENGTH_BYTES, LENGTH_BYTES + this.#firstEnd - this.#runStart);
    block.bytes.set(run, at);
    block.written = at + run.length;
    this.#run = NOTHING;
  }

  #blockFor(size: number): Block {
    const last = this.#blocks.at(-1);
    if (last !== undefined && last.bytes.length - last.written >= size) return last;
    const block = size <= BLOCK_BYTES ? this.#spare.pop() ?? newBlock(BLOCK_BYTES) : newBlock(size);
    block.written = 0;
    this.#blocks.push(block);
    return block;
  }
}

function newBlock(size: number): Block {
  const bytes = new Uint8Array(size);
  return { bytes, view: new DataView(bytes.buffer), written: 0 };
}
