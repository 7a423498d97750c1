/** What somebody finds who looks at the table of the vectors, and changes nothing. */

import type { Finding } from "../finding.ts";
import type { PgVectorConnection } from "./pgvector_connection.ts";
import { type HnswIndex, indexStatement } from "./pgvector_index.ts";
import {
  checkShape,
  missingStatements,
  readTable,
  type TableNames,
  type TableShape,
  type TableState,
} from "./pgvector_table.ts";
import { SinkError } from "./sink.ts";

/** Fewer vectors are searched fast enough without an index. */
const MANY_VECTORS = 50_000;
const PRIVILEGES = ["SELECT", "INSERT", "UPDATE", "DELETE"] as const;

/** What is known beside what `readTable` tells. */
interface Facts {
  available: boolean;
  role: string;
  /** Of `PRIVILEGES`, those that the role lacks. */
  lacks: string[];
  /** By the server's statistics; −1 where it has none. */
  rows: number;
  /** Publications that have the table. */
  publications: string[];
}

/** Looks at it. @throws what a statement fails by */
export async function inspectTable(
  connection: PgVectorConnection,
  names: TableNames,
  shape: TableShape | undefined,
  index: HnswIndex | undefined,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  const add = (check: string, level: Finding["level"], message: string, fix?: string) =>
    findings.push({
      check: `pgvector-${check}`,
      level,
      subject: names.text,
      message,
      ...fix === undefined ? {} : { fix },
    });
  const state = await readTable(connection.run, names);
  const facts = await readFacts(connection, names);
  add("connection", "ok", "The store answers");
  if (state.extension !== null) add("extension", "ok", `pgvector ${state.extension}`);
  else if (!facts.available) {
    add(
      "extension",
      "problem",
      "The server has no pgvector to be created",
      "Install it on the server: https://github.com/pgvector/pgvector#installation",
    );
  } else if (shape === undefined) {
    add("extension", "problem", "pgvector is not created", "CREATE EXTENSION vector;");
  } else add("extension", "ok", "pgvector is not created yet: the sink does that");
  const statements = missingStatements(state, names, shape, true);
  if (!state.exists && shape !== undefined) {
    add("table", "ok", "The table is not there yet: the sink makes it");
    return findings;
  }
  const fault = faultOf(state, names, shape);
  if (fault !== null) add("table", "problem", fault.summary, fault.hint);
  else if (shape === undefined && statements.length > 0) {
    add(
      "table",
      "problem",
      state.exists ? "The table has no room for what is kept of rows" : "There is no such table",
      `${statements.join("; ")};`,
    );
  } else add("table", "ok", describe(state));
  if (!state.exists) return findings;
  if (facts.lacks.length > 0) {
    add(
      "privileges",
      "problem",
      `The role ${facts.role} lacks ${facts.lacks.join(", ")} on the table`,
      `GRANT ${facts.lacks.join(", ")} ON ${names.vectors} TO ${facts.role};`,
    );
  }
  const { distance = "cosine", m, efConstruction } = index ?? {};
  const operators = `${state.columns.vector?.type ?? "vector"}_${distance}_ops`;
  const found = state.indexes.find(({ method, valid, columns }) =>
    (method === "hnsw" || method === "ivfflat") && valid && columns[0] === "vector"
  );
  if (found !== undefined) add("index", "ok", `Searches use ${found.name} (${found.method})`);
  else if (facts.rows > MANY_VECTORS) {
    add(
      "index",
      "warning",
      `There is no index of some ${facts.rows} vectors: each search reads all of them`,
      `${indexStatement(names, operators, { m, efConstruction }, true)};`,
    );
  } else add("index", "ok", "There is no index of the vectors yet, and few enough of them");
  if (facts.publications.length > 0) {
    add(
      "published",
      "warning",
      `The table is published itself, by ${facts.publications.join(", ")}: what is written there ` +
        "is streamed again",
      `ALTER PUBLICATION ${facts.publications[0]} DROP TABLE ${names.vectors};`,
    );
  }
  return findings;
}

async function readFacts({ run }: PgVectorConnection, names: TableNames): Promise<Facts> {
  const table = `pg_catalog.to_regclass(${literal(names.vectors)})`;
  const [row] = await run(
    `select pg_catalog.json_build_object(
      'available', exists (select from pg_catalog.pg_available_extensions where name = 'vector'),
      'role', pg_catalog.quote_ident(current_user),
      'lacks', (select coalesce(pg_catalog.json_agg(p), '[]')
        from pg_catalog.unnest(array[${PRIVILEGES.map((name) => `'${name}'`).join(", ")}]) p
        where not pg_catalog.has_table_privilege(${table}, p)),
      'rows', coalesce((select reltuples from pg_catalog.pg_class where oid = ${table}), -1),
      'publications', (select coalesce(pg_catalog.json_agg(pg_catalog.quote_ident(p.pubname)), '[]')
        from pg_catalog.pg_publication_tables p
        where pg_catalog.to_regclass(pg_catalog.format('%I.%I', p.schemaname, p.tablename)) = ${table})
    )::text`,
  ) as [string][];
  return JSON.parse(row![0]);
}

function faultOf(
  state: TableState,
  names: TableNames,
  shape: TableShape | undefined,
): SinkError | null {
  if (!state.exists) return null;
  const missing = ["id", "vector", "payload"].filter((name) => !Object.hasOwn(state.columns, name));
  if (missing.length > 0) {
    return new SinkError(`The table has no column ${missing.join(", ")}`, {
      kind: "sink-table-shape",
      sink: "pgvector",
      hint: "It is another table: choose another name for the sink's",
    });
  }
  try {
    if (shape !== undefined) checkShape(state, names, shape);
    return null;
  } catch (error) {
    if (error instanceof SinkError) return error;
    throw error;
  }
}

function describe({ columns }: TableState): string {
  const { type, modifier } = columns.vector!;
  return `The table has vectors of type ${type}${modifier === -1 ? "" : `(${modifier})`}`;
}

function literal(text: string): string {
  return `E'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
