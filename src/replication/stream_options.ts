/** What a `ReplicationStream` is told when it is opened. */
import type { Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector, ConnectorOptions } from "../wire/connector.ts";
import type { Backend } from "./liveness.ts";
import type { SystemIdentity } from "./server.ts";

/** Which slot to stream from, and how. */
export interface ReplicationStreamOptions extends ConnectorOptions {
  /** Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** Where to start. Default, and where it is below it: the slot's confirmed position. */
  startLsn?: Lsn | string;
  /**
   * Asks for what `pg_logical_emit_message` wrote, too (PostgreSQL 14 and later): a `Message` of pgoutput.
   * Default: false.
   */
  messages?: boolean;
  /**
   * Used instead of connecting by the other options.
   * @internal
   */
  connector?: Connector;
  /** Ends the opening, with the signal's reason; later it has no effect. */
  signal?: AbortSignal;
  /**
   * Looks round on the stream's own connection just before it streams, and says where to start, in
   * place of `startLsn`. What it throws ends the opening.
   * @internal
   */
  prepare?: (
    connection: Connection,
    identity: SystemIdentity,
    backend: Backend,
  ) => Promise<Lsn>;
  /**
   * Called at a status update while a `read()` waits and nothing at all has come since the server was
   * asked for a reply: `requests` of them in a row, 1, 2, 3 …, each at least one interval old. They are
   * counted, not timed, so that a process that stood still takes no server for dead; and not counted
   * while nobody reads.
   * @internal
   */
  onUnanswered?: (requests: number) => void;
  /**
   * Called once, when the server asks for replies in a burst: it shuts down, and goes on asking until
   * all that it has sent is acknowledged or the stream is closed.
   * @internal
   */
  onServerStopping?: () => void;
  /**
   * Called when a status update could not be sent, which whoever does not read would not notice.
   * @internal
   */
  onLost?: (error: unknown) => void;
}
