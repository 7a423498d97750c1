/** What a store is to hold, and what it holds. */

import type postgres from "postgres";
import { QdrantSink } from "../../src/sinks/qdrant.ts";
import { seededRandom } from "./random.ts";
import type { Database } from "./streams.ts";

/** Any text has a vector; equal texts have equal ones. */
export function vectorOf(text: string): number[] {
  let [a, b, c] = [1, 1, 1];
  for (const char of text) [a, b, c] = [b, c, (a * 31 + char.codePointAt(0)!) % 997];
  return [a, b, c];
}

/** By id, the text. */
export type Contents = Record<string, string>;

/** What a table `(id, v)` holds. */
export async function tableContents(db: Database, table: string): Promise<Contents> {
  const rows = await db.query<{ id: string; v: string }>(
    `SELECT id::text, v FROM ${table} ORDER BY id`,
  );
  return Object.fromEntries(rows.map(({ id, v }) => [id, v]));
}

/** What a table of pgvector holds; fails where a vector is not that of the text. */
export async function pgvectorContents(sql: postgres.Sql, table: string): Promise<Contents> {
  const rows = await sql.unsafe(
    `SELECT id, vector::text AS vector, payload->>'v' AS v FROM ${table} ORDER BY id::int`,
  ).catch((error: { code?: string }) => {
    if (error.code === "42P01") return [];
    throw error;
  });
  for (const { id, vector, v } of rows) {
    if (vector !== JSON.stringify(vectorOf(v))) throw new Error(`${id} has ${vector} for "${v}"`);
  }
  return Object.fromEntries(rows.map(({ id, v }) => [id, v]));
}

/** What a collection of Qdrant holds. */
export async function qdrantContents(url: string, collectionName: string): Promise<Contents> {
  const sink = new QdrantSink({ url, collectionName });
  const hits = await sink.search([1, 1, 1], { limit: 1000 }).catch((error: { kind?: string }) => {
    if (error.kind === "sink-collection-missing") return [];
    throw error;
  });
  return Object.fromEntries(
    hits.sort((a, b) => Number(a.id) - Number(b.id)).map((
      { id, payload },
    ) => [id, payload.v as string]),
  );
}

/** Writes to the table: rows that come, change, go, and change their keys; few of them, so that they meet. */
export async function writeAtRandom(
  db: Database,
  table: string,
  { seed, transactions, keys }: { seed: number; transactions: number; keys: number },
): Promise<void> {
  const random = seededRandom(seed);
  const key = () => Math.floor(random() * keys);
  for (let transaction = 0; transaction < transactions; transaction++) {
    const statements: string[] = [];
    for (let statement = 0; statement < 1 + random() * 4; statement++) {
      const dice = random();
      const id = key();
      if (dice < 0.2) statements.push(`DELETE FROM ${table} WHERE id = ${id}`);
      else if (dice < 0.3) {
        const other = key();
        statements.push(
          `DELETE FROM ${table} WHERE id = ${other} AND ${id} <> ${other}`,
          `UPDATE ${table} SET id = ${other} WHERE id = ${id}`,
        );
      } else {
        const v = `${transaction} ${statement}`;
        statements.push(`INSERT INTO ${table} VALUES (${id}, '${v}')
          ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v`);
      }
    }
    await db.query(statements.join("; "));
  }
}
