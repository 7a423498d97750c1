/** What a stream and its backfills share from one run to the next: where progress is kept. */
import type { BackfillOptions } from "../backfill/backfill.ts";
import { BackfillError } from "../backfill/errors.ts";
import type { PostgresStateStore } from "../backfill/postgres_state_store.ts";
import type { Progress } from "../backfill/progress.ts";
import { MemoryStateStore } from "../backfill/state_store.ts";
import type { Frontier } from "../delivery/frontier.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import type { LateHandOver } from "./late_hand_over.ts";
import type { ResolvedOptions } from "./options.ts";
import { RunBackfill } from "./run_backfill.ts";

/** One for each stream. */
export class Backfills {
  readonly #options: ResolvedOptions;
  readonly #connector: Connector;
  /** True where the source database keeps it. */
  readonly #inSource: boolean;
  /** True where it has to be known by the next process. */
  readonly #lasting: boolean;
  /** Tables that are filled whatever the options say. */
  readonly #filled: ReadonlySet<string>;
  /** What keeps it in the source database, once it is used. */
  #own: PostgresStateStore | null = null;

  /** Connects to nothing yet. @param filled tables, by name, that are filled whatever `options.backfill` says */
  constructor(options: ResolvedOptions, connector: Connector, filled: ReadonlySet<string>) {
    this.#options = options;
    this.#connector = connector;
    this.#filled = filled;
    const { stateStore, temporary } = options;
    this.#inSource = stateStore === null && this.#fillsSome && !temporary;
    this.#lasting = stateStore !== null || this.#inSource;
  }

  /**
   * Makes and checks what an initial backfill needs, before slot and publication are made: what was handed
   * out up to now may be void then.
   *
   * @throws {BackfillError} `select-privilege`, `state-store`.
   */
  async prepare(tables: readonly TableName[], signal: AbortSignal | undefined): Promise<void> {
    if (!this.#fillsSome && !this.#lasting) return;
    const { prepareBackfill } = await import("./backfill_parts.ts");
    try {
      await prepareBackfill({
        connector: this.#connector,
        slotName: this.#options.slotName,
        publicationName: this.#options.publicationName,
        tables,
        reads: (table) => this.#fills(table),
        progress: this.#lasting ? await this.#progress() : null,
        stateTable: this.#inSource,
      }, signal);
    } finally {
      await this.close();
    }
  }

  /** For one run of the stream. */
  make(
    { frontier, handOver, ...parts }:
      & Pick<BackfillOptions, "intake" | "queue" | "ask" | "loadTypes" | "onFilled">
      & { frontier: Frontier; handOver: LateHandOver },
  ): RunBackfill {
    const { publicationName, backfillChunk, reconnect } = this.#options;
    return new RunBackfill({
      needed: this.#fillsSome || this.#lasting,
      make: async () => {
        const { Backfill, HandOver } = await import("./backfill_parts.ts");
        const progress = await this.#progress();
        return new Backfill({
          ...parts,
          handOver: handOver.become(new HandOver(frontier)),
          connector: this.#connector,
          publicationName,
          initial: (table) => this.#fills(table),
          progress,
          lasting: this.#lasting,
          inSource: this.#inSource,
          // Two of them: one that is handed out, one that is read ahead.
          limits: {
            maxRows: Math.max(1, Math.floor(backfillChunk.maxRows / 2)),
            maxBytes: backfillChunk.maxBytes / 2,
          },
          retry: reconnect,
        });
      },
    });
  }

  /** The slot is dropped: what was handed out of it means nothing to the next one. */
  async forget(): Promise<void> {
    if (!this.#lasting) return;
    try {
      await (await this.#progress()).forget();
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

  get #fillsSome(): boolean {
    return this.#options.backfill === "initial" || this.#filled.size > 0;
  }

  #fills(table: TableName): boolean {
    return this.#options.backfill === "initial" || this.#filled.has(formatTableName(table));
  }

  async #progress(): Promise<Progress> {
    const { PostgresStateStore, Progress } = await import("./backfill_parts.ts");
    const connector = this.#connector;
    if (this.#inSource) this.#own ??= new PostgresStateStore({ connector });
    const store = this.#own ?? this.#options.stateStore ?? new MemoryStateStore();
    return new Progress(store, this.#options.slotName);
  }
}
