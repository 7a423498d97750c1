/** The publication: whether it carries what is watched, or may be made to. */

import { PgStreamError } from "../errors.ts";
import { checkFiltersUseIdentity, checkListsCoverIdentity } from "../replication/identity_cover.ts";
import {
  checkPartitionRoots,
  type Publication,
  publishedAs,
  readPublication,
} from "../replication/publication.ts";
import {
  addTablesSql,
  createPublicationSql,
  ownerIn,
  type WantedTable,
} from "../replication/publication_sql.ts";
import { differencesOf, differenceWarning } from "../replication/published_differences.ts";
import { carriesIdentity } from "../replication/reconcile.ts";
import { rowsOf } from "../replication/server.ts";
import { formatTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import type { Findings } from "./findings.ts";

/** Looks at it, with the tables that are there. @param slotName whose publication it would be */
export async function findPublication(
  connection: Connection,
  { publicationName, slotName }: { publicationName: string; slotName: string },
  tables: readonly WantedTable[],
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const publication = await readPublication(connection, publicationName, signal);
  const subject = publicationName;
  if (publication === null) {
    findings.ok("publication", "The publication is not there yet: setup() makes it", subject);
    const sql = createPublicationSql(
      { publicationName, slotName },
      tables,
      connection.serverVersion,
    );
    await findRights(connection, tables, true, `${sql};`, findings, subject, signal);
    return;
  }
  await findTablesOf(connection, publication, publicationName, tables, findings, signal);
  if (publication.unpublished.length > 0) {
    findings.warning(
      "publication-operations",
      `The publication does not publish ${
        publication.unpublished.join(", ")
      }: no such event will come`,
      `ALTER PUBLICATION ${quoteIdentifier(publicationName)} ` +
        "SET (publish = 'insert, update, delete, truncate');",
      subject,
    );
  }
  const owner = ownerIn(publication.comment);
  if (owner !== null && owner !== slotName) {
    findings.warning(
      "publication-owner",
      `The publication was made for slot "${owner}", whose setup() may remove tables from it`,
      "A publicationName of your own keeps them apart; setup() marks it as shared",
      subject,
    );
  }
}

async function findTablesOf(
  connection: Connection,
  publication: Publication,
  publicationName: string,
  tables: readonly WantedTable[],
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const subject = publicationName;
  const missing = tables.filter((table) => publishedAs(publication, table) === null);
  const there = tables.filter((table) => !missing.includes(table));
  if (missing.length > 0) {
    const sql = `ALTER PUBLICATION ${quoteIdentifier(publicationName)} ${addTablesSql(missing)};`;
    findings.problem(
      "publication-tables",
      `The publication lacks ${
        missing.map(formatTableName).join(", ")
      }: their changes are not sent`,
      sql,
      subject,
    );
    await findRights(connection, missing, false, sql, findings, subject, signal);
  } else {
    const what = publication.allTables
      ? "all tables, those included that are not watched"
      : tables.map(formatTableName).join(", ");
    findings.ok("publication-tables", `The publication has ${what}`, subject);
  }
  const each = async (check: () => unknown): Promise<void> => {
    try {
      await check();
    } catch (error) {
      if (signal.aborted || !(error instanceof PgStreamError)) throw error;
      findings.error(error, subject);
    }
  };
  await each(() => checkPartitionRoots(publicationName, publication, there));
  if (carriesIdentity(publication)) {
    const asPublished = there.map((table) => {
      const { columns, filter } = publishedAs(publication, table)!;
      return { ...table, publish: { columns, where: filter } };
    });
    for (const table of asPublished) await each(() => checkListsCoverIdentity([table]));
    await each(() => checkFiltersUseIdentity(connection, publicationName, asPublished, signal));
  }
  await each(async () => {
    for (const difference of await differencesOf(connection, publication, there, signal)) {
      findings.warning(
        "publication-part",
        differenceWarning(publicationName, difference, {}),
        "setup() brings it in line where the publication is this slot's own",
        subject,
      );
    }
  });
}

/** Whether the role may make it, or add to it. @param sql what somebody who may would have to run */
async function findRights(
  connection: Connection,
  tables: readonly WantedTable[],
  creates: boolean,
  sql: string,
  findings: Findings,
  subject: string,
  signal: AbortSignal,
): Promise<void> {
  const oids = tables.map(({ oid }) => oid).join(", ");
  const [row] = rowsOf(
    await connection.query(
      `SELECT pg_catalog.quote_ident(current_user) AS role,
        pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create,
        pg_catalog.quote_ident(pg_catalog.current_database()) AS database,
        ${
        oids === "" ? "NULL" : `(SELECT pg_catalog.string_agg(c.oid::regclass::text, ', ')
          FROM pg_catalog.pg_class c WHERE c.oid IN (${oids})
            AND NOT pg_catalog.pg_has_role(c.relowner, 'USAGE'))`
      } AS others`,
      { signal },
    ),
  );
  if (creates && row?.may_create !== "t") {
    findings.problem(
      "publication-privilege",
      `The role ${row?.role} may not make a publication in this database`,
      `GRANT CREATE ON DATABASE ${row?.database} TO ${row?.role}; or its owner runs: ${sql}`,
      subject,
    );
  }
  if (row?.others != null) {
    findings.problem(
      "publication-privilege",
      `The role ${row.role} does not own ${row.others}, and may not publish it`,
      `Its owner, or a superuser, runs: ${sql}`,
      subject,
    );
  }
}
