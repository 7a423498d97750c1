/**
 * Ending a statement early, from a connection of its own.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
 */
import type { Transport } from "../transport/transport.ts";
import type { BackendKey } from "./authentication.ts";
import { WireError } from "./errors.ts";
import { encodeCancelRequest } from "./frontend.ts";
import type { Channel } from "./channel.ts";

// How long the server gets, from the request to ReadyForQuery.
const CANCEL_TIMEOUT_MS = 2000;

/** Waits until a cancel request can no longer hit a later statement. */
export type Settle = () => Promise<void>;

/** Cancels what runs in one channel. */
export class Canceller {
  readonly #channel: Channel;
  readonly #key: BackendKey | null;
  readonly #open: (signal: AbortSignal) => Promise<Transport>;

  /**
   * Sends nothing yet.
   *
   * @param key as the server sent it; without one, cancelling is closing.
   * @param open opens another connection to the same server, as safe as the channel's.
   */
  constructor(
    channel: Channel,
    key: BackendKey | null,
    open: (signal: AbortSignal) => Promise<Transport>,
  ) {
    this.#channel = channel;
    this.#key = key;
    this.#open = open;
  }

  /**
   * Runs an operation that reads to ReadyForQuery; the signal makes the server end it early.
   *
   * @throws {unknown} `signal.reason` where the operation fails after the signal has fired.
   */
  async run<T>(signal: AbortSignal | undefined, operation: () => Promise<T>): Promise<T> {
    if (signal === undefined) return await operation();
    const settles: Settle[] = [];
    const onAbort = () => settles.push(this.interrupt());
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      return await operation();
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    } finally {
      signal.removeEventListener("abort", onAbort);
      for (const settle of settles) await settle();
    }
  }

  /**
   * Asks the server to cancel what runs, and ends the channel where that takes too long. The caller
   * reads to ReadyForQuery, then calls what is returned. Never rejects.
   */
  interrupt(): Settle {
    const controller = new AbortController();
    const giveUp = (what: string, cause?: unknown) => {
      controller.abort();
      this.#channel.fail(new WireError(what, { kind: "connection-lost", retryable: true, cause }));
    };
    const timer = setTimeout(
      () => giveUp(`The server did not cancel the statement in ${CANCEL_TIMEOUT_MS} ms`),
      CANCEL_TIMEOUT_MS,
    );
    const sent = this.#request(controller.signal)
      .catch((error) => giveUp("The server could not be asked to cancel the statement", error));
    return async () => {
      await sent;
      clearTimeout(timer);
    };
  }

  async #request(signal: AbortSignal): Promise<void> {
    if (this.#key === null) throw new Error("No key was sent: nothing can be cancelled");
    const transport = await this.#open(signal);
    const close = () => transport.close();
    signal.addEventListener("abort", close, { once: true });
    try {
      await transport.write(encodeCancelRequest(this.#key.processId, this.#key.secretKey));
      // The server answers nothing: it closes when the request was passed on, under TLS not always
      // with a good-bye.
      await transport.read().catch(() => {});
    } finally {
      signal.removeEventListener("abort", close);
      transport.close();
    }
  }
}
