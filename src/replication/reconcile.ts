/**
 * Brings a publication in line with what is watched, and leaves alone what is somebody else's in it.
 * https://www.postgresql.org/docs/current/sql-alterpublication.html
 */
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import { PublicationError } from "./errors.ts";
import {
  checkPartitionRoots,
  type Publication,
  readPublication,
  unpublishedTables,
} from "./publication.ts";
import type { CatalogTable } from "./tables.ts";

/** Who is to use a publication. */
export interface PublicationUse {
  publicationName: string;
  slotName: string;
  /** The walsender that streams from the slot now, perhaps with another watch list; null: none. */
  slotActivePid: number | null;
}

/** What `reconcilePublication` did. */
export interface PublicationChange {
  publication: "created" | "altered" | "found";
  /** Tables that were added, `schema.table`. */
  added: string[];
  /** Tables that were removed, `schema.table`. */
  removed: string[];
  /** What it found and left alone. */
  warnings: string[];
}

/** The COMMENT by which a publication says that a slot owns it. */
export function ownershipComment(slotName: string): string {
  return `${OWNED_BY}${slotName}`;
}

const OWNED_BY = "pgstream: owned by slot ";
/** The COMMENT of a publication that more than one slot reads: nobody removes tables from it. */
const SHARED = "pgstream: shared by several slots";

/** The slot that may remove tables from the publication; null where none may. */
function ownerOf({ comment }: Publication): string | null {
  return comment?.startsWith(OWNED_BY) ? comment.slice(OWNED_BY.length) : null;
}

/** Errors of a set-up that meets another one in what it was about to do. */
const MET_ANOTHER = new Set([
  "42710", // it is there already
  "23505", // … and was being made at the same moment
  "42704", // a table that was to be removed is not there any more
  "XX000", // "tuple concurrently updated"
]);
const MEETINGS = 5;

/**
 * Makes the publication carry the tables: creates it, adds what is missing, and removes what is not
 * wanted any more where this slot owns it and nobody streams from it. A publication of somebody else's
 * keeps its other tables.
 *
 * @throws {PublicationError} of kind `publication-privilege` where the role may not do what is needed;
 * `publication-partition-root` where somebody else's would have to be switched over.
 */
export async function reconcilePublication(
  connection: Connection,
  names: PublicationUse,
  tables: readonly CatalogTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  for (let meetings = 0;; meetings++) {
    try {
      return await reconcileOnce(connection, names, tables, signal);
    } catch (error) {
      const met = error instanceof PostgresError && MET_ANOTHER.has(error.code);
      if (!met || meetings === MEETINGS) throw error;
    }
  }
}

async function reconcileOnce(
  connection: Connection,
  names: PublicationUse,
  tables: readonly CatalogTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const existing = await readPublication(connection, names.publicationName, signal);
  try {
    if (existing === null) return await create(connection, names, tables, signal);
    return await alter(connection, names, existing, tables, signal);
  } catch (error) {
    if (!(error instanceof PostgresError) || error.code !== "42501") throw error;
    throw new PublicationError(
      `Cannot ${existing === null ? "create" : "alter"} publication ` +
        `"${names.publicationName}": ${error.summary}`,
      {
        kind: "publication-privilege",
        publicationName: names.publicationName,
        hint: privilegeHint(names, existing, tables),
        cause: error,
      },
    );
  }
}

function privilegeHint(
  names: PublicationUse,
  existing: Publication | null,
  tables: readonly CatalogTable[],
): string {
  const publication = quoteIdentifier(names.publicationName);
  const list = listTables(tables);
  const statement = existing === null
    ? `CREATE PUBLICATION ${publication} FOR TABLE ${list}`
    : `ALTER PUBLICATION ${publication} SET TABLE ${list}`;
  return "The role needs CREATE on the database, and must own the tables" +
    `${existing === null ? "" : " and the publication"}; ` +
    `or let somebody who does run, once: ${statement};`;
}

async function create(
  connection: Connection,
  use: PublicationUse,
  tables: readonly CatalogTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  await connection.query(createPublicationSql(use, tables, connection.serverVersion), { signal });
  return { publication: "created", added: tables.map(formatTableName), removed: [], warnings: [] };
}

