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
  publishSql,
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
import { type Difference, differencesOf, differenceWarning } from "./published_differences.ts";

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
    if (!(error instanceof PostgresError)) throw error;
    if (NO_SUCH_PART.has(error.code) && tables.some(isPart)) {
      throw refusedPart(names.publicationName, tables, error);
    }
    if (error.code !== "42501") throw error;
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

/** Of what SQLSTATEs a condition, or a list, is refused that cannot be one of a publication. */
const NO_SUCH_PART = new Set([
  "0A000", // of what a publication cannot do
  "22023",
  "42601", // a syntax error
  "42702",
  "42703", // no such column
  "42804", // no condition
  "42883", // no such function or operator
  "42P10",
  "42P17",
  "42P01",
]);

function isPart({ publish: { columns, where } }: WantedTable): boolean {
  return columns !== null || where !== null;
}

function refusedPart(
  publicationName: string,
  tables: readonly WantedTable[],
  error: PostgresError,
): PublicationError {
  const filters = tables.filter((table) => table.publish.where !== null);
  const parts = filters.length > 0 ? filters : tables.filter(isPart);
  const detail = error.detail === undefined ? "" : ` (${error.detail.replace(/\.$/, "")})`;
  return new PublicationError(
    `The server does not take what is to be published of ${
      parts.map(formatTableName).join(", ")
    }: ${error.summary}${detail}`,
    {
      kind: filters.length > 0 ? "row-filter" : "column-list",
      publicationName,
      hint: filters.length > 0
        ? "A row filter is a condition on columns of the table itself, with operators and functions " +
          "that are built in and immutable."
        : "Look at the columns of the table, and at what else the publication has: " +
          `SELECT * FROM pg_publication_tables WHERE pubname = ${quoteLiteral(publicationName)};`,
      cause: error,
    },
  );
}

function privilegeHint(
  names: PublicationUse,
  existing: Publication | null,
  tables: readonly WantedTable[],
): string {
  const publication = quoteIdentifier(names.publicationName);
  const list = publishSql(tables);
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
  tables: readonly WantedTable[],
  signal?: AbortSignal,
): Promise<PublicationChange> {
  const sql = createPublicationSql(use, tables, connection.serverVersion);
  await changeInOne(connection, sql, signal, async () => {
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
  const missing = new Set(unpublishedTables(existing, tables));
  const added = tables.filter((table) => missing.has(table));
  const unwanted = existing.tables.filter((table) => !wanted.has(table.oid));
  // Other consumers of somebody else's publication would see other names from one row to the next.
  if (!owned) checkPartitionRoots(publicationName, existing, tables);
  const differences = await differencesOf(connection, existing, tables, signal);
  const changing = free ? differences.filter(({ known, listed }) => known && listed) : [];
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
    const own = tables.filter((table) =>
      added.includes(table) || isAsWatched(table, differences, changing)
    );
    await checkFiltersUseIdentity(connection, publicationName, own, signal);
  };
  let altered = sql.length > 0;
  try {
    if (!altered) await checkFilters();
    else {
      await changeInOne(connection, sql.join("; "), signal, async () => {
        await checkFilters();
        await checkWriters(connection, [...added, ...changed], {
          update: !existing.unpublished.includes("update"),
          delete: !existing.unpublished.includes("delete"),
        }, signal);
      });
    }
  } catch (error) {
    // Who may only read it may use it all the same, though not call it shared.
    const marking = shared && !altering;
    if (!(marking && error instanceof PostgresError && error.code === "42501")) throw error;
    altered = false;
  }
  const left = differences.filter((difference) => !changing.includes(difference));
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

function isAsWatched(
  table: WantedTable,
  differences: readonly Difference[],
  changing: readonly Difference[],
): boolean {
  const difference = differences.find((one) => one.table === table);
  return difference === undefined || changing.includes(difference);
}

/** What `publish_generated_columns` has to become; undefined: nothing is to be done. */
function generatedToSet(
  { generatedColumns }: PublicationUse,
  existing: Publication,
): boolean | undefined {
  return generatedColumns === existing.generatedColumns ? undefined : generatedColumns;
}
