/** The table of the vectors and what stands beside it: what there is, and the statements that make the rest. */

import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { PgVectorConnection, Run } from "./pgvector_connection.ts";
import { dimensionError, SinkError } from "./sink.ts";

/** The types of pgvector in which vectors of numbers fit. */
export type PgVectorType = "vector" | "halfvec" | "sparsevec";

/** Where the vectors are, and how far streams are. */
export interface TableNames {
  /** The table of the vectors, quoted for SQL. */
  vectors: string;
  /** The table of positions, in the same schema, quoted for SQL. */
  positions: string;
  /** The table of the vectors, for people; also its name in the table of positions. */
  text: string;
  /** The table of positions, for people. */
  positionsText: string;
}

/** What there is. */
export interface TableState {
  /** False: there is no such table. */
  exists: boolean;
  /** Version of pgvector; null where it was not created. */
  extension: string | null;
  /** Of the table: type and modifier by name. A vector's modifier is its dimension, −1 where there is none. */
  columns: Record<string, { type: string; modifier: number }>;
  /** Of the table, without those of a part of it. */
  indexes: TableIndex[];
  /** Columns of the table of positions; none where there is no such table. */
  positions: string[];
}

/** An index of the table. */
export interface TableIndex {
  /** Quoted for SQL. */
  name: string;
  /** `btree`, `hnsw`. */
  method: string;
  /** False while it is built, and where that failed. */
  valid: boolean;
  /** Null: an expression. */
  columns: (string | null)[];
  /** The operator class of the first column: `vector_cosine_ops`. */
  operators: string;
}

/** Any number will do, so long as all processes take the same: only one at a time creates things. */
const CREATE_LOCK = 7_239_441_906_113n;

/** What is kept of rows; null for plain points. In the C collation, for positions and keys to sort as bytes. */
export const ROW_COLUMNS: Readonly<Record<string, string>> = {
  source_table: 'text collate "C"',
  source_key: 'text collate "C"',
  chunk: "integer",
  chunks: "integer",
  fingerprint: "text",
  model: 'text collate "C"',
  source_system: "text",
  source_position: 'text collate "C"',
};

/** The first finds a row's points, and a table's in order; the second whether a table has another model. */
const ROW_INDEXES = [["source_table", "source_key", "chunk"], ["source_table", "model"]];

const POSITION_COLUMNS: Readonly<Record<string, string>> = {
  system_id: "text",
  slot_name: "text",
  sink_table: "text",
  timeline: "bigint not null",
  end_lsn: "pg_lsn not null",
  commit_lsn: "pg_lsn",
  ordinal: "bigint",
  updated_at: "timestamptz not null default now()",
};

/** Names what belongs to a table of vectors. */
export function tableNames(vectors: TableName): TableNames {
  const positions = { schema: vectors.schema, table: "pgstream_positions" };
  return {
    vectors: quoteTableName(vectors),
    positions: quoteTableName(positions),
    text: formatTableName(vectors),
    positionsText: formatTableName(positions),
  };
}

/** Looks what there is. Needs no right. */
export async function readTable(run: Run, names: TableNames): Promise<TableState> {
  const [row] = await run(
    `select pg_catalog.json_build_object(
       'exists', t.vectors is not null,
       'extension', (select extversion from pg_catalog.pg_extension where extname = 'vector'),
       'columns', (
         select coalesce(pg_catalog.json_object_agg(a.attname,
           pg_catalog.json_build_object('type', y.typname, 'modifier', a.atttypmod)), '{}')
         from pg_catalog.pg_attribute a join pg_catalog.pg_type y on y.oid = a.atttypid
         where a.attrelid = t.vectors and a.attnum > 0 and not a.attisdropped),
       'indexes', (
         select coalesce(pg_catalog.json_agg(pg_catalog.json_build_object(
           'name', pg_catalog.format('%I.%I', n.nspname, c.relname),
           'method', m.amname,
           'valid', i.indisvalid,
           'columns', (
             select pg_catalog.json_agg(a.attname order by k.place)
             from pg_catalog.unnest(i.indkey::int2[]) with ordinality as k (attnum, place)
             left join pg_catalog.pg_attribute a
               on a.attrelid = i.indrelid and a.attnum = k.attnum and k.attnum > 0),
           'operators', (select opcname from pg_catalog.pg_opclass where oid = i.indclass[0]))), '[]')
         from pg_catalog.pg_index i
         join pg_catalog.pg_class c on c.oid = i.indexrelid
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         join pg_catalog.pg_am m on m.oid = c.relam
         where i.indrelid = t.vectors and i.indpred is null),
       'positions', (
         select coalesce(pg_catalog.json_agg(a.attname), '[]') from pg_catalog.pg_attribute a
         where a.attrelid = t.positions and a.attnum > 0 and not a.attisdropped))::text
     from (select pg_catalog.to_regclass(${quoteText(names.vectors)}) as vectors,
       pg_catalog.to_regclass(${quoteText(names.positions)}) as positions) t`,
  ) as [string][];
  return JSON.parse(row![0]);
}

