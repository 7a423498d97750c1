/**
 * The statements that make and change publications.
 * https://www.postgresql.org/docs/current/sql-createpublication.html
 */
import { quoteTableName } from "../table_name.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import { inParentheses } from "./row_filter.ts";
import type { CatalogTable } from "./tables.ts";
import type { WatchedTable } from "./watched_table.ts";

/** A table as the catalogue shows it, and what is to be published of it. */
export interface WantedTable extends CatalogTable {
  publish: Pick<WatchedTable, "columns" | "where">;
}

/** What a new publication is to be. */
export interface NewPublication {
  publicationName: string;
  /** Who may remove tables from it. */
  slotName: string;
  /** Carries stored generated columns, where that is said (18+). */
  generatedColumns?: boolean | undefined;
}

/** The COMMENT by which a publication says that a slot owns it. */
export function ownershipComment(slotName: string): string {
  return `${OWNED_BY}${slotName}`;
}

const OWNED_BY = "pgstream: owned by slot ";

/** The slot that may remove tables from a publication with this COMMENT; null where none may. */
export function ownerIn(comment: string | null): string | null {
  return comment?.startsWith(OWNED_BY) ? comment.slice(OWNED_BY.length) : null;
}

/** The statements that make a publication of the tables, if any, which the slot owns. */
export function createPublicationSql(
  { publicationName, slotName, generatedColumns }: NewPublication,
  tables: readonly WantedTable[],
  serverVersion: number,
): string {
  const publication = quoteIdentifier(publicationName);
  const options = optionsSql({
    // Without it, changes of partitions would come under names that nobody watches.
    viaPartitionRoot: tables.some((table) => table.partitioned) && serverVersion >= 130000,
    generatedColumns: generatedColumns === true && serverVersion >= 180000 ? true : undefined,
  });
  const content = tables.length === 0 ? "" : ` FOR TABLE ${publishSql(tables)}`;
  return `CREATE PUBLICATION ${publication}${content}` +
    `${options === null ? "" : ` WITH ${options}`}; ` +
    `COMMENT ON PUBLICATION ${publication} IS ${quoteLiteral(ownershipComment(slotName))}`;
}

/** Options of a publication in parentheses; null where none is to be said. */
export function optionsSql(
  { viaPartitionRoot, generatedColumns }: {
    viaPartitionRoot: boolean;
    generatedColumns: boolean | undefined;
  },
): string | null {
  const options = [
    ...viaPartitionRoot ? ["publish_via_partition_root = true"] : [],
    ...generatedColumns === undefined
      ? []
      : [`publish_generated_columns = ${generatedColumns ? "stored" : "none"}`],
  ];
  return options.length === 0 ? null : `(${options.join(", ")})`;
}

/** What follows ALTER PUBLICATION and its name, where it is to carry these tables too. */
export function addTablesSql(tables: readonly WantedTable[]): string {
  return `ADD TABLE ${publishSql(tables)}`;
}

/** Statements, of one transaction, by which these tables, which it has, are published as they are wanted. */
export function changeTablesSql(publicationName: string, tables: readonly WantedTable[]): string {
  const alter = `ALTER PUBLICATION ${quoteIdentifier(publicationName)}`;
  return `${alter} DROP TABLE ${tables.map(quoteTableName).join(", ")}; ` +
    `${alter} ${addTablesSql(tables)}`;
}

/** Tables with what is to be published of each: `"s"."t" ("a", "b") WHERE (condition)`. */
export function publishSql(tables: readonly WantedTable[]): string {
  return tables.map((table) => {
    const { columns, where } = table.publish;
    return quoteTableName(table) +
      (columns === null ? "" : ` (${columns.map(quoteIdentifier).join(", ")})`) +
      (where === null ? "" : ` WHERE ${inParentheses(where)}`);
  }).join(", ");
}
