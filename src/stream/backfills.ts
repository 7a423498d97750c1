/** What a stream and its backfills share from one run to the next: where progress is kept. */
import { Backfill, type BackfillOptions } from "../backfill/backfill.ts";
import { BackfillError } from "../backfill/errors.ts";
import { PostgresStateStore } from "../backfill/postgres_state_store.ts";
import { prepareBackfill } from "../backfill/prepare.ts";
import { Progress } from "../backfill/progress.ts";
import { MemoryStateStore, type StateStore } from "../backfill/state_store.ts";
import type { TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import type { ResolvedOptions } from "./options.ts";

/** One for each stream. */
export class Backfills {
  readonly #options: ResolvedOptions;
  readonly #connector: Connector;
  /** The source database's own; null where another one is used, or none. */
  readonly #own: PostgresStateStore | null;
  /** Null where nothing has to be known by the next process. */
  readonly #store: StateStore | null;

  /** Connects to nothing yet. */
  constructor(options: ResolvedOptions, connector: Connector) {
    this.#options = options;
    this.#connector = connector;
    const { stateStore, backfill, temporary } = options;
    const lasting = backfill === "initial" && !temporary;
    this.#own = stateStore === null && lasting ? new PostgresStateStore({ connector }) : null;
    this.#store = stateStore ?? this.#own;
  }

  /**
   * Makes and checks what an initial backfill needs, before slot and publication are made: what was handed
   * out up to now may be void then.
   *
   * @throws {BackfillError} `select-privilege`, `state-store`.
   */
  async prepare(tables: readonly TableName[], signal: AbortSignal | undefined): Promise<void> {
    const reads = this.#options.backfill === "initial";
    if (!reads && this.#store === null) return;
    try {
      await prepareBackfill({
        connector: this.#connector,
        slotName: this.#options.slotName,
        publicationName: this.#options.publicationName,
        tables,
        reads,
        progress: this.#store === null ? null : this.#progress(),
        stateTable: this.#own !== null,
      }, signal);
    } finally {
      await this.close();
    }
  }

  /** For one run of the stream. */
  make(
    parts: Pick<BackfillOptions, "handOver" | "intake" | "queue" | "ask">,
  ): Backfill {
    const { publicationName, backfill, backfillChunk, reconnect } = this.#options;
    return new Backfill({
      ...parts,
      connector: this.#connector,
      publicationName,
      initial: backfill === "initial",
      progress: this.#progress(),
      lasting: this.#store !== null,
      inSource: this.#own !== null,
      // Two of them: one that is handed out, one that is read ahead.
      limits: {
        maxRows: Math.max(1, Math.floor(backfillChunk.maxRows / 2)),
        maxBytes: backfillChunk.maxBytes / 2,
      },
      retry: reconnect,
    });
  }

  /** The slot is dropped: what was handed out of it means nothing to the next one. */
  async forget(): Promise<void> {
    if (this.#store === null) return;
    try {
      await this.#progress().forget();
    } catch (error) {
      // Without a table of states there is nothing to forget.
      if (!(error instanceof BackfillError && error.kind === "state-missing")) throw error;
    } finally {
      await this.close();
    }
  }

  /** Closes connections of its own; the next call makes new ones. A store that was passed in stays open. */
  async close(): Promise<void> {
    await this.#own?.close();
  }

  #progress(): Progress {
    return new Progress(this.#store ?? new MemoryStateStore(), this.#options.slotName);
  }
}
