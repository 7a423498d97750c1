/** What a stream does, in numbers: counted as it does it, written as text when somebody asks. */

import type { StreamObserver, Work } from "../observer.ts";
import type { ConnectorOptions } from "../wire/connector.ts";
import { Histogram } from "./histogram.ts";
import { type MetricsFormat, MetricsText } from "./open_metrics.ts";
import { readSlots, type SlotStatus } from "./slots.ts";

/** States that a stream may have, as `status()` names them. */
const STATES = [
  "idle",
  "connecting",
  "streaming",
  "reconnecting",
  "stopping",
  "stopped",
  "failed",
];
/** The server is asked for its slot no more often. */
const BETWEEN_READINGS_MS = 5000;
const OPERATIONS = ["insert", "update", "delete", "truncate"] as const;

/** What is asked of a stream: a `PgStream` is one. */
export interface MeasuredStream {
  /** As `PgStream.status()`. */
  status(): {
    readonly state: string;
    readonly lagBytes: number;
    readonly lagSeconds: number;
    readonly queueBytes: number;
    readonly transactions: number;
    readonly messages: number;
    readonly retries: number;
    readonly skipped: number;
    readonly reconnects: number;
    readonly backfill: {
      readonly table: string;
      readonly rows: number;
      readonly estimatedRows: number | null;
    } | null;
  };
}

/** Where the server is asked how far the slot is. */
export interface MetricsOptions {
  /** How the source is found, and which slot. Left out: nobody is asked, and metrics of the slot are left out. */
  slot?: ConnectorOptions & { slotName: string };
  /** Milliseconds of a clock that is never set. Default: the runtime's. */
  now?: () => number;
}

/** What one kind of work came to. */
class WorkMetrics {
  readonly duration = new Histogram();
  size = 0;
  failures = 0;
}

/**
 * Counts what a stream does, and writes it as OpenMetrics text. Of labels there are tables, operations and states only,
 * so that there are no more lines than tables.
 *
 * @example
 * ```ts
 * import { PgStream } from "@pgstream/pgstream";
 * import { StreamMetrics } from "@pgstream/pgstream/inspect";
 *
 * const dsn = "postgresql://localhost/db";
 * const metrics = new StreamMetrics({ slot: { dsn, slotName: "pgstream" } });
 * const stream = new PgStream({ dsn, observer: metrics });
 * console.log(await metrics.text(stream));
 * ```
 */
