/** When status updates go out: by the clock, and soon after there is something to say. */

/** At least this often. */
const LONGEST_INTERVAL_MS = 10_000;
/** … and at most this often when there is something to say: progress, or an answer to a keepalive. */
const SHORTEST_INTERVAL_MS = 100;
/** … but for whoever waits for a reply. */
const SHORTEST_ASKING_INTERVAL_MS = 5;

/** What status updates need of a stream. */
export interface StatusSource {
  /** Sends one. */
  write: (replyRequested: boolean) => Promise<void>;
  /** Whether somebody reads, and all that has come by now. */
  heard: () => { waiting: boolean; bytes: number };
  /** See `ReplicationStreamOptions`. */
  onUnanswered: (requests: number) => void;
  /** One could not be sent. */
  onLost: (error: unknown) => void;
}

/** Runs until it is stopped, whatever the stream's consumer does. */
export class StatusUpdates {
  readonly #source: StatusSource;
  readonly #interval: ReturnType<typeof setInterval>;
  #soon: ReturnType<typeof setTimeout> | undefined;
  /** By a clock that nobody sets back. */
  #lastAt = -Infinity;
  /** What had come at the last update by the clock. */
  #heardBytes = 0;
  /** Replies that were asked for in a row, with nothing heard since. */
  #asked = 0;
  /** The next update asks for a reply. */
  #replyWanted = false;
  #stopped = false;

  /** Begins. @param walSenderTimeoutMs the server's; 0: none */
  constructor(walSenderTimeoutMs: number, source: StatusSource) {
    this.#source = source;
    this.#interval = setInterval(() => this.#tick(), statusIntervalMs(walSenderTimeoutMs));
  }

  /** There is something to say. */
  sendSoon(): void {
    this.#sendWithin(SHORTEST_INTERVAL_MS);
  }

  /** Asks the server for a keepalive. */
  requestReply(): void {
    this.#replyWanted = true;
    clearTimeout(this.#soon);
    this.#soon = undefined;
    this.#sendWithin(SHORTEST_ASKING_INTERVAL_MS);
  }

  /** Nothing more is sent. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#interval);
    clearTimeout(this.#soon);
  }

  #sendWithin(intervalMs: number): void {
    if (this.#soon !== undefined || this.#stopped) return;
    // Timers leave out the part of a millisecond: they would be early by it.
    const wait = Math.max(0, Math.ceil(this.#lastAt + intervalMs - performance.now()));
    this.#soon = setTimeout(() => this.#send(), wait);
  }

  /** The update by the clock. */
  #tick(): void {
    const { waiting, bytes } = this.#source.heard();
    // A read that waits takes whatever comes: if nothing came, nothing was there to be taken.
    const silent = waiting && bytes === this.#heardBytes;
    this.#heardBytes = bytes;
    const unanswered = silent ? this.#asked : 0;
    this.#asked = silent ? this.#asked + 1 : 0;
    if (silent) this.#replyWanted = true;
    this.#send();
    if (unanswered > 0) this.#source.onUnanswered(unanswered);
  }

  #send(): void {
    clearTimeout(this.#soon);
    this.#soon = undefined;
    this.#lastAt = performance.now();
    const replyRequested = this.#replyWanted;
    this.#replyWanted = false;
    // A lost connection is the reader's to tell; but it may not read for long.
    this.#source.write(replyRequested).catch((error) => {
      if (!this.#stopped) this.#source.onLost(error);
    });
  }
}

/** The smaller of 10 s and a third of the server's timeout; a timeout of 0 is none. */
export function statusIntervalMs(walSenderTimeoutMs: number): number {
  if (walSenderTimeoutMs === 0) return LONGEST_INTERVAL_MS;
  return Math.min(LONGEST_INTERVAL_MS, Math.max(1, Math.floor(walSenderTimeoutMs / 3)));
}
