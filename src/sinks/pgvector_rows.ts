/** What `sync` asks of a table of vectors that has room for rows. */

import type { PgVectorConnection } from "./pgvector_connection.ts";
import {
  formatIds,
  inParts,
  inVectorParts,
  type PointsPart,
  readVector,
  runParts,
  vectorFormat,
} from "./pgvector_points.ts";
import { formatSourcePosition } from "./pgvector_position.ts";
import {
  beginStatement,
  checkRows,
  formatRows,
  formatStreamPosition,
  LOCK_ALL_STATEMENT,
  positionStatement,
  readState,
  readStreamPosition,
  STATE_COLUMNS,
  writeStatement,
} from "./pgvector_row_statements.ts";
import type { TableNames, TableState } from "./pgvector_table.ts";
import type {
  RowPage,
  RowState,
  RowVector,
  RowWrite,
  SourcePosition,
  StreamPosition,
} from "./rows.ts";
import { SinkError } from "./sink.ts";

/**
 * For statements that read by many ids, or a table in order: a plan that was kept from when the table was small
 * reads all of it.
 */
const PLANNED_ANEW = { prepare: false };

/** Rows in the table, as `RowSink` describes each method. */
export class PgVectorRows {
  readonly #connection: PgVectorConnection;
  readonly #names: TableNames;

  /** The table must be prepared for rows before a method is called. */
  constructor(connection: PgVectorConnection, names: TableNames) {
    this.#connection = connection;
    this.#names = names;
  }

  async apply(
    state: TableState,
    rows: readonly RowWrite[],
    position: StreamPosition | null,
  ): Promise<void> {
    const names = this.#names;
    checkRows(rows);
    const parts = inVectorParts(formatRows(rows, vectorFormat(state)));
    const begin = [
      `[${rows.map(({ key }) => JSON.stringify(key)).join(",")}]`,
      names.text,
      position === null ? "[]" : `[${formatStreamPosition(position, names)}]`,
    ];
    await this.#connection.transaction(async (run) => {
      const [answer] = await run(beginStatement(names), begin) as [string][];
      if (position !== null && answer![0] === "0") return;
      const write = ({ places, parameters }: PointsPart) =>
        run(writeStatement(names, places), parameters);
      for await (const answer of runParts(write, parts)) {
        const [[gone]] = answer as [[string]];
        if (gone !== "0") throw this.#vectorsGone(gone);
      }
    });
  }

  async position(source: { systemId: string; slotName: string }): Promise<StreamPosition | null> {
    const [row] = await this.#connection.run(positionStatement(this.#names), [
      source.systemId,
      source.slotName,
      this.#names.text,
    ]);
    return row === undefined ? null : readStreamPosition(row, source);
  }

  async fingerprints(ids: readonly string[]): Promise<Map<string, RowState>> {
    const { vectors } = this.#names;
    const found = new Map<string, RowState>();
    for (const part of inParts(formatIds(ids))) {
      const rows = await this.#connection.run(
        `select ${STATE_COLUMNS} from ${vectors} where source_table is not null and id in
         (select id from json_populate_recordset(null::${vectors}, $1::text::json))`,
        [part],
        PLANNED_ANEW,
      );
      for (const state of rows.map(readState)) found.set(state.id, state);
    }
    return found;
  }

  async vectors(ids: readonly string[]): Promise<Map<string, RowVector>> {
    const { vectors } = this.#names;
    const found = new Map<string, RowVector>();
    for (const part of inParts(formatIds(ids))) {
      const rows = await this.#connection.run(
        `select id::text, fingerprint, vector::text from ${vectors}
         where source_table is not null and vector is not null and id in
         (select id from json_populate_recordset(null::${vectors}, $1::text::json))`,
        [part],
        PLANNED_ANEW,
      ) as [id: string, fingerprint: string, vector: string][];
      for (const [id, fingerprint, text] of rows) {
        found.set(id, { fingerprint, vector: readVector(text) });
      }
    }
    return found;
  }

  /** By key and chunk, keys as bytes sort. */
  async scan(
    table: string,
    { after, limit }: { after: string | null; limit: number },
  ): Promise<RowPage> {
    const [key, chunk] = after === null ? ["", -1] : JSON.parse(after) as [string, number];
    const rows = await this.#connection.run(
      `select ${STATE_COLUMNS} from ${this.#names.vectors}
       where source_table = $1::text
         and (source_key collate "C", chunk) > ($2::text collate "C", $3::text::integer)
       order by source_key collate "C", chunk limit $4::text::bigint`,
      [table, key, String(chunk), String(limit + 1)],
      PLANNED_ANEW,
    );
    const points = rows.slice(0, limit).map(readState);
    const last = points.at(-1);
    const isLast = rows.length <= limit || last === undefined;
    return { points, next: isLast ? null : JSON.stringify([last.key, last.chunk]) };
  }

  async deleteTable(table: string, position: SourcePosition): Promise<void> {
    await this.#connection.transaction(async (run) => {
      await run(LOCK_ALL_STATEMENT, [this.#names.text]);
      await run(
        `delete from ${this.#names.vectors} where source_table = $1::text
         and (source_system = $2::text and source_position collate "C" > $3::text) is not true`,
        [table, position.systemId, formatSourcePosition(position)],
        PLANNED_ANEW,
      );
    });
  }

  async otherModel(table: string, model: string): Promise<string | null> {
    const { vectors } = this.#names;
    // Each end of the index: a scan for one that is not equal would read all of them.
    const [row] = await this.#connection.run(
      `select model from (
         select min(model) as model from ${vectors} where source_table = $1::text
         union all select max(model) from ${vectors} where source_table = $1::text) m
       where model <> $2::text`,
      [table, model],
      PLANNED_ANEW,
    ) as [string][];
    return row?.[0] ?? null;
  }

  #vectorsGone(count: string): SinkError {
    return new SinkError(
      `Table ${this.#names.text} no longer has ${count} of the vectors that were to be kept`,
      {
        kind: "sink-unconfirmed",
        sink: "pgvector",
        retryable: true,
        hint: "Somebody else removed or replaced them; they are embedded when this is tried again",
      },
    );
  }
}
