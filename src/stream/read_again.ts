/** Who reads unchanged columns again. Few streams do: what it takes is loaded with the first event that needs it. */
import type { UnchangedReader as LoadedReader } from "../backfill/unchanged_reader.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import type { UnchangedReader, UnreadEvent } from "../delivery/unchanged.ts";
import type { TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";

/** What is read for events that wait, in bytes, roughly: it comes on top of what they take. */
const AHEAD_BYTES = 2 * 1024 * 1024;

/** What a run reads by. */
export interface ReadAgainOptions {
  connector: Connector;
  publicationName: string;
  lanes: number;
  /** The tables whose columns are read. */
  wants: (table: TableName) => boolean;
  /** The types of the run. */
  loadTypes: LoadTypes;
}

/** One for each run of a stream. */
export class ReadAgain implements UnchangedReader {
  readonly wants: (table: TableName) => boolean;
  readonly #connector: Connector;
  readonly #publicationName: string;
  readonly #maxBytes: number;
  readonly #loadTypes: LoadTypes;
  #loading: Promise<LoadedReader> | null = null;
  #loaded: LoadedReader | null = null;

  /** @param options.lanes that read ahead, each for itself */
  constructor({ connector, publicationName, lanes, wants, loadTypes }: ReadAgainOptions) {
    this.wants = wants;
    this.#connector = connector;
    this.#publicationName = publicationName;
    this.#maxBytes = AHEAD_BYTES / lanes;
    this.#loadTypes = loadTypes;
  }

  get limit(): number {
    return this.#loaded?.limit ?? 1;
  }

  async read(unread: readonly UnreadEvent[], signal: AbortSignal): Promise<void> {
    const reader = this.#loaded ?? await (this.#loading ??= this.#load());
    await reader.read(unread, signal);
  }

  /** Closes the connection; the next read makes another one. */
  async close(): Promise<void> {
    await this.#loaded?.close();
  }

  async #load(): Promise<LoadedReader> {
    try {
      const { UnchangedReader } = await import("./backfill_parts.ts");
      return this.#loaded = new UnchangedReader({
        connector: this.#connector,
        publicationName: this.#publicationName,
        maxBytes: this.#maxBytes,
        loadTypes: this.#loadTypes,
      });
    } finally {
      // Whoever it fails for tries again.
      this.#loading = null;
    }
  }
}