/** As a literal, whatever `standard_conforming_strings` says; without parameters it is one round trip. */
function quoteText(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}

/** True where the table keeps what rows need beside their points. */
export function hasRowColumns({ columns }: TableState): boolean {
  return Object.keys(ROW_COLUMNS).every((name) => Object.hasOwn(columns, name));
}

/** How a table is made. */
export interface TableShape {
  dimensions: number;
  /** Undefined: `vector`, and a column of another type is taken as it is. */
  type: PgVectorType | undefined;
}

/**
 * Sees to it that the table is there, and with `rows` all that rows need. What is right already needs no right
 * to create anything.
 *
 * @param shape undefined: nothing is created; what rows need must be there, the rest shows itself in use.
 * @returns what there is now.
 * @throws {SinkError} `sink-table-shape`, `sink-table-missing`, `sink-dimension`; `sink-unauthorized` where it
 * may not be created. The hint has the statements.
 */
export async function prepareTable(
  connection: PgVectorConnection,
  names: TableNames,
  shape: TableShape | undefined,
  rows: boolean,
): Promise<TableState> {
  const state = await readTable(connection.run, names);
  const statements = missingStatements(state, names, shape, rows);
  if (state.exists && shape !== undefined) checkShape(state, names, shape);
  if (statements.length === 0) return state;
  if (shape === undefined) {
    if (!rows) return state;
    throw new SinkError(
      state.exists
        ? `Table ${names.text} has no room for what is kept of rows`
        : `Table ${names.text} does not exist`,
      {
        kind: state.exists ? "sink-table-shape" : "sink-table-missing",
        sink: "pgvector",
        hint: "Pass createTable: { dimensions } to the sink, with those of your model, or run: " +
          statements.join("; "),
      },
    );
  }
  try {
    await connection.transaction(async (run) => {
      await run(`select pg_catalog.pg_advisory_xact_lock(${CREATE_LOCK})`);
      // Another process may have made it until the lock was had.
      const state = await readTable(run, names);
      for (const statement of missingStatements(state, names, shape, rows)) await run(statement);
    });
  } catch (error) {
    if ((error as { code?: unknown } | null)?.code !== "42501") throw error;
    throw new SinkError(
      `Table ${names.text} lacks something that this role may not create (${
        (error as Error).message
      })`,
      {
        kind: "sink-unauthorized",
        sink: "pgvector",
        code: "42501",
        hint: `Run, as a role that may: ${statements.join("; ")}`,
      },
    );
  }
  return await readTable(connection.run, names);
}

/** What is to be run, in order, for all to be there. */
export function missingStatements(
  { exists, extension, columns, indexes, positions }: TableState,
  { vectors, positions: positionsTable }: TableNames,
  { dimensions, type = "vector" }: TableShape = { dimensions: 384, type: undefined },
  rows: boolean,
): string[] {
  const statements: string[] = [];
  const rowColumns = rows ? Object.entries(ROW_COLUMNS) : [];
  if (!exists) {
    if (extension === null) statements.push("create extension if not exists vector");
    const all = [
      "id text primary key",
      `vector ${type}(${dimensions}) not null`,
      "payload jsonb not null",
      ...rowColumns.map((column) => column.join(" ")),
    ];
    statements.push(`create table if not exists ${vectors} (${all.join(", ")})`);
  } else {
    const missing = rowColumns.filter(([name]) => !Object.hasOwn(columns, name));
    const added = missing.map((column) => `add column if not exists ${column.join(" ")}`);
    if (added.length > 0) statements.push(`alter table ${vectors} ${added.join(", ")}`);
  }
  if (!rows) return statements;
  for (const wanted of ROW_INDEXES) {
    const found = indexes.some(({ method, valid, columns }) =>
      method === "btree" && valid && wanted.every((name, place) => columns[place] === name)
    );
    if (!found) statements.push(`create index on ${vectors} (${wanted.join(", ")})`);
  }
  const inPositions = Object.entries(POSITION_COLUMNS);
  if (positions.length === 0) {
    statements.push(
      `create table if not exists ${positionsTable} (${
        inPositions.map((column) => column.join(" ")).join(", ")
      }, primary key (system_id, slot_name, sink_table))`,
    );
  }
  return statements;
}

/** Whether the table's vectors are those of the shape. @throws {SinkError} `sink-dimension`, `sink-table-shape`. */
export function checkShape({ columns }: TableState, names: TableNames, shape: TableShape): void {
  const { type, modifier = -1 } = columns.vector ?? {};
  if (modifier !== -1 && modifier !== shape.dimensions) {
    throw dimensionError("pgvector", `Table ${names.text}`, modifier, shape.dimensions);
  }
  if (type !== undefined && shape.type !== undefined && type !== shape.type) {
    throw new SinkError(`Table ${names.text} has vectors of type ${type}, not ${shape.type}`, {
      kind: "sink-table-shape",
      sink: "pgvector",
      hint: `Leave createTable.type out to take the table as it is, or run: alter table ` +
        `${names.vectors} alter column vector type ${shape.type}(${shape.dimensions})`,
    });
  }
}
