/**
 * What `sync` asks of a store beyond the two methods of a sink: rows of tables, each with its points, where
 * in the source's history they come from, and what is there already.
 */

import type { Vector } from "../values/vector.ts";

/**
 * A place in the history of a source database. Of one system the later place wins; places of two systems
 * cannot be compared, and neither refuses the other: a database that was restored or moved starts its LSNs anew.
 */
export interface SourcePosition {
  /** `systemid` of IDENTIFY_SYSTEM. */
  readonly systemId: string;
  /** The timeline of the server's WAL, which is higher after each fail-over or restore; it counts first. */
  readonly timeline: number;
  /** LSN of the commit record, `"0/1A3F28"`; of a row that a backfill read, its consistent point. */
  readonly lsn: string;
  /** Place in the transaction, from 0; −1 for a row that a backfill read. */
  readonly ordinal: number;
}

/** How far a stream is, as a store keeps it in the transaction of its writes. */
export interface StreamPosition {
  /** Whose LSNs these are. */
  readonly systemId: string;
  /** The timeline on which they were streamed. */
  readonly timeline: number;
  /** The stream's slot. */
  readonly slotName: string;
  /** End LSN of the last transaction that is whole in the store, as is all before it. */
  readonly endLsn: string;
  /** LSN of the commit record of a transaction that is there in part; null where there is none. */
  readonly commitLsn: string | null;
  /** The last ordinal of it that is there; null where there is none. */
  readonly ordinal: number | null;
}

/** A point of a row, as it is to be. */
export interface RowPoint {
  /** `rowPointId(table, key, chunk)`. */
  readonly id: string;
  /** Of the text, the model and the chunker. */
  readonly fingerprint: string;
  /**
   * Null: the store has the vector of this fingerprint already, and only the payload is to be written. A sink
   * that finds that it has not rejects, so that it is tried again: then it is embedded.
   */
  readonly vector: Vector | null;
  /** As JSON gives it back. */
  readonly payload: Record<string, unknown>;
}

/** A row of a table: from `position` on it has these points, and no others. */
export interface RowWrite {
  /** As `formatTableName` writes it: `public.documents`. */
  readonly table: string;
  /** `event.key`. */
  readonly key: string;
  /** A row that the store has from a later position of the same system stays as it is. */
  readonly position: SourcePosition;
  /** What makes the vectors, and what cuts texts, for people: a change of it is looked for. */
  readonly model: string;
  /** By chunk, from 0; none: the row is gone, or has no text. */
  readonly points: readonly RowPoint[];
  /** False where it is known that the store has no points of the row but those with these ids. */
  readonly surplus: boolean;
}

/** A point of a row, as a store has it. */
export interface RowState {
  /** As it was given. */
  readonly id: string;
  /** Of the row. */
  readonly table: string;
  /** Of the row. */
  readonly key: string;
  /** Which of the row's points, from 0. */
  readonly chunk: number;
  /** How many points the row had when this one was written. */
  readonly chunks: number;
  /** What the vector was made of. */
  readonly fingerprint: string;
  /** By what. */
  readonly model: string;
  /** What is stored beside the vector, without what the store keeps of the row. */
  readonly payload: Record<string, unknown>;
  /** When it was written last. */
  readonly position: SourcePosition;
}

/** A vector of a row's point, as a store gives it back: normalised, or rounded, where it keeps it so. */
export interface RowVector {
  /** What it was made of. */
  readonly fingerprint: string;
  /** Can be stored again. */
  readonly vector: Vector;
}

/** Some of a table's points, in the store's own order. */
export interface RowPage {
  /** No more than were asked for; they may be fewer, also where there is a next page. */
  readonly points: readonly RowState[];
  /** What the next page is asked for with; null: there is none. */
  readonly next: string | null;
}

/** Where a store's tables are, where they are tables of Postgres. */
export interface StoreLocation {
  /** `systemid` of its server; null where it does not tell. */
  readonly systemId: string | null;
  /** The database's name. */
  readonly database: string;
  /** What it writes to, as `formatTableName` writes them. */
  readonly tables: readonly string[];
}

/** What a search is narrowed to. */
export interface SearchOptions {
  /** Default: 10. */
  limit?: number;
  /** Only points whose payload has these properties with these values. */
  filter?: Record<string, string | number | boolean>;
  /** Only points of rows of this table, as `formatTableName` writes it. */
  table?: string;
}

