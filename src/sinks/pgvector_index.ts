/** How near vectors are, and the index that finds the nearest. */

import type { PgVectorConnection } from "./pgvector_connection.ts";
import { optionsError } from "./pgvector_errors.ts";
import { type PgVectorType, readTable, type TableNames } from "./pgvector_table.ts";

/** How far apart two vectors are: by their angle, by the line between them, by their inner product. */
export type PgVectorDistance = "cosine" | "l2" | "ip";

/** An index of type HNSW. https://github.com/pgvector/pgvector#hnsw */
export interface HnswIndex {
  /** The only one that the sink makes; others you make yourself. */
  type: "hnsw";
  /** Default `"cosine"`. */
  distance?: PgVectorDistance;
  /** Connections of a vector with others in a layer. Default: pgvector's, 16. */
  m?: number;
  /** How many candidates are looked at for each vector that is added. Default: pgvector's, 64. */
  efConstruction?: number;
}

/** The operator by which the nearest come first, and what is done to it for a score that is greater for nearer. */
export const OPERATORS: Record<PgVectorDistance, { operator: string; score: string }> = {
  cosine: { operator: "<=>", score: "1 -" },
  l2: { operator: "<->", score: "-" },
  ip: { operator: "<#>", score: "-" },
};

/** More dimensions HNSW does not index. */
const MAX_DIMENSIONS: Record<PgVectorType, number> = {
  vector: 2000,
  halfvec: 4000,
  sparsevec: 1_000_000_000,
};

/** @throws {SinkError} `sink-options` where pgvector could not make it. */
export function readIndex(
  index: "hnsw" | HnswIndex,
  type: PgVectorType,
  dimensions: number,
): HnswIndex {
  const read: HnswIndex = index === "hnsw" ? { type: "hnsw" } : index;
  if (read.type !== "hnsw" || !Object.hasOwn(OPERATORS, read.distance ?? "cosine")) {
    throw optionsError(
      "createTable.index is none that the sink makes",
      'Pass "hnsw", or { type: "hnsw", distance: "cosine" }, or "l2" or "ip" for it',
    );
  }
  for (const number of [read.m, read.efConstruction]) {
    if (number !== undefined && !(Number.isInteger(number) && number > 0)) {
      throw optionsError(
        "m or efConstruction of createTable.index is no positive integer",
        "Leave it out for pgvector's default",
      );
    }
  }
  if (dimensions > MAX_DIMENSIONS[type]) {
    throw optionsError(
      `createTable.index: HNSW indexes at most ${MAX_DIMENSIONS[type]} dimensions of a ${type}, ` +
        `not ${dimensions}`,
      type === "vector" && dimensions <= MAX_DIMENSIONS.halfvec
        ? 'Pass type: "halfvec", which is indexed up to 4000'
        : "Leave the index out, or take a smaller model",
    );
  }
  return read;
}

/**
 * Makes the index where there is none of its kind; one whose making failed is made anew. Without a transaction
 * around it writes go on meanwhile.
 */
export async function createIndex(
  connection: PgVectorConnection,
  names: TableNames,
  { distance = "cosine", m, efConstruction }: HnswIndex,
): Promise<void> {
  const find = async (run = connection.run) => {
    const { columns, indexes } = await readTable(run, names);
    const operators = `${columns.vector?.type ?? "vector"}_${distance}_ops`;
    const found = indexes.filter((index) =>
      index.method === "hnsw" && index.columns[0] === "vector" && index.operators === operators
    );
    return { operators, found };
  };
  let { operators, found } = await find();
  if (found.some(({ valid }) => !valid)) {
    found = await connection.transaction(async (run) => {
      // Another process may be at it: its lock is let go when it is done.
      await run(`lock table ${names.vectors} in share update exclusive mode`);
      const { found } = await find(run);
      for (const { name, valid } of found) if (!valid) await run(`drop index ${name}`);
      return found.filter(({ valid }) => valid);
    });
  }
  if (found.length > 0) return;
  await connection.run(
    indexStatement(names, operators, { m, efConstruction }, !connection.isTransaction),
  );
}

/** The statement that makes an index. @param operators the class: `vector_cosine_ops` */
export function indexStatement(
  { vectors }: TableNames,
  operators: string,
  { m, efConstruction }: { m?: number | undefined; efConstruction?: number | undefined },
  concurrently: boolean,
): string {
  const parameters = [
    ...(m === undefined ? [] : [`m = ${m}`]),
    ...(efConstruction === undefined ? [] : [`ef_construction = ${efConstruction}`]),
  ];
  return `create index ${concurrently ? "concurrently " : ""}on ${vectors} ` +
    `using hnsw (vector ${operators})` +
    (parameters.length === 0 ? "" : ` with (${parameters.join(", ")})`);
}
