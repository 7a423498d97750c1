/** What the catalogue says of the watched tables. */
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { ReplicationError } from "./errors.ts";
import { type CatalogRow, namesOf, nonsense, numberOf, rowsOf } from "./server.ts";

/** A watched table as it stands in the catalogue. */
export interface CatalogTable extends TableName {
  /** `pg_class.oid`. */
  oid: number;
  /** True for the root of partitions: its changes are published under its own name. */
  partitioned: boolean;
  /** `pg_class.relreplident` in words. */
  replicaIdentity: "default" | "nothing" | "full" | "index";
  /** Columns of the primary key, in the key's order; none where there is no primary key. */
  primaryKey: readonly string[];
  /** True where the primary key is DEFERRABLE: the server then takes it for no replica identity. */
  deferrableKey: boolean;
  /** All columns in the table's order; none where one was ever dropped, which moves those after it. */
  columns: readonly string[];
  /** Columns of the index that REPLICA IDENTITY USING INDEX names; none otherwise. */
  identityIndex: readonly string[];
  /** Generated columns, which are not published before PostgreSQL 18, nor there unless asked for. */
  generated: readonly string[];
  /** Those of them that are virtual, which no publication carries (18+). */
  virtual: readonly string[];
  /** Partitions, at any depth, whose updates and deletes would fail once they are published. */
  partitionsWithoutIdentity: readonly string[];
}

const IDENTITIES: ReadonlyMap<string | null | undefined, CatalogTable["replicaIdentity"]> = new Map(
  [
    ["d", "default"],
    ["n", "nothing"],
    ["f", "full"],
    ["i", "index"],
  ],
);

/** Columns of an index of `c`, in the index's order, as a JSON array of names. */
export function indexColumns(condition: string, serverVersion: number): string {
  // Since PostgreSQL 11 an index may INCLUDE columns that are no part of its key.
  const isKey = serverVersion >= 110000 ? "k.position <= i.indnkeyatts" : "true";
  return `(SELECT pg_catalog.json_agg(a.attname ORDER BY k.position)
    FROM pg_catalog.pg_index i,
      pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, position),
      pg_catalog.pg_attribute a
    WHERE i.indrelid = c.oid AND i.indisvalid AND ${condition} AND ${isKey}
      AND a.attrelid = c.oid AND a.attnum = k.attnum)`;
}

/**
 * Looks the tables up by their literal names.
 *
 * @throws {ReplicationError} of kind `table-missing`, naming all that are not there.
 */
export async function readTables(
  connection: Connection,
  names: readonly TableName[],
  signal?: AbortSignal,
): Promise<CatalogTable[]> {
  if (names.length === 0) return [];
  const tables: CatalogTable[] = [];
  const missing: TableName[] = [];
  const wanted = names.map(({ schema, table }) =>
    `(n.nspname = ${quoteLiteral(schema)} AND c.relname = ${quoteLiteral(table)})`
  );
  const rows = await selectTables(connection, wanted.join(" OR "), signal);
  const byName = new Map(rows.map((row) => [formatTableName(nameOf(row)), row]));
  for (const name of names) {
    const row = byName.get(formatTableName(name));
    if (row === undefined) missing.push(name);
    else tables.push(await describe(connection, row, signal));
  }
  if (missing.length > 0) throw await tableMissing(connection, missing, signal);
  return tables;
}

/** Looks one table up by its OID, whatever it is called now; null where it is gone. */
export async function readTable(
  connection: Connection,
  oid: number,
  signal?: AbortSignal,
): Promise<CatalogTable | null> {
  const [row] = await selectTables(connection, `c.oid = ${oid}`, signal);
  return row === undefined ? null : await describe(connection, row, signal);
}

async function selectTables(
  connection: Connection,
  condition: string,
  signal?: AbortSignal,
): Promise<CatalogRow[]> {
  // A generated column is known by pg_attribute.attgenerated, which came with PostgreSQL 12.
  const version = connection.serverVersion;
  const generated = (condition: string) =>
    version >= 120000
      ? `(SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attgenerated ${condition} AND NOT a.attisdropped)`
      : "NULL";
  const result = await connection.query(
    `SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident,
      ${indexColumns("i.indisprimary", version)} AS primary_key,
      (SELECT NOT i.indimmediate FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisprimary) AS deferrable_key,
      ${indexColumns("i.indisreplident", version)} AS identity_index,
      ${generated("<> ''")} AS generated, ${generated("= 'v'")} AS virtual,
      (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0
        HAVING NOT pg_catalog.bool_or(a.attisdropped)) AS columns
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE ${condition}`,
    { signal },
  );
  return rowsOf(result);
}

