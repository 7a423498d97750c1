/** The nearest points of the table. */

import { formatPayload } from "./payload.ts";
import type { PgVectorConnection, Run } from "./pgvector_connection.ts";
import { OPERATORS, type PgVectorDistance } from "./pgvector_index.ts";
import { vectorFormat } from "./pgvector_points.ts";
import type { TableNames, TableState } from "./pgvector_table.ts";
import type { SearchOptions } from "./rows.ts";
import type { SearchHit, VectorPoint } from "./sink.ts";

/** So many points an HNSW index gives by itself, `hnsw.ef_search`, and the most that can be set. */
const EF_SEARCH = 40;
const MAX_EF_SEARCH = 1000;

/** Finds them by `distance`. */
export async function searchPoints(
  connection: PgVectorConnection,
  names: TableNames,
  state: TableState,
  distance: PgVectorDistance,
  vector: VectorPoint["vector"],
  { limit = 10, filter, table }: SearchOptions,
): Promise<SearchHit[]> {
  const { operator, score } = OPERATORS[distance];
  const parameters = [vectorFormat(state)(vector), String(limit)];
  const conditions: string[] = [];
  if (filter !== undefined) {
    const number = parameters.push(formatPayload(filter, "pgvector"));
    conditions.push(`payload @> $${number}::text::jsonb`);
  }
  if (table !== undefined) conditions.push(`source_table = $${parameters.push(table)}::text`);
  const where = conditions.length === 0 ? "" : `where ${conditions.join(" and ")}`;
  const find = (run: Run) =>
    run(
      `select id::text, (${score} (vector ${operator} $1))::text, payload::text
       from ${names.vectors} ${where} order by vector ${operator} $1 limit $2::text::bigint`,
      parameters,
    );

  const isIndexed = state.indexes.some(({ method }) => method === "hnsw");
  const rows = isIndexed && (conditions.length > 0 || limit > EF_SEARCH)
    ? await connection.transaction(async (run) => {
      await run(lookFurther(state, limit));
      return await find(run);
    })
    : await find(connection.run);
  return rows.map((row) => {
    const [id, score, payload] = row as [string, string, string | null];
    // A vector of zeroes has no direction: NaN.
    return { id, score: Number(score) || 0, payload: JSON.parse(payload ?? "{}") ?? {} };
  });
}

/**
 * The index gives its nearest, and only then are those left out that do not match: without this there would be too
 * few. https://github.com/pgvector/pgvector#iterative-index-scans
 */
function lookFurther({ extension }: TableState, limit: number): string {
  const efSearch = Math.min(Math.max(limit, EF_SEARCH), MAX_EF_SEARCH);
  const [major = 0, minor = 0] = (extension ?? "").split(".").map(Number);
  // Loads the library: a setting that it does not know yet is taken without a look.
  return `select '[1]'::vector::text, set_config('hnsw.ef_search', '${efSearch}', true)${
    major > 0 || minor >= 8 ? ", set_config('hnsw.iterative_scan', 'strict_order', true)" : ""
  }`;
}
