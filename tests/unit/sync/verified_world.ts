/**
 * A source, a stream and a store that go on while they are compared: rows change, changes are handled, and changes
 * that are handled are not shown yet. All of it at random, between any two calls.
 */

import type {
  KeyedRows,
  RowChunk,
  RowsAt,
  SourceTable,
} from "../../../src/backfill/table_reader.ts";
import type { AnyRow } from "../../../src/change.ts";
import { formatLsn, type Lsn } from "../../../src/lsn.ts";
import { MemorySink } from "../../../src/sinks/memory.ts";
import {
  type RowPage,
  rowPointId,
  type RowSink,
  type RowState,
  type RowWrite,
  type SourcePosition,
} from "../../../src/sinks/rows.ts";
import type { LiveServer, LiveStream } from "../../../src/sync/live_stream.ts";
import type { RowMaker, WantedRow } from "../../../src/sync/row_maker.ts";
import { seededRandom } from "../../support/random.ts";

export const TABLE = "public.documents";

/** A row whose text is cut at spaces; an empty one has no vector. */
interface Row {
  text: string;
  tag: number;
}

/** A committed change: null, the row is gone. */
interface Change {
  key: string;
  row: Row | null;
  version: string;
  commitLsn: Lsn;
  /** False for as long as snapshots do not show it. */
  shown: boolean;
}

export const maker: RowMaker = {
  table: TABLE,
  model: "model@1",
  make: (key, row) => Promise.resolve(want(key, row as Row)),
};

export function want(key: string, { text, tag }: Row): WantedRow {
  const texts = text === "" ? [] : text.split(" ");
  const payload = { tag, nested: { list: [tag, "x"] } };
  const points = texts.map((text, chunk) => ({
    id: rowPointId(TABLE, key, chunk),
    text,
    fingerprint: `of ${text}`,
    payload,
  }));
  return { points };
}

export interface WorldOptions {
  seed?: number;
  /** Keys that change by themselves. */
  hot?: readonly string[];
  /** True: changes may be handled before they are shown. */
  hides?: boolean;
  /** Rows of a chunk, and keys of a look. */
  limit?: number;
}

export class World implements SourceTable, LiveStream {
  readonly store = new MemorySink();
  readonly #random: () => number;
  readonly #hot: readonly string[];
  readonly #hides: boolean;
  readonly #limit: number;
  /** All changes; those before `#handled` are in the store. */
  readonly #changes: Change[] = [];
  #handled = 0;
  #lsn: Lsn = 0xffff_fff0n;
  #frozen = false;
  /** Transactions that write: `"open"`, and what they hide stays so; `"over"`; or now this, now that. */
  writers: "open" | "over" | "some" = "some";
  /** How often its connection was closed. */
  closed = 0;
  rewritten: string[] = [];
  removed: string[] = [];
  /** The largest number of rows that were given at once. */
  mostRows = 0;
  /** The largest numbers of points and keys that were asked for at once. */
  most: { ids: number; page: number; keys: number } = { ids: 0, page: 0, keys: 0 };
  server: LiveServer | null = { systemId: "7", timeline: 1, startedAt: "now" };
  /** Called between any two calls. */
  onStep: () => void = () => {};

  constructor({ seed = 1, hot = [], hides = false, limit = 7 }: WorldOptions = {}) {
    this.#random = seededRandom(seed);
    this.#hot = hot;
    this.#hides = hides;
    this.#limit = limit;
  }

