/** What the server answers to connections for replication that it refuses. */
import { reasonsOf } from "../wire/errors.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteIdentifier } from "../wire/quote.ts";
import { ReplicationError } from "./errors.ts";

/** What the error means for replication; the same error where it means nothing else. */
export function explained(error: unknown, user: string): unknown {
  const role = quoteIdentifier(user);
  if (error instanceof PostgresError && error.code === "42501") {
    return new ReplicationError(`Role ${role} may not replicate: ${error.summary}`, {
      kind: "replication-privilege",
      hint: `Run: ALTER ROLE ${role} REPLICATION; hosted servers grant it by a role of theirs ` +
        `(RDS: GRANT rds_replication TO ${role};).`,
      cause: error,
    });
  }
  if (reasonsOf(error).some(isWithoutWalsender)) {
    return new ReplicationError("The server has no walsender left for this connection", {
      kind: "walsenders-exhausted",
      retryable: true,
      hint: "Raise max_wal_senders and restart, or stop consumers: " +
        "SELECT * FROM pg_stat_replication;",
      cause: error,
    });
  }
  return error;
}

function isWithoutWalsender(error: unknown): boolean {
  return error instanceof PostgresError && error.code === "53300" &&
    error.routine === "InitWalSenderSlot";
}
