/** What is known of a slot's backfills from one process to the next. */
import { formatTableName, type TableName } from "../table_name.ts";
import { BackfillError } from "./errors.ts";
import type { StateStore } from "./state_store.ts";

/** How far a table is. */
export interface TableProgress {
  /** As `formatTableName` writes it. */
  table: string;
  /** The key of the last row that was handled, in the key's order; null before the first. */
  after: readonly string[] | null;
  /** Rows that were read. */
  rows: number;
  /** The consistent point of the last chunk that was handled; null before the first. */
  lsn: string | null;
  /** True once all rows that were there are handed out. */
  done: boolean;
  /** True where what was handed out of it before is void, and has to be taken back first. */
  void: boolean;
}

/** Which server it was. */
export interface KnownServer {
  systemId: string;
  timeline: number;
  /** Where it was a standby: when that was started, as it prints it. */
  standbyStartedAt?: string;
}

/** What a slot's progress is stored under begins so; its name follows. */
export const SLOT_KEY = "slot/";

/** What is stored, as JSON. */
export interface Document {
  server: KnownServer | null;
  /** By the table's OID: one that is dropped and made anew is another table. */
  tables: Record<string, TableProgress>;
}

/** Nothing is handed out yet. */
export function noProgress(name: TableName): TableProgress {
  return {
    table: formatTableName(name),
    after: null,
    rows: 0,
    lsn: null,
    done: false,
    void: false,
  };
}

/** The progress of one slot. What is changed counts once `save()` has resolved. */
export class Progress {
  readonly #store: StateStore;
  readonly #key: string;
  #document: Document = { server: null, tables: {} };

  /** Empty until `load()`. */
  constructor(store: StateStore, slotName: string) {
    this.#store = store;
    this.#key = SLOT_KEY + slotName;
  }

  /** The server that it belongs to; null where none is known. */
  get server(): KnownServer | null {
    return this.#document.server;
  }

  set server(server: KnownServer | null) {
    this.#document.server = server;
  }

  /** Tables of which something is known. */
  get tables(): TableProgress[] {
    return Object.values(this.#document.tables);
  }

  /** Reads what was saved last. @throws {BackfillError} of kind `state-invalid`. */
  async load(): Promise<void> {
    const text = await this.#store.get(this.#key);
    this.#document = text === null ? { server: null, tables: {} } : parseProgress(text, this.#key);
  }

  /** Makes it last. */
  async save(): Promise<void> {
    await this.#store.set(this.#key, JSON.stringify(this.#document));
  }

  /** Nothing is known any more. A store that holds nothing is left as it is. */
  async forget(): Promise<void> {
    if (await this.#store.get(this.#key) === null) return;
    this.#document = { server: null, tables: {} };
    await this.save();
  }

  /** How far a table is. Another one of the same name is gone: what was handed out of it is void. */
  of(oid: number, name: TableName): TableProgress {
    const { tables } = this.#document;
    let progress = tables[oid];
    const table = formatTableName(name);
    if (progress === undefined) {
      const before = Object.entries(tables).filter(([, other]) => other.table === table);
      for (const [other] of before) delete tables[other];
      tables[oid] = progress = { ...noProgress(name), void: before.length > 0 };
    }
    progress.table = table;
    return progress;
  }

  /** Changes were missed: what was handed out is void. @param which default: all tables */
  invalidate(which: (table: TableProgress) => boolean = () => true): void {
    for (const progress of this.tables) {
      if (!which(progress)) continue;
      // Where nothing was handed out yet, there is nothing to take back.
      const begun = progress.done || progress.rows > 0 || progress.void;
      Object.assign(progress, { after: null, rows: 0, lsn: null, done: false, void: begun });
    }
  }
}

/** What is stored under a key. @throws {BackfillError} of kind `state-invalid`. */
export function parseProgress(text: string, key: string): Document {
  try {
    const { server, tables } = JSON.parse(text) as Document;
    if (server !== null && typeof server.systemId !== "string") throw new TypeError("server");
    for (const { table, after } of Object.values(tables)) {
      if (typeof table !== "string" || (after !== null && !Array.isArray(after))) {
        throw new TypeError("tables");
      }
    }
    return { server, tables };
  } catch (cause) {
    throw new BackfillError(`Cannot read what the state store holds under "${key}"`, {
      kind: "state-invalid",
      hint: "Delete it to begin all backfills anew.",
      cause,
    });
  }
}
