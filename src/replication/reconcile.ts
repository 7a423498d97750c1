/**
 * Brings a publication in line with what is watched, and leaves alone what is somebody else's in it.
 * https://www.postgresql.org/docs/current/sql-alterpublication.html
 */
import { formatTableName, quoteTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import { PublicationError } from "./errors.ts";
import { checkFiltersUseIdentity, checkWriters } from "./identity_cover.ts";
import {
  checkPartitionRoots,
  type Publication,
  readPublication,
  unpublishedTables,
} from "./publication.ts";
import {
  addTablesSql,
  changeTablesSql,
  createPublicationSql,
  optionsSql,
  ownerIn,
  type WantedTable,
} from "./publication_sql.ts";
import {
  generatedWarning,
  leftAlone,
  notPublishedWarnings,
  notSentAgain,
  sharedWarning,
  whyLeft,
} from "./publication_warnings.ts";
import { refusedPart } from "./wanted_tables.ts";
import { differencesOf, differenceWarning } from "./published_differences.ts";

/** Who is to use a publication. */
export interface PublicationUse {
  publicationName: string;
  slotName: string;
  /** The walsender that streams from the slot now, perhaps with another watch list; null: none. */
  slotActivePid: number | null;
  /** Whether stored generated columns are to be carried; undefined: as it is (18+). */
  generatedColumns?: boolean | undefined;
}

/** What `reconcilePublication` did. */
export interface PublicationChange {
  publication: "created" | "altered" | "found";
  /** Tables that were added, `schema.table`. */
  added: string[];
  /** Tables that were removed, `schema.table`. */
  removed: string[];
  /** Tables of which other columns or rows are published than before, `schema.table`. */
  changed: string[];
  /** What it found and left alone. */
  warnings: string[];
}

/** The COMMENT of a publication that more than one slot reads: nobody removes tables from it. */
const SHARED = "pgstream: shared by several slots";

/** Errors of a set-up that meets another one in what it was about to do. */
const MET_ANOTHER = new Set([
  "42710", // it is there already
  "23505", // … and was being made at the same moment
  "42704", // a table that was to be removed is not there any more
  "XX000", // "tuple concurrently updated"
  "40P01", // a deadlock
]);
const MEETINGS = 5;

/**
 * Makes the publication carry the tables: creates it, adds what is missing, and removes or changes what is
 * not wanted so any more where this slot owns it and nobody streams from it. A publication of somebody
 * else's keeps its other tables, and what it publishes of those that it has.
 *
 * @throws {PublicationError} of kind `publication-privilege` where the role may not do what is needed;
 * `publication-partition-root` where somebody else's would have to be switched over; `column-list` and
 * `row-filter` where the server refuses them; {ReplicationError} of kind `identity-not-covered`. Nothing was changed
 * then.
 */
export async function reconcilePublication(
  connection: Connection,
  names: PublicationUse,
  tables: readonly WantedTable[],
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
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const existing = await readPublication(connection, names.publicationName, signal);
  try {
    if (existing === null) return await create(connection, names, tables, signal);
    return await alter(connection, names, existing, tables, signal);
  } catch (error) {
    throw refusedPart(names.publicationName, tables, error) ?? error;
  }
}

/**
 * What the role may not do, somebody else may: the very statements are in the hint. In one transaction: what is
 * written between two of them could be published by neither.
 */
function notAllowed(
  { publicationName }: PublicationUse,
  sql: string,
  verb: "create" | "alter",
  error: PostgresError,
): PublicationError {
  return new PublicationError(`Cannot ${verb} publication "${publicationName}": ${error.summary}`, {
    kind: "publication-privilege",
    publicationName,
    hint: "The role needs CREATE on the database, and must own the tables" +
      `${verb === "create" ? "" : " and the publication"}; ` +
      `or let somebody who does run, once: BEGIN; ${sql}; COMMIT;`,
    cause: error,
  });
}

async function create(
  connection: Connection,
  use: PublicationUse,
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const sql = createPublicationSql(use, tables, connection.serverVersion);
  await changeInOne(connection, use, "create", sql, signal, async () => {
    await checkFiltersUseIdentity(connection, use.publicationName, tables, signal);
    await checkWriters(connection, tables, { update: true, delete: true }, signal);
  });
  return {
    publication: "created",
    added: tables.map(formatTableName),
    removed: [],
    changed: [],
    warnings: [],
  };
}

/** In one transaction, so that a publication is never seen half altered, nor what `check` refuses. */
async function changeInOne(
  connection: Connection,
  use: PublicationUse,
  verb: "create" | "alter",
  sql: string,
  signal: AbortSignal | undefined,
  check: () => Promise<void>,
): Promise<void> {
  try {
    await connection.query(`BEGIN; ${sql}`, { signal });
    await check();
    await connection.query("COMMIT", { signal });
  } catch (error) {
    // Where it is given up, so is the connection.
    if (signal?.aborted !== true) await connection.query("ROLLBACK", { signal }).catch(() => {});
    if (error instanceof PostgresError && error.code === "42501") {
      throw notAllowed(use, sql, verb, error);
    }
    throw error;
  }
}

async function alter(
  connection: Connection,
  use: PublicationUse,
  existing: Publication,
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const { publicationName, slotName, slotActivePid } = use;
  const owner = ownerIn(existing.comment);
  const owned = owner === slotName;
  const free = maySet(use, existing);
  const wanted = new Set(tables.map((table) => table.oid));
  const added = unpublishedTables(existing, tables);
  const unwanted = existing.tables.filter((table) => !wanted.has(table.oid));
  // Other consumers of somebody else's publication would see other names from one row to the next.
  if (!owned) checkPartitionRoots(publicationName, existing, tables);
  const differences = await differencesOf(connection, existing, tables, signal);
  const changing = free ? differences.filter(({ known, listed }) => known && listed) : [];
  const left = differences.filter((difference) => !changing.includes(difference));
  const changed = changing.map(({ table }) => table);
  const removed = free ? unwanted : [];
  const generated = generatedToSet(use, existing);

  const alter = `ALTER PUBLICATION ${quoteIdentifier(publicationName)}`;
  const sql: string[] = [];
  // First: a row filter of a root needs it.
  const options = optionsSql({
    viaPartitionRoot: tables.some((table) => table.partitioned) && !existing.viaPartitionRoot,
    generatedColumns: free ? generated : undefined,
  });
  if (options !== null) sql.push(`${alter} SET ${options}`);
  if (changed.length > 0) sql.push(changeTablesSql(publicationName, changed));
  if (added.length > 0) sql.push(`${alter} ${addTablesSql(added)}`);
  if (removed.length > 0) {
    sql.push(`${alter} DROP TABLE ${removed.map(quoteTableName).join(", ")}`);
  }
  const altering = sql.length > 0;
  // Else the setup() of the slot that it was made for would take our tables out of it again.
  const shared = owner !== null && !owned;
  if (shared) {
    sql.push(
      `COMMENT ON PUBLICATION ${quoteIdentifier(publicationName)} IS ${quoteLiteral(SHARED)}`,
    );
  }
  const checkFilters = async () => {
    if (!carriesIdentity(existing)) return;
    const others = new Set(left.map(({ table }) => table));
    const own = tables.filter((table) => !others.has(table));
    await checkFiltersUseIdentity(connection, publicationName, own, signal);
  };
  let altered = sql.length > 0;
  try {
    if (!altered) await checkFilters();
    else {
      await changeInOne(connection, use, "alter", sql.join("; "), signal, async () => {
        await checkFilters();
        const touched = free && generated !== undefined ? tables : [...added, ...changed];
        await checkWriters(connection, touched, {
          update: !existing.unpublished.includes("update"),
          delete: !existing.unpublished.includes("delete"),
        }, signal);
      });
    }
  } catch (error) {
    // Who may only read it may use it all the same, though not call it shared.
    const refused = error instanceof PublicationError && error.kind === "publication-privilege";
    if (!(shared && !altering && refused)) throw error;
    altered = false;
  }
  const why = free ? undefined : whyLeft(owned ? slotActivePid : null);
  return {
    publication: altered ? "altered" : "found",
    added: added.map(formatTableName),
    removed: removed.map(formatTableName),
    changed: changed.map(formatTableName),
    warnings: [
      ...shared ? [sharedWarning(publicationName, owner, altered)] : [],
      ...removed.length < unwanted.length
        ? [leftAlone(publicationName, unwanted, owned ? slotActivePid : null)]
        : [],
      ...changed.length > 0 ? [notSentAgain(changed)] : [],
      ...left.map((difference) => differenceWarning(publicationName, difference, { why })),
      ...generated !== undefined && !free
        ? [generatedWarning(publicationName, generated, whyLeft(owned ? slotActivePid : null))]
        : [],
      ...notPublishedWarnings(publicationName, existing),
    ],
  };
}

/** True where what the publication carries may be taken away or changed: it is ours, and nobody reads it. */
export function maySet(
  { slotName, slotActivePid }: PublicationUse,
  { comment }: Publication,
): boolean {
  return ownerIn(comment) === slotName && slotActivePid === null;
}

/** True where an update or a delete is carried, for which the server looks at the identity. */
export function carriesIdentity({ unpublished }: Publication): boolean {
  return !(unpublished.includes("update") && unpublished.includes("delete"));
}

/** What `publish_generated_columns` has to become; undefined: nothing is to be done. */
function generatedToSet(
  { generatedColumns }: PublicationUse,
  existing: Publication,
): boolean | undefined {
  return generatedColumns === existing.generatedColumns ? undefined : generatedColumns;
}
