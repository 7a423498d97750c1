/** The backfill of a run. Most streams ask for none: what it takes is loaded with the first one. */
import type { Backfill, StreamedServer } from "../backfill/backfill.ts";
import type { BackfillStatus, JobOptions } from "../backfill/job.ts";
import type { KnownServer } from "../backfill/progress.ts";
import type { TableName } from "../table_name.ts";

/** What a run is to have. */
export interface RunBackfillOptions {
  /** True where it is asked for from the start: there are rows to hand out, or progress to be kept. */
  needed: boolean;
  /** Loads it. */
  make: () => Promise<Backfill>;
}

/** As `Backfill`, whether it is there or not. One for each run of a stream. */
export class RunBackfill {
  readonly #options: RunBackfillOptions;
  #backfill: Backfill | null = null;
  #loading: Promise<Backfill> | null = null;
  /** Null while no stream runs. */
  #server: StreamedServer | null = null;
  /** Resolves when it is loaded, or the run ends. */
  readonly #begun: PromiseWithResolvers<void> = Promise.withResolvers();
  /** Why nothing is played any more. */
  #over: { reason: unknown } | null = null;

  /** Loads nothing yet. */
  constructor(options: RunBackfillOptions) {
    this.#options = options;
  }

  /** True where nothing is left to do. */
  get idle(): boolean {
    return this.#backfill?.idle ?? this.#loading === null;
  }

  /** True while the initial backfill of a table is under way, or is to come. */
  isFilling(table: TableName): boolean {
    return this.#backfill?.isFilling(table) ?? false;
  }

  /** How far the table is that is read now; null where none is. */
  get status(): BackfillStatus | null {
    return this.#backfill?.status ?? null;
  }

  /** The server that an earlier process knew; null where none is known. */
  async load(): Promise<KnownServer | null> {
    return await (await this.#needed())?.load() ?? null;
  }

  /** The stream has its slot, and nothing of it was read yet. */
  async arrived(server: StreamedServer): Promise<void> {
    this.#server = server;
    if (this.#backfill !== null) await this.#backfill.arrived(server);
    // Who loads it tells it where it is.
    else await this.#needed();
  }

  /** The stream goes on, and its standby is none any more. */
  async promoted(known: KnownServer): Promise<void> {
    if (this.#server !== null) this.#server = { ...this.#server, known };
    await this.#backfill?.promoted(known);
  }

  /** There is no stream. */
  lost(): void {
    this.#server = null;
    this.#backfill?.lost();
  }

  /** Changes are about to be missed. */
  async beforeGap(): Promise<void> {
    await (await this.#needed())?.beforeGap();
  }

  /** Changes were missed. */
  async missed(): Promise<void> {
    await (await this.#needed())?.missed();
  }

  /** Another consumer has had the slot. */
  async overtaken(): Promise<void> {
    await (await this.#needed())?.overtaken();
  }

  /** Reads rows of a table. Resolves when they are handled. */
  async add(options: JobOptions): Promise<void> {
    if (this.#over !== null) throw this.#over.reason;
    await (await this.#load()).add(options);
  }

  /** All rows of a table are handed out again, though they were before. */
  async again(table: TableName): Promise<void> {
    await (await this.#needed())?.again(table);
  }

  /** Events were handled. */
  progressed(): void {
    this.#backfill?.progressed();
  }

  /**
   * Plays what is added until the signal is aborted.
   *
   * @throws what an initial backfill failed by
   */
  async run(signal: AbortSignal): Promise<void> {
    const end = () => this.#begun.resolve();
    if (signal.aborted) end();
    signal.addEventListener("abort", end);
    await this.#begun.promise;
    signal.removeEventListener("abort", end);
    await this.#loading?.catch(() => {});
    if (this.#backfill !== null) return await this.#backfill.run(signal);
    this.#over = { reason: signal.reason };
  }

  /** Null where it is not there, and nobody has asked for it. */
  async #needed(): Promise<Backfill | null> {
    return this.#options.needed ? await this.#load() : this.#backfill;
  }

  #load(): Promise<Backfill> {
    return this.#loading ??= this.#begin();
  }

  async #begin(): Promise<Backfill> {
    let backfill: Backfill;
    try {
      backfill = await this.#options.make();
    } catch (error) {
      // Whoever asked for it is told so; the next one tries again.
      this.#loading = null;
      throw error;
    }
    this.#backfill = backfill;
    this.#begun.resolve();
    if (this.#server !== null) await backfill.arrived(this.#server);
    // It was lost meanwhile.
    if (this.#server === null) backfill.lost();
    return backfill;
  }
}