/** The statements that make a publication of the tables, which the slot owns. */
export function createPublicationSql(
  { publicationName, slotName }: PublicationUse,
  tables: readonly CatalogTable[],
  serverVersion: number,
): string {
  const publication = quoteIdentifier(publicationName);
  // Without it, changes of partitions would come under names that nobody watches.
  const viaRoot = tables.some((table) => table.partitioned) && serverVersion >= 130000;
  return `CREATE PUBLICATION ${publication} FOR TABLE ${listTables(tables)}` +
    `${viaRoot ? " WITH (publish_via_partition_root = true)" : ""}; ` +
    `COMMENT ON PUBLICATION ${publication} IS ${quoteLiteral(ownershipComment(slotName))}`;
}

/** What follows ALTER PUBLICATION and its name, where it is to carry these tables too. */
export function addTablesSql(tables: readonly CatalogTable[]): string {
  return `ADD TABLE ${listTables(tables)}`;
}

/** Warns of operations that no event will tell of. */
export function notPublishedWarnings(publicationName: string, existing: Publication): string[] {
  return existing.unpublished.map((operation) =>
    `Publication "${publicationName}" does not publish ${operation}: no such event will come. ` +
    `Run: ALTER PUBLICATION ${quoteIdentifier(publicationName)} ` +
    "SET (publish = 'insert, update, delete, truncate');"
  );
}

async function alter(
  connection: Connection,
  { publicationName, slotName, slotActivePid }: PublicationUse,
  existing: Publication,
  tables: readonly CatalogTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const publication = quoteIdentifier(publicationName);
  const owner = ownerOf(existing);
  const owned = owner === slotName;
  const wanted = new Set(tables.map((table) => table.oid));
  const added = unpublishedTables(existing, tables);
  const unwanted = existing.tables.filter((table) => !wanted.has(table.oid));
  // Other consumers of somebody else's publication would see other names from one row to the next.
  if (!owned) checkPartitionRoots(publicationName, existing, tables);
  const viaRoot = tables.some((table) => table.partitioned) && !existing.viaPartitionRoot;

  const statements = [];
  if (added.length > 0) statements.push(addTablesSql(added));
  const removed = owned && slotActivePid === null ? unwanted : [];
  if (removed.length > 0) statements.push(`DROP TABLE ${listTables(removed)}`);
  if (viaRoot) statements.push("SET (publish_via_partition_root = true)");
  const sql = statements.map((statement) => `ALTER PUBLICATION ${publication} ${statement}`);
  // Else the setup() of the slot that it was made for would take our tables out of it again.
  const shared = owner !== null && !owned;
  if (shared) sql.push(`COMMENT ON PUBLICATION ${publication} IS ${quoteLiteral(SHARED)}`);
  let altered = sql.length > 0;
  try {
    // One string is one transaction: the publication is never seen half altered.
    if (altered) await connection.query(sql.join("; "), { signal });
  } catch (error) {
    // Who may only read it may use it all the same, though not call it shared.
    const marking = shared && statements.length === 0;
    if (!(marking && error instanceof PostgresError && error.code === "42501")) throw error;
    altered = false;
  }
  return {
    publication: altered ? "altered" : "found",
    added: added.map(formatTableName),
    removed: removed.map(formatTableName),
    warnings: [
      ...shared ? [sharedWarning(publicationName, owner, altered)] : [],
      ...removed.length < unwanted.length
        ? [leftAlone(publicationName, unwanted, owned ? slotActivePid : null)]
        : [],
      ...notPublishedWarnings(publicationName, existing),
    ],
  };
}

function sharedWarning(publicationName: string, owner: string, marked: boolean): string {
  return `Publication "${publicationName}" was made for slot "${owner}"` +
    (marked
      ? " and is shared from now on: neither slot's setup() removes tables from it"
      : ", whose setup() may remove tables from it: this role may not mark it as shared") +
    ". A publicationName for each slot keeps them apart.";
}

function leftAlone(
  publicationName: string,
  tables: Publication["tables"],
  slotActivePid: number | null,
): string {
  const why = slotActivePid === null
    ? "its COMMENT does not say that this slot alone owns it"
    : `the slot is in use by PID ${slotActivePid}, which may watch them; setup() while nothing ` +
      "streams removes them";
  return `Publication "${publicationName}" also has ${
    tables.map(formatTableName).join(", ")
  }, not ` +
    `watched here. They stay: ${why}.`;
}

function listTables(tables: readonly TableName[]): string {
  return tables.map(quoteTableName).join(", ");
}
