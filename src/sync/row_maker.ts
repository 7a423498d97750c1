/** What a row of a synced table is to have in the store: texts, fingerprints, payload. */

import type { AnyRow } from "../change.ts";

/** A point of a row, before its text is embedded. */
export interface WantedPoint {
  /** Its id in the store. */
  readonly id: string;
  /** What is embedded. */
  readonly text: string;
  /** Of text, model and chunker. */
  readonly fingerprint: string;
}

/** What a row is to have. */
export interface WantedRow {
  /** By chunk; none: the row has no vector. */
  readonly points: readonly WantedPoint[];
  /** Of each of them, as JSON gives it back. */
  readonly payload: Record<string, unknown>;
}

/** Makes it of a row that is whole. */
export interface RowMaker {
  /** As `formatTableName` writes it. */
  readonly table: string;
  /** What makes the vectors and cuts the texts, as the store keeps it. */
  readonly model: string;
  /** @throws {PgStreamError} `sync-text`, `sync-payload`: what a function of the user's did. */
  make(key: string, row: AnyRow): Promise<WantedRow>;
}