async function describe(
  connection: Connection,
  row: CatalogRow,
  signal?: AbortSignal,
): Promise<CatalogTable> {
  const name = nameOf(row);
  if ((row.relkind !== "r" && row.relkind !== "p") || row.relpersistence !== "p") {
    throw new ReplicationError(`Cannot watch ${formatTableName(name)}: it is ${kindOf(row)}`, {
      kind: "table-not-publishable",
      hint: "Only ordinary, logged tables and the roots of partitions have changes to publish.",
    });
  }
  if (row.relkind === "p" && connection.serverVersion < 130000) {
    throw new ReplicationError(`Cannot watch ${formatTableName(name)}: it is a partitioned table`, {
      kind: "table-not-publishable",
      hint: "PostgreSQL publishes these from 13 on. Watch its partitions, each by its own name.",
    });
  }
  const oid = numberOf(row, "oid");
  const replicaIdentity = IDENTITIES.get(row.relreplident);
  if (replicaIdentity === undefined) throw nonsense("relreplident");
  const partitioned = row.relkind === "p";
  return {
    ...name,
    oid,
    partitioned,
    replicaIdentity,
    primaryKey: namesOf(row, "primary_key"),
    deferrableKey: row.deferrable_key === "t",
    columns: namesOf(row, "columns"),
    identityIndex: namesOf(row, "identity_index"),
    generated: namesOf(row, "generated"),
    virtual: namesOf(row, "virtual"),
    partitionsWithoutIdentity: partitioned
      ? await partitionsWithoutIdentity(connection, oid, signal)
      : [],
  };
}

function nameOf(row: CatalogRow): TableName {
  return { schema: row.nspname!, table: row.relname! };
}

function kindOf(row: CatalogRow): string {
  const kinds: Record<string, string> = {
    v: "a view",
    m: "a materialized view",
    f: "a foreign table",
    S: "a sequence",
    i: "an index",
    I: "an index",
    c: "a composite type",
  };
  if (row.relpersistence === "u") return "an unlogged table";
  if (row.relpersistence === "t") return "a temporary table";
  return kinds[row.relkind ?? ""] ?? `a relation of kind "${row.relkind}"`;
}

async function partitionsWithoutIdentity(
  connection: Connection,
  root: number,
  signal?: AbortSignal,
): Promise<string[]> {
  const result = await connection.query(
    `WITH RECURSIVE tree(oid) AS (
        SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = ${root}
        UNION ALL
        SELECT i.inhrelid FROM pg_catalog.pg_inherits i, tree t WHERE i.inhparent = t.oid
      )
      SELECT n.nspname, c.relname FROM tree t
        JOIN pg_catalog.pg_class c ON c.oid = t.oid
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind = 'r' AND (c.relreplident = 'n'
        OR c.relreplident = 'd' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
          WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate)
        OR c.relreplident = 'i' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
          WHERE i.indrelid = c.oid AND i.indisreplident AND i.indisvalid))
      ORDER BY 1, 2`,
    { signal },
  );
  return result.rows.map(([schema, table]) => formatTableName({ schema: schema!, table: table! }));
}

/** Names are literal, so the likeliest slip is another case or schema: say what is there. */
async function tableMissing(
  connection: Connection,
  missing: readonly TableName[],
  signal?: AbortSignal,
): Promise<ReplicationError> {
  const bare = missing.map(({ table }) => quoteLiteral(table.toLowerCase()));
  const similar = await connection.query(
    `SELECT n.nspname, c.relname
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE pg_catalog.lower(c.relname::text) IN (${bare.join(", ")})
        AND c.relkind IN ('r', 'p') ORDER BY 1, 2 LIMIT 5`,
    { signal },
  );
  const names = similar.rows.map(([schema, table]) =>
    `"${formatTableName({ schema: schema!, table: table! })}"`
  );
  const tables = missing.map((name) => `"${formatTableName(name)}"`).join(", ");
  return new ReplicationError(
    `${missing.length === 1 ? "Table" : "Tables"} ${tables} not found in this database`,
    {
      kind: "table-missing",
      hint: names.length > 0
        ? `Did you mean ${names.join(" or ")}? Names are literal: watch("schema.Table").`
        : "Create it first, or look at the database name of the connection.",
    },
  );
}