export class StreamMetrics implements StreamObserver {
  readonly #options: MetricsOptions;
  readonly #now: () => number;
  readonly #work: Readonly<Record<Work["kind"], WorkMetrics>> = {
    batch: new WorkMetrics(),
    embed: new WorkMetrics(),
    sink: new WorkMetrics(),
  };
  /** By table, then by operation. */
  readonly #changes = new Map<string, Record<typeof OPERATIONS[number], number>>();
  #slot: { atMs: number; reading: Promise<SlotStatus | null> } | null = null;

  /** Nothing is counted yet. */
  constructor(options: MetricsOptions = {}) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** Measures it. */
  async observe<T>({ kind, size }: Work, run: () => Promise<T>): Promise<T> {
    const metrics = this.#work[kind];
    const began = this.#now();
    try {
      const result = await run();
      metrics.size += size;
      return result;
    } catch (error) {
      metrics.failures++;
      throw error;
    } finally {
      metrics.duration.add((this.#now() - began) / 1000);
    }
  }

  /** Counts it. */
  settled(
    { schema, table, operation }: {
      readonly schema: string;
      readonly table: string;
      readonly operation: "insert" | "update" | "delete" | "truncate";
    },
    skipped: boolean,
  ): void {
    if (skipped) return;
    const name = `${schema}.${table}`;
    let counts = this.#changes.get(name);
    if (counts === undefined) {
      counts = { insert: 0, update: 0, delete: 0, truncate: 0 };
      this.#changes.set(name, counts);
    }
    counts[operation]++;
  }

  /**
   * All of it, as text. The server is asked for the slot where the last answer is five seconds old; where it does not
   * answer, metrics of the slot are left out.
   *
   * @param format Default: `"openmetrics"`
   */
  async text(stream: MeasuredStream, format: MetricsFormat = "openmetrics"): Promise<string> {
    const slot = await this.#readSlot();
    const status = stream.status();
    const text = new MetricsText(format);
    const gauge = (name: string, help: string, value: number | null) =>
      text.gauge(`pgstream_${name}`, help, [[{}, value]]);
    const counter = (name: string, help: string, value: number) =>
      text.counter(`pgstream_${name}`, help, [[{}, value]]);
    text.gauge(
      "pgstream_state",
      "1 for what the stream is doing, 0 for what it is not.",
      STATES.map((state) => [{ state }, state === status.state ? 1 : 0]),
    );
    gauge("lag_bytes", "WAL that was received and is not handled.", status.lagBytes);
    gauge("lag_seconds", "Age of the oldest transaction that is not handled.", status.lagSeconds);
    gauge("queue_bytes", "Memory of what waits for the handlers.", status.queueBytes);
    gauge("slot_lag_bytes", "WAL that is not confirmed, by the server.", slot?.lagBytes ?? null);
    gauge(
      "slot_retained_wal_bytes",
      "WAL that the server keeps for the slot.",
      slot?.retainedWalBytes ?? null,
    );
    gauge(
      "slot_safe_wal_bytes",
      "WAL that may be written until the slot is lost.",
      slot?.safeWalBytes ?? null,
    );
    gauge(
      "slot_active",
      "1 where somebody reads the slot.",
      slot === null ? null : slot.activePid === null ? 0 : 1,
    );
    text.counter(
      "pgstream_changes",
      "Changes that were handled.",
      [...this.#changes].flatMap(([table, counts]) =>
        OPERATIONS.map((operation) => [{ table, operation }, counts[operation]] as const)
      ),
    );
    counter("transactions", "Transactions that were handled.", status.transactions);
    counter("messages", "Logical messages that were handled.", status.messages);
    counter("retries", "Calls of handlers that were made again.", status.retries);
    counter("skipped_changes", "Changes that were given up.", status.skipped);
    counter("reconnects", "Connections that took a lost one's place.", status.reconnects);
    const { batch, embed, sink } = this.#work;
    const work = (name: string, of: string, { duration, failures }: WorkMetrics) => {
      text.histogram(`pgstream_${name}_duration_seconds`, `How long ${of} took.`, duration);
      counter(`${name}_failures`, `How often ${of} failed.`, failures);
    };
    work("batch", "calls of handlers", batch);
    work("embed", "calls of embedders", embed);
    counter("embedded_texts", "Texts that were embedded.", embed.size);
    work("sink", "writes into stores", sink);
    counter("written_rows", "Rows that were written into stores.", sink.size);
    const { backfill } = status;
    if (backfill !== null) {
      const labels = { table: backfill.table };
      text.gauge("pgstream_backfill_rows", "Rows of the backfill that were handed out.", [
        [labels, backfill.rows],
      ]);
      text.gauge("pgstream_backfill_estimated_rows", "Rows that it is thought to have.", [
        [labels, backfill.estimatedRows],
      ]);
    }
    return text.toString();
  }

  async #readSlot(): Promise<SlotStatus | null> {
    const { slot } = this.#options;
    if (slot === undefined) return null;
    const now = this.#now();
    if (this.#slot === null || now - this.#slot.atMs >= BETWEEN_READINGS_MS) {
      // Who asks meanwhile waits for the same answer.
      const reading = readSlots(slot).then(([found]) => found ?? null, () => null);
      this.#slot = { atMs: now, reading };
    }
    return await this.#slot.reading;
  }
}

/**
 * Whether a stream does its work: it streams, and is not further behind than this.
 *
 * @returns why it is not ready; null: it is
 */
export function readiness(
  { state, lagSeconds }: { readonly state: string; readonly lagSeconds: number },
  { maxLagSeconds }: { maxLagSeconds: number },
): string | null {
  if (state !== "streaming") return `the stream is ${state}`;
  if (lagSeconds <= maxLagSeconds) return null;
  return `the stream is ${Math.round(lagSeconds)} s behind, more than ${maxLagSeconds} s`;
}
