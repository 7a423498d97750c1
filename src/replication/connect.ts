/** Connections for replication, and what the server answers to those that it refuses. */
import type { Connection, ConnectOptions } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";
import { reasonsOf } from "../wire/errors.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { ReplicationError } from "./errors.ts";

/**
 * Opens a connection with `replication=database`.
 *
 * @throws {ReplicationError} of kind `replication-privilege` or `walsenders-exhausted`.
 */
export async function connectForReplication(
  connector: Connector,
  options: Pick<ConnectOptions, "signal" | "onNotice"> = {},
): Promise<Connection> {
  try {
    return await connector.connect({ ...options, replication: "database" });
  } catch (error) {
    const role = quoteIdentifier(connector.options.user);
    if (error instanceof PostgresError && error.code === "42501") {
      throw new ReplicationError(`Role ${role} may not replicate: ${error.summary}`, {
        kind: "replication-privilege",
        hint: `Run: ALTER ROLE ${role} REPLICATION; hosted servers grant it by a role of theirs ` +
          `(RDS: GRANT rds_replication TO ${role};).`,
        cause: error,
      });
    }
    if (reasonsOf(error).some(isWithoutWalsender)) {
      throw new ReplicationError("The server has no walsender left for this connection", {
        kind: "walsenders-exhausted",
        retryable: true,
        hint: "Raise max_wal_senders and restart, or stop consumers: " +
          "SELECT * FROM pg_stat_replication;",
        cause: error,
      });
    }
    throw error;
  }
}

function isWithoutWalsender(error: unknown): boolean {
  return error instanceof PostgresError && error.code === "53300" &&
    error.routine === "InitWalSenderSlot";
}