/**
 * The optional members of a sink by which `sync` keeps a store right. With `apply` and `fingerprints` nothing
 * is embedded twice; `apply` is also needed for chunks, `deleteTable` for TRUNCATE, `scan` to verify and to
 * notice that a store is empty, `position` for effects that are exactly once. What is missing and needed is an error of
 * kind `unsupported`.
 *
 * @example
 * ```ts
 * import {
 *   compareSourcePositions,
 *   type PointId,
 *   pointIdText,
 *   type RowSink,
 *   type RowState,
 *   type RowWrite,
 *   Sink,
 *   type Vector,
 *   type VectorPoint,
 * } from "@pgstream/pgstream";
 *
 * class MapSink extends Sink implements RowSink {
 *   readonly stored = new Map<string, Vector>();
 *   readonly states = new Map<string, RowState>();
 *
 *   async upsert({ id, vector }: VectorPoint) {
 *     this.stored.set(pointIdText(id), vector);
 *     this.states.delete(pointIdText(id));
 *   }
 *
 *   async delete(id: PointId) {
 *     this.stored.delete(pointIdText(id));
 *     this.states.delete(pointIdText(id));
 *   }
 *
 *   async apply(rows: readonly RowWrite[]) {
 *     for (const { table, key, position, model, points } of rows) {
 *       const old = [...this.states.values()].filter((it) => it.table === table && it.key === key);
 *       if (old.some((it) => (compareSourcePositions(it.position, position) ?? 0) > 0)) continue;
 *       for (const { id, chunk } of old) if (chunk >= points.length) await this.delete(id);
 *       for (const [chunk, { id, fingerprint, vector, payload }] of points.entries()) {
 *         if (vector !== null) this.stored.set(id, vector);
 *         const row = { table, key, chunk, chunks: points.length, model, position };
 *         this.states.set(id, { id, fingerprint, payload, ...row });
 *       }
 *     }
 *   }
 *
 *   async fingerprints(ids: readonly string[]) {
 *     return new Map(ids.flatMap((id) => {
 *       const state = this.states.get(id);
 *       return state === undefined ? [] : [[id, state]];
 *     }));
 *   }
 * }
 * ```
 */
export interface RowSink {
  /**
   * Makes, or checks, what rows need: tables, columns, payload indexes. Idempotent.
   *
   * @throws {SinkError} that says what is missing, and what to run.
   */
  prepareRows?(): Promise<void>;
  /**
   * Writes rows, each at most once in a call, and, where it is given, the stream's position with them: all in
   * one transaction where the store has them. A row that the store has from a later position is left as it is,
   * and with it its points: none is written, added or removed. What is refused is no error. Of a row that is
   * gone nothing is left that could refuse: what comes late of it is told by the stream's position alone.
   *
   * @param position null: how far the stream is, is not kept with these. A position that is stored already and
   * is later, of the same system and slot, refuses the whole call, which resolves: another process was here.
   * @throws {SinkError}
   */
  apply?(rows: readonly RowWrite[], position: StreamPosition | null): Promise<void>;
  /** The position that `apply` stored last; null where there is none of this system and slot. */
  position?(source: { systemId: string; slotName: string }): Promise<StreamPosition | null>;
  /** What the store has under these ids; the others are left out. */
  fingerprints?(ids: readonly string[]): Promise<Map<string, RowState>>;
  /** The vectors of these points; the others are left out. With it, a text that moves is not embedded again. */
  vectors?(ids: readonly string[]): Promise<Map<string, RowVector>>;
  /** Points of a table, a page at a time. @param after `next` of the page before; null: from the start */
  scan?(table: string, options: { after: string | null; limit: number }): Promise<RowPage>;
  /** Removes all points of a table but those from a later position of the same system. */
  deleteTable?(table: string, position: SourcePosition): Promise<void>;
  /** The model of any point of the table that was made by another one; null where there is none. */
  otherModel?(table: string, model: string): Promise<string | null>;
  /** A table's rows are there for the first time: the time for indexes that are better built at once. */
  filled?(table: string): Promise<void>;
  /** Where it is, where a stream of that server could read what it writes; null where none can. */
  location?(): Promise<StoreLocation | null>;
}

/** The id of a row's point: the same for the same table, key and chunk, and for no others. */
export function rowPointId(table: string, key: string, chunk: number): string {
  return JSON.stringify([table, key, chunk]);
}
