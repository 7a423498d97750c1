/** What a stream brings, in order: as it comes, or kept as bytes while nobody can take it. */
import { ReplicationMessageReader } from "../replication/messages.ts";
import type { ReplicationStream } from "../replication/replication_stream.ts";
import { Backlog } from "../wire/backlog.ts";

/**
 * What waits is a copy of what came, which a runtime lets go of late: it collects its garbage when there is
 * about as much of that as of the rest.
 */
const COPIES = 2;

/**
 * Reads ahead of whoever takes messages. What waits is not decoded: as events it would take several times
 * the memory, and a runtime's heap grows with the objects that stay. Keepalives are answered, and a
 * lost connection is noticed, as they come.
 */
export class Inbox {
  readonly #stream: ReplicationStream;
  readonly #backlog = new Backlog();
  readonly #reader = new ReplicationMessageReader();
  #message: ReplicationMessageReader = this.#reader;
  /** The wait for more, which the one who takes shares with the one who reads ahead. Kept once it has failed. */
  #arrival: Promise<boolean> | null = null;
  /** A message that does not parse, behind all that wait. */
  #failure: { error: unknown } | null = null;
  #ahead = false;
  #reading = false;
  #emptied: PromiseWithResolvers<void> | null = null;

  /** Nobody else may read the stream. */
  constructor(stream: ReplicationStream) {
    this.#stream = stream;
  }

  /** What the bytes that wait cost a process. */
  get waitingBytes(): number {
    return this.#backlog.waitingBytes * COPIES;
  }

  /** The message at hand. */
  get message(): ReplicationMessageReader {
    return this.#message;
  }

  /**
   * Goes on to the next message. It is at hand until the next call, and until anything is waited for.
   *
   * @returns false where none is here, or the stream has ended: then `more()`.
   */
  advance(): boolean {
    this.#ahead = false;
    if (this.#backlog.advance()) {
      const { bytes, start, end } = this.#backlog;
      this.#message = this.#reader;
      this.#reader.read(bytes, start, end);
      return true;
    }
    this.#reader.release();
    this.#emptied?.resolve();
    this.#emptied = null;
    if (this.#failure !== null) return false;
    this.#message = this.#stream.message;
    return this.#stream.advance();
  }

  /**
   * Waits until more has arrived; false when the stream has ended. Only when `advance()` has given false.
   *
   * @throws whatever ended the stream
   */
  more(): Promise<boolean> {
    return this.#failure === null ? this.#more() : Promise.reject(this.#failure.error);
  }

  /** Resolves once nothing waits any more. */
  emptied(): Promise<void> {
    if (this.waitingBytes === 0) return Promise.resolve();
    this.#emptied ??= Promise.withResolvers();
    return this.#emptied.promise;
  }

  /**
   * Reads on until what waits costs `mostBytes`, or somebody takes a message again.
   *
   * @returns false when the stream has ended meanwhile
   * @throws whatever ended it; `more()` says the same behind all that wait
   */
  async readAhead(mostBytes: number): Promise<boolean> {
    this.#ahead = true;
    if (this.#reading) return true;
    this.#reading = true;
    try {
      while (this.#ahead && this.#keep(mostBytes)) {
        if (!await this.#more()) return false;
      }
      return true;
    } finally {
      this.#reading = false;
    }
  }

  /** Keeps what has arrived. @returns true where that is all, and there is room for more */
  #keep(mostBytes: number): boolean {
    if (this.#failure !== null) throw this.#failure.error;
    try {
      while (this.waitingBytes < mostBytes) {
        if (!this.#stream.advance()) return true;
        this.#backlog.push(this.#stream.payload);
      }
      return false;
    } catch (error) {
      // What it was is gone: nothing behind it may be taken for what comes next.
      this.#failure = { error };
      throw error;
    }
  }

  #more(): Promise<boolean> {
    this.#arrival ??= this.#stream.more().then((more) => {
      if (more) this.#arrival = null;
      return more;
    });
    return this.#arrival;
  }
}
