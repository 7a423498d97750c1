/** Connections for replication. */
import type { Connection, ConnectOptions } from "../wire/connection.ts";
import type { Connector } from "../wire/connector.ts";

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
    const { explained } = await import("./connect_refused.ts");
    throw explained(error, connector.options.user);
  }
}
