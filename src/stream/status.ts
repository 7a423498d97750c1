/** What a stream tells of itself. LSNs are strings: a report survives `JSON.stringify`. */
import type { BackfillStatus } from "../backfill/job.ts";
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import type { Frontier } from "../delivery/frontier.ts";
import type { Logger } from "../logger.ts";
import { formatLsn } from "../lsn.ts";
import { messageOf } from "./errors.ts";
import type { StreamRun } from "./run.ts";
import type { RunBackfill } from "./run_backfill.ts";

/** What a stream is doing. `failed`: `start()` was rejected, and `lastError` says why. */
export type StreamState =
  | "idle"
  | "connecting"
  | "streaming"
  | "reconnecting"
  | "stopping"
  | "stopped"
  | "failed";

/** How a stream is doing. */
export interface StreamStatus {
  /** `failed`: `start()` was rejected, and `lastError` says why. */
  state: StreamState;
  /** The last position that was received. */
  receivedLsn: string;
  /** Everything before this is handled. */
  handledLsn: string;
  /** What the server was told of it: after a crash it sends again from here. */
  confirmedLsn: string;
  /** WAL between what was received and what is handled, in bytes. */
  lagBytes: number;
  /** How long ago the oldest transaction was committed that is received but not handled; 0 where there is none. */
  lagSeconds: number;
  /** What waits for the handler or is in its hands, in bytes of memory: what `maxQueueBytes` bounds. */
  queueBytes: number;
  /** Transactions with events or messages that were handled; a message that belongs to none counts as one. */
  transactions: number;
  /** Messages that were handled by `onMessage`. */
  messages: number;
  /** Events that were handled. */
  events: Record<"insert" | "update" | "delete" | "truncate", number>;
  /** How often a handler was called again for the same events. */
  retries: number;
  /** Events and messages that were given up. */
  skipped: number;
  /** How often the connection was remade. */
  reconnects: number;
  /** What made the stream fail last, or lose its connection. */
  lastError: string | null;
  /** The table whose rows are read now; null where none is, or no stream runs. */
  backfill: BackfillStatus | null;
}

/** What `catchUp()` did. */
export interface CatchUpReport {
  /** Events that were handled. */
  events: number;
  /** Messages that were handled. */
  messages: number;
  /** Transactions with events or messages that were handled; a message that belongs to none counts as one. */
  transactions: number;
  /** The position up to which everything was handled. */
  lsn: string;
  /** True where another session held the slot, so that nothing was done. */
  busy: boolean;
}

/** Calls each listener, and resolves when they are done. What one throws, or is rejected with, is logged. */
export function tell<Arguments extends unknown[]>(
  listeners: readonly ((...args: Arguments) => unknown)[],
  name: string,
  logger: Logger,
  ...args: Arguments
): Promise<unknown> {
  return Promise.all(listeners.map((listener) => {
    // An async function: what is thrown before the first await is a rejection too.
    const called = async () => await listener(...args);
    return called().catch((error) => logger.error(`A listener of ${name} failed`, error));
  }));
}

/** What a run tells of itself. */
interface Live {
  run: StreamRun;
  frontier: Frontier;
  backfill: RunBackfill;
}

/** Keeps what `status()` tells, from one run to the next. */
export class StatusBoard {
  readonly #logger: Logger;
  readonly #listeners: ((state: StreamState, previous: StreamState) => unknown)[] = [];
  readonly #status: StreamStatus = {
    state: "idle",
    receivedLsn: "0/0",
    handledLsn: "0/0",
    confirmedLsn: "0/0",
    lagBytes: 0,
    lagSeconds: 0,
    queueBytes: 0,
    transactions: 0,
    messages: 0,
    events: { insert: 0, update: 0, delete: 0, truncate: 0 },
    retries: 0,
    skipped: 0,
    reconnects: 0,
    lastError: null,
    backfill: null,
  };
  #live: Live | null = null;

  /** @param logger is told where a listener throws */
  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Handled in all runs. */
  get totals(): { events: number; messages: number; transactions: number } {
    const { events, messages, transactions } = this.read();
    const all = Object.values(events).reduce((sum, count) => sum + count, 0);
    return { events: all, messages, transactions };
  }

  /** Called at each change of state. */
  onStateChange(listener: (state: StreamState, previous: StreamState) => unknown): void {
    this.#listeners.push(listener);
  }

  /** A run begins. */
  begin(run: StreamRun, frontier: Frontier, backfill: RunBackfill): void {
    this.#live = { run, frontier, backfill };
    this.#status.lastError = null;
    this.become("connecting");
  }

  /** The run is over. */
  end(): void {
    Object.assign(this.#status, this.read(), { queueBytes: 0, lagSeconds: 0, backfill: null });
    this.#live = null;
  }

  /** The state changes. */
  become(state: StreamState): void {
    const previous = this.#status.state;
    if (state === previous) return;
    this.#status.state = state;
    void tell(this.#listeners, "onStateChange", this.#logger, state, previous);
  }

  /** An event or a message is done. */
  settled(event: ChangeEvent | LogicalMessage, skipped: boolean): void {
    if (skipped) this.#status.skipped++;
    else if (event.operation === "message") this.#status.messages++;
    else this.#status.events[event.operation]++;
  }

  /** A handler is called again. */
  retried(): void {
    this.#status.retries++;
  }

  /** A connection took a lost one's place. */
  reconnected(): void {
    this.#status.reconnects++;
  }

  /** What went wrong last. */
  failedBy(error: unknown): void {
    this.#status.lastError = messageOf(error);
  }

  /** A copy. */
  read(): StreamStatus {
    const status = { ...this.#status, events: { ...this.#status.events } };
    if (this.#live === null) return status;
    const { run, frontier, backfill } = this.#live;
    const { receivedLsn, handledLsn, confirmedLsn, queueBytes } = run.progress;
    const oldest = frontier.oldestCommitTimeMs;
    return {
      ...status,
      receivedLsn: formatLsn(receivedLsn),
      handledLsn: formatLsn(handledLsn),
      confirmedLsn: formatLsn(confirmedLsn),
      lagBytes: receivedLsn > handledLsn ? Number(receivedLsn - handledLsn) : 0,
      // The clocks are two: the server's and this one.
      lagSeconds: oldest === null ? 0 : Math.max(0, Date.now() - oldest) / 1000,
      queueBytes,
      transactions: status.transactions + frontier.transactions,
      backfill: backfill.status,
    };
  }
}
