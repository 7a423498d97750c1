/**
 * The publication: which tables the slot's stream carries.
 * https://www.postgresql.org/docs/current/logical-replication-publication.html
 */
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import { PublicationError } from "./errors.ts";
import { namesOf, numberOf, rowsOf, textOf } from "./server.ts";
import type { CatalogTable } from "./tables.ts";

/** What a publication carries of a table. */
export interface PublishedAs {
  /** Only these columns, in the table's order; null: all (15+). */
  columns: readonly string[] | null;
  /** Only rows for which this condition holds, as the server prints it; null: all (15+). */
  filter: string | null;
}

/** A table that a publication lists. */
export interface PublishedTable extends TableName, PublishedAs {
  oid: number;
}

/** A publication as it stands in the catalogue. */
export interface Publication {
  /** FOR ALL TABLES. */
  allTables: boolean;
  /** FOR TABLES IN SCHEMA (15+). */
  schemas: readonly string[];
  /** Tables that are listed themselves. */
  tables: readonly PublishedTable[];
  /** The same by their OIDs: both this and what is watched may be thousands. */
  byOid: ReadonlyMap<number, PublishedTable>;
  /** Operations that are not published, of insert, update, delete, truncate. */
  unpublished: readonly string[];
  /** Changes of partitions come under the root's name (13+). */
  viaPartitionRoot: boolean;
  /** Stored generated columns are published (18+). */
  generatedColumns: boolean;
  /** Its COMMENT: says who may remove tables from it. */
  comment: string | null;
}

/** Looks a publication up; null where there is none. */
export async function readPublication(
  connection: Connection,
  name: string,
  signal?: AbortSignal,
): Promise<Publication | null> {
  const version = connection.serverVersion;
  const [row] = rowsOf(
    await connection.query(
      `SELECT p.oid, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete,
        ${version >= 110000 ? "p.pubtruncate" : "true"} AS pubtruncate,
        ${version >= 130000 ? "p.pubviaroot" : "false"} AS pubviaroot,
        ${version >= 180000 ? "p.pubgencols = 's'" : "false"} AS pubgencols,
        pg_catalog.obj_description(p.oid, 'pg_publication') AS comment
      FROM pg_catalog.pg_publication p WHERE p.pubname = ${quoteLiteral(name)}`,
      { signal },
    ),
  );
  if (row === undefined) return null;
  const oid = numberOf(row, "oid");
  const lists = version >= 150000
    ? `(SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::pg_catalog.int2[])) AS columns,
      pg_catalog.pg_get_expr(r.prqual, c.oid) AS filter`
    : "NULL AS columns, NULL AS filter";
  const listed = await connection.query(
    `SELECT c.oid, n.nspname, c.relname, ${lists} FROM pg_catalog.pg_publication_rel r
      JOIN pg_catalog.pg_class c ON c.oid = r.prrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE r.prpubid = ${oid} ORDER BY 2, 3`,
    { signal },
  );
  const schemas = version < 150000 ? [] : rowsOf(
    await connection.query(
      `SELECT n.nspname FROM pg_catalog.pg_publication_namespace p
        JOIN pg_catalog.pg_namespace n ON n.oid = p.pnnspid WHERE p.pnpubid = ${oid}`,
      { signal },
    ),
  ).map((row) => textOf(row, "nspname"));
  const tables = rowsOf(listed).map((row): PublishedTable => ({
    oid: numberOf(row, "oid"),
    schema: textOf(row, "nspname"),
    table: textOf(row, "relname"),
    columns: row.columns == null ? null : namesOf(row, "columns"),
    filter: row.filter ?? null,
  }));
  return {
    allTables: row.puballtables === "t",
    schemas,
    tables,
    byOid: new Map(tables.map((table) => [table.oid, table])),
    unpublished: ["insert", "update", "delete", "truncate"].filter((operation) =>
      row[`pub${operation}`] !== "t"
    ),
    viaPartitionRoot: row.pubviaroot === "t",
    generatedColumns: row.pubgencols === "t",
    comment: row.comment ?? null,
  };
}

/** Those of the tables that the publication does not carry. */
export function unpublishedTables<Table extends CatalogTable>(
  publication: Publication,
  tables: readonly Table[],
): Table[] {
  return tables.filter((table) => publishedAs(publication, table) === null);
}

/** What the publication carries of a table; null: nothing. A schema's tables are carried whole. */
export function publishedAs(
  { allTables, schemas, byOid }: Publication,
  { oid, schema }: CatalogTable,
): PublishedAs | null {
  if (allTables || schemas.includes(schema)) return { columns: null, filter: null };
  return byOid.get(oid) ?? null;
}

/**
 * Checks that changes of partitions come under the name of the root that is watched.
 *
 * @throws {PublicationError} of kind `publication-partition-root`: no change would be recognised.
 */
export function checkPartitionRoots(
  publicationName: string,
  publication: Publication,
  tables: readonly CatalogTable[],
): void {
  const roots = tables.filter((table) => table.partitioned);
  if (publication.viaPartitionRoot || roots.length === 0) return;
  throw new PublicationError(
    `Publication "${publicationName}" publishes changes of the partitions of ` +
      `${roots.map(formatTableName).join(", ")} under their own names`,
    {
      kind: "publication-partition-root",
      publicationName,
      hint: "If its other consumers can take the root's name: ALTER PUBLICATION " +
        `${quoteIdentifier(publicationName)} SET (publish_via_partition_root = true); ` +
        "else choose another publicationName.",
    },
  );
}