  below(n: number): number {
    return Math.floor(this.#random() * n);
  }

  /** Commits a change. */
  change(
    key: string,
    row: Row | null,
    shown: boolean = !this.#hides || this.below(3) > 0,
  ): void {
    this.#lsn += 8n;
    const commitLsn = this.#lsn;
    this.#lsn += 8n;
    // What is to change a row waits for who has changed it: that one is shown by then.
    for (const other of this.#changes) if (other.key === key) other.shown = true;
    this.#changes.push({ key, row, version: `${this.#changes.length}`, commitLsn, shown });
  }

  /** Handles changes up to the n-th. */
  async handle(n = this.#changes.length): Promise<void> {
    while (this.#handled < n) {
      const change = this.#changes[this.#handled++]!;
      await this.#write(change, { lsn: formatLsn(change.commitLsn), ordinal: 0 });
    }
  }

  /** What is committed by now is shown. */
  show(): void {
    for (const change of this.#changes) change.shown = true;
  }

  /** Rows as they are when all is shown. */
  rows(): Map<string, Row> {
    return this.#view(() => true).rows;
  }

  /** What the store has, by key and chunk. */
  async points(): Promise<Map<string, RowState>> {
    const { points } = await this.store.scan(TABLE, { after: null, limit: 1e9 });
    return new Map(points.map((point) => [point.id, point]));
  }

  /** Puts something into the store behind the stream's back. */
  async corrupt(key: string, row: Row | null, change: Partial<RowWrite> = {}): Promise<void> {
    const position = { systemId: "7", timeline: 1, lsn: "0/1", ordinal: 0, ...change.position };
    const points = await this.points();
    for (const [id, state] of points) if (state.key === key) await this.store.delete(id);
    if (row !== null) await this.#write({ key, row }, position);
  }

  /** The sink that is compared: time passes with each call. */
  get sink(): RowSink {
    const { store } = this;
    return {
      fingerprints: async (ids) => {
        await this.step();
        this.most.ids = Math.max(this.most.ids, ids.length);
        return await store.fingerprints(ids);
      },
      scan: async (table, options): Promise<RowPage> => {
        await this.step();
        this.most.page = Math.max(this.most.page, options.limit);
        return await store.scan(table, { ...options, limit: Math.min(options.limit, 11) });
      },
      apply: async (rows, position) => {
        await this.step();
        this.removed.push(...rows.map(({ key }) => key));
        await store.apply(rows, position);
      },
    };
  }

  /** Time passes. */
  async step(): Promise<void> {
    this.onStep();
    for (let n = this.below(4); n > 0 && this.#hot.length > 0; n--) {
      const key = this.#hot[this.below(this.#hot.length)]!;
      const text = ["", "a", "b", "a b", "a b c"][this.below(5)]!;
      this.change(key, this.below(4) === 0 ? null : { text, tag: this.below(2) });
    }
    for (const change of this.#changes) {
      {
        if (this.writers !== "open" && this.below(12) === 0) change.shown = true;
      }
    }
    if (this.#frozen) return;
    await this.handle(this.#handled + this.below(this.#changes.length - this.#handled + 1));
  }

  async next(after: string | null): Promise<RowChunk> {
    await this.step();
    const all = [...this.#view().rows].sort(([a], [b]) => a < b ? -1 : 1)
      .filter(([key]) => after === null || key > after);
    const rows = all.slice(0, this.#limit).map(([key, row]) => ({ key, row: row as AnyRow }));
    this.mostRows = Math.max(this.mostRows, rows.length);
    return { rows, end: rows.length === all.length, lsn: this.#lsn };
  }

  async byKeys(keys: readonly string[]): Promise<KeyedRows> {
    await this.step();
    const part = keys.slice(0, this.#limit);
    const { rows } = this.#view();
    return { keys: part, rows: new Map([...rows].filter(([key]) => part.includes(key))) };
  }

  async at(keys: readonly string[]): Promise<RowsAt> {
    await this.step();
    this.most.keys = Math.max(this.most.keys, keys.length);
    const part = keys.slice(0, 1 + this.below(this.#limit));
    const shownLsn = this.#lsn;
    const complete = this.writers === "some" ? this.below(3) > 0 : this.writers === "over";
    const before = this.#changes.length;
    await this.step();
    // Who has written by then is waited for.
    if (complete) { for (const change of this.#changes.slice(0, before)) change.shown = true; }
    const { rows, versions, touched } = this.#view();
    const lsn = this.#lsn;
    const found = part.flatMap((key) => {
      const row = rows.get(key);
      const untouched = !touched.has(key);
      return row === undefined
        ? []
        : [[key, { row, version: versions.get(key)!, untouched }] as const];
    });
    return { keys: part, rows: new Map(found), shownLsn, lsn, complete, startedAt: "now" };
  }

  close(): Promise<void> {
    this.closed++;
    return Promise.resolve();
  }

  async caughtUp(lsn: Lsn): Promise<void> {
    await this.step();
    await this.handle(this.#changes.filter(({ commitLsn }) => commitLsn < lsn).length);
  }

  async rewrite(keys: readonly string[]): Promise<void> {
    this.rewritten.push(...keys);
    for (const key of keys) {
      await this.step();
      await this.handle();
      const row = this.rows().get(key);
      if (row === undefined) continue;
      await this.#write({ key, row }, { lsn: formatLsn(this.#lsn), ordinal: -1 });
    }
  }

  async atBarrier(call: () => Promise<void>): Promise<void> {
    await this.step();
    this.#frozen = true;
    try {
      await call();
    } finally {
      this.#frozen = false;
    }
  }

  pause = async (): Promise<void> => {
    await this.step();
  };

  #view(isShown = ({ shown }: Change) => shown) {
    const rows = new Map<string, Row>();
    const versions = new Map<string, string>();
    const touched = new Set<string>();
    for (const change of this.#changes) {
      const { key, row, version } = change;
      if (!isShown(change)) {
        touched.add(key);
      } else if (row === null) {
        rows.delete(key);
      } else {
        rows.set(key, row);
        versions.set(key, version);
      }
    }
    return { rows, versions, touched };
  }

  async #write(
    { key, row }: Pick<Change, "key" | "row">,
    at: Partial<SourcePosition>,
  ): Promise<void> {
    const position = { systemId: "7", timeline: 1, lsn: "0/0", ordinal: 0, ...at };
    const { points } = row === null ? { points: [] } : want(key, row);
    const { table, model } = maker;
    await this.store.apply([{
      ...{ table, key, position, model, surplus: true },
      points: points.map(({ text: _, ...point }) => ({ ...point, vector: [1] })),
    }], null);
  }
}
