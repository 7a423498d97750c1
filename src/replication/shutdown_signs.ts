/** How a client can tell that its server shuts down: nothing in the protocol says so. */
import type { Lsn } from "../lsn.ts";
import type { PrimaryKeepalive } from "./messages.ts";

/** Requests in a row that make a burst. */
const BURST = 3;
/** Requests of a burst follow the answer to the one before, which is ours to give: soon. */
const LONGEST_GAP_MS = 2000;

/**
 * A walsender that shuts down asks for a reply again as soon as it has one, until the position that
 * is flushed is the last one that it sent. In normal life it asks when half of `wal_sender_timeout`
 * has gone by without a word from us, or when it has sent WAL that we have not yet written; so a burst of
 * requests at one position, each after we had written it, is the end.
 */
export class ShutdownSigns {
  readonly #longestGapUs: bigint;
  #writtenLsn: Lsn = -1n;
  #walEnd: Lsn = -1n;
  #requests = 0;
  #lastTimeUs = 0n;
  /** A status update was sent since the last request. */
  #told = false;
  #over = false;

  /** @param walSenderTimeoutMs the server's; 0: none. */
  constructor(walSenderTimeoutMs: number) {
    const gapMs = walSenderTimeoutMs === 0
      ? LONGEST_GAP_MS
      : Math.min(LONGEST_GAP_MS, walSenderTimeoutMs / 2);
    this.#longestGapUs = BigInt(Math.round(gapMs * 1000));
  }

  /** A status update goes out. */
  sent(writtenLsn: Lsn): void {
    this.#writtenLsn = writtenLsn;
    this.#told = true;
  }

  /** XLogData came. */
  receivedData(): void {
    this.#requests = 0;
  }

  /** A keepalive came. @returns true once, at the request that makes it a burst. */
  received(message: PrimaryKeepalive): boolean {
    if (!message.replyRequested) return false;
    // The server's own clock: how late we read, or were woken, does not matter.
    const soon = message.sendTimeUs - this.#lastTimeUs < this.#longestGapUs;
    if (message.walEnd !== this.#walEnd || !soon) this.#requests = 0;
    this.#walEnd = message.walEnd;
    this.#lastTimeUs = message.sendTimeUs;
    if (this.#told && this.#writtenLsn >= message.walEnd) this.#requests++;
    this.#told = false;
    if (this.#requests < BURST || this.#over) return false;
    this.#over = true;
    return true;
  }
}
