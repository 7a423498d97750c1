/** Looks at all that a stream needs of its source, and changes nothing. */

import { PgStreamError } from "../errors.ts";
import type { Finding } from "../finding.ts";
import { connectForReplication } from "../replication/connect.ts";
import { withDeadline } from "../replication/deadline.ts";
import { checkPublicationName, checkSlotName } from "../replication/names.ts";
import { readPublication } from "../replication/publication.ts";
import type { TablePart } from "../replication/slot_manager.ts";
import { parseWatched, type WatchedTable } from "../replication/watched_table.ts";
import { formatTableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { Connector, type ConnectorOptions } from "../wire/connector.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { Findings } from "./findings.ts";
import { findPublication } from "./publication_findings.ts";
import { findServer } from "./server_findings.ts";
import { findSlot } from "./slot_findings.ts";
import { findTables } from "./table_findings.ts";

/** The server has this long to answer. */
const TIMEOUT_MS = 60_000;

/** Where to look, and at what. */
export interface DiagnoseOptions extends ConnectorOptions {
  /** Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** What is watched, or to be watched. Default: what the publication has. */
  tables?: readonly (string | TablePart)[];
  /** The stream has a temporary slot. Default: false. */
  temporary?: boolean;
  /** The stream has a failover slot. Default: false. */
  failover?: boolean;
  /** Stored generated columns are published, too. Default: as the publication is. */
  publishGeneratedColumns?: boolean;
  /** What an update did not send is read again: by `readUnchanged`, or `sync`. Default: false. */
  readsUnchanged?: boolean;
  /** A transaction that is open, or prepared, for longer is told of. Milliseconds, default 60,000. */
  longMs?: number;
  /** Gives up: rejects with its reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Looks at all that a stream needs: the server and its settings, the role's rights, tables, publication, slot. Nothing
 * is changed by it. What cannot be looked at, since something before it is wrong, is left out.
 *
 * @returns what was found, in the order in which one would mend it
 * @throws {PgStreamError} where an option cannot be, or the server falls silent; `signal.reason`.
 *
 * @example
 * ```ts
 * import { diagnose } from "@pgstream/pgstream/inspect";
 *
 * const findings = await diagnose({ dsn: "postgresql://localhost/db", tables: ["documents"] });
 * for (const { level, message, fix } of findings) {
 *   if (level !== "ok") console.log(level, message, fix);
 * }
 * ```
 */
export async function diagnose(options: DiagnoseOptions = {}): Promise<Finding[]> {
  const { slotName = "pgstream", publicationName = slotName, tables = [] } = options;
  checkSlotName(slotName);
  checkPublicationName(publicationName);
  const watched = tables.map((wanted) => {
    if (typeof wanted === "string") return parseWatched(wanted);
    const { table, ...part } = wanted;
    return parseWatched(table, part);
  });
  const connector = new Connector(options);
  const signal = options.signal ?? new AbortController().signal;
  const findings = new Findings();
  await withDeadline("The diagnosis", TIMEOUT_MS, signal, async (signal) => {
    const connection = await open(connector, findings, signal);
    if (connection === null) return;
    try {
      await look(connection, { ...options, slotName, publicationName }, watched, findings, signal);
    } finally {
      await connection.close();
    }
  });
  return findings.all;
}

/** A connection as a stream has it; where the role may not replicate, one for the rest. Null: there is none. */
async function open(
  connector: Connector,
  findings: Findings,
  signal: AbortSignal,
): Promise<Connection | null> {
  try {
    const connection = await connectForReplication(connector, { signal });
    findings.ok(
      "connection",
      `Connected for replication as ${quoteIdentifier(connector.options.user)}`,
    );
    return connection;
  } catch (error) {
    if (signal.aborted || !(error instanceof PgStreamError)) throw error;
    findings.error(error);
    // A server that is not there is not there for anything else either.
    if (!("code" in error) && !("code" in ((error.cause ?? {}) as object))) return null;
  }
  try {
    return await connector.connect({ signal });
  } catch (error) {
    if (signal.aborted || !(error instanceof PgStreamError)) throw error;
    return null;
  }
}

async function look(
  connection: Connection,
  options: DiagnoseOptions & { slotName: string; publicationName: string },
  watched: readonly WatchedTable[],
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const { slotName, publicationName, temporary = false, failover = false, longMs = 60_000 } =
    options;
  await findServer(connection, findings, signal);
  if (findings.all.some(({ check, level }) => check === "server-version" && level === "problem")) {
    return;
  }
  const publication = await readPublication(connection, publicationName, signal);
  const tables = watched.length > 0
    ? watched
    : publication?.tables.map((table) => parseWatched(formatTableName(table))) ?? [];
  if (tables.length === 0) {
    findings.warning("tables", "There is no table to look at", "Name those that are to be watched");
  }
  const use = {
    publishesGenerated: options.publishGeneratedColumns ?? publication?.generatedColumns ?? false,
    readsUnchanged: options.readsUnchanged ?? false,
  };
  const found = await findTables(connection, tables, use, findings, signal);
  const wanted = found.map(({ table, watched: { columns, where } }) => ({
    ...table,
    publish: { columns, where },
  }));
  await findPublication(connection, { publicationName, slotName }, wanted, findings, signal);
  await findSlot(connection, { slotName, temporary, failover, longMs }, findings, signal);
}
