/**
 * Row filters of publications: the same or another one is for the server to say, not for their texts.
 * https://www.postgresql.org/docs/current/logical-replication-row-filter.html
 */
import { quoteTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { namesOf, nonsense, rowsOf, textOf } from "./server.ts";
import type { CatalogTable } from "./tables.ts";

/** A condition in parentheses, which a comment at its end does not swallow. */
export function inParentheses(condition: string): string {
  return condition.includes("--") ? `(${condition}\n)` : `(${condition})`;
}

/**
 * Whether two conditions let the same rows through, as far as the server can tell: `a > 1+1` and
 * `((t.a > 2))` do. Needs SELECT on the table, and reads nothing.
 *
 * @returns null where the role may not ask and the texts differ
 * @throws {PostgresError} where one of them is no condition on the table's columns
 */
export async function isSameFilter(
  connection: Connection,
  table: CatalogTable,
  one: string,
  other: string,
  signal?: AbortSignal,
): Promise<boolean | null> {
  if (bare(one) === bare(other)) return true;
  let text: string;
  try {
    const [row] = rowsOf(await connection.query(sameFilterSql(table, one, other), { signal }));
    text = textOf(row, "QUERY PLAN");
  } catch (error) {
    if (error instanceof PostgresError && error.code === "42501") return null;
    throw error;
  }
  const [a, b] = outputsIn(text);
  return a === b;
}

/**
 * A plan that prints both conditions as the server understands them. In the list of a SELECT nothing is
 * left out of them: as a WHERE, partitions and constraints would make one condition look like another.
 * ONLY, since of a root with many partitions the plan would be long.
 */
export function sameFilterSql(table: CatalogTable, one: string, other: string): string {
  return "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT " +
    `${inParentheses(one)} IS TRUE, ${inParentheses(other)} IS TRUE ` +
    `FROM ONLY ${quoteTableName(table)}`;
}

function outputsIn(text: string): [string, string] {
  let plans: unknown;
  try {
    plans = JSON.parse(text);
  } catch {
    throw nonsense("QUERY PLAN");
  }
  const output = (plans as { Plan?: { Output?: unknown } }[])?.[0]?.Plan?.Output;
  if (Array.isArray(output) && output.length === 2) return output as [string, string];
  throw nonsense("QUERY PLAN");
}

/** Without the parentheses around all of it, where that can be told for sure. */
function bare(condition: string): string {
  const text = condition.trim();
  if (!text.startsWith("(") || !text.endsWith(")") || /['"$\\]|--|\/\*/.test(text)) return text;
  let depth = 0;
  for (let index = 0; index < text.length - 1; index++) {
    if (text[index] === "(") depth++;
    else if (text[index] === ")" && --depth === 0) return text;
  }
  return bare(text.slice(1, -1));
}

/** The columns that the row filters of a publication's tables use, by the tables' OIDs. */
export async function readFilterColumns(
  connection: Connection,
  publicationName: string,
  signal?: AbortSignal,
): Promise<Map<number, readonly string[]>> {
  // Of the condition's tree only the places of columns are looked at.
  const result = await connection.query(
    `SELECT r.prrelid, (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.prrelid AND a.attnum IN (
          SELECT (m.found)[1]::pg_catalog.int2 FROM pg_catalog.regexp_matches(
            r.prqual::pg_catalog.text, ':varattno ([0-9]+)', 'g') AS m(found))) AS columns
      FROM pg_catalog.pg_publication_rel r
        JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid
      WHERE p.pubname = ${quoteLiteral(publicationName)} AND r.prqual IS NOT NULL`,
    { signal },
  );
  return new Map(rowsOf(result).map((row) => [Number(row.prrelid), namesOf(row, "columns")]));
}
