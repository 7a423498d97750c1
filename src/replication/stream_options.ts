/** What a `ReplicationStream` is told when it is opened. */
import type { Lsn } from "../lsn.ts";
import type { Connection } from "../wire/connection.ts";
import type { Connector, ConnectorOptions } from "../wire/connector.ts";
import type { Backend } from "./backend.ts";
import type { SystemIdentity } from "./server.ts";

/**
 * What pgoutput is asked for, beside the changes of rows. None of it is on unless it is asked for.
 * https://www.postgresql.org/docs/current/protocol-logical-replication.html#PROTOCOL-LOGICAL-REPLICATION-PARAMS
 */
export interface PgOutputOptions {
  /**
   * The version of pgoutput's protocol: 1; 2 (PostgreSQL 14), which has `streaming`; 3 (15), which has
   * `twoPhase`; 4 (16), which has `streaming: "parallel"`. Default: the least that the other options
   * need.
   */
  protocolVersion?: 1 | 2 | 3 | 4;
  /**
   * `true` (PostgreSQL 14): a transaction that grows beyond the server's `logical_decoding_work_mem` is
   * sent in parts while it is under way, with rows that may be rolled back yet: see `StreamAssembler`.
   * `"parallel"` (16): the same, and Stream Abort has an LSN and a time. Default: `false`, transactions
   * come whole once they are committed.
   */
  streaming?: boolean | "parallel";
  /**
   * Transactions come at their `PREPARE TRANSACTION`, and COMMIT PREPARED or ROLLBACK PREPARED later
   * (PostgreSQL 15). It makes the slot a two-phase one **for good**, also one that was not created so:
   * from then on every stream of the slot is sent prepared transactions, this option or not.
   * Default: `false`, such transactions come whole at their COMMIT PREPARED.
   */
  twoPhase?: boolean;
  /** What `pg_logical_emit_message` writes, as `Message` (PostgreSQL 14). Default: `false`. */
  messages?: boolean;
  /**
   * `"none"`: only changes that were made on this server, not those that came to it by replication, with
   * an origin (PostgreSQL 16). Default: `"any"`.
   */
  origin?: "any" | "none";
  /** Values in their types' binary format, as `Uint8Array` (PostgreSQL 14). Default: `false`, text. */
  binary?: boolean;
}

/** Which slot to stream from, and how. */
export interface ReplicationStreamOptions extends ConnectorOptions, PgOutputOptions {
  /** Default: `"pgstream"`. */
  slotName?: string;
  /** Default: the slot's name. */
  publicationName?: string;
  /** Where to start. Default, and where it is below it: the slot's confirmed position. */
  startLsn?: Lsn | string;
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

/** True where pgoutput is asked for anything but protocol 1, which most streams do without. */
export function asksForMore(options: PgOutputOptions): boolean {
  const { protocolVersion, streaming, twoPhase, messages, origin, binary } = options;
  return [protocolVersion, streaming, twoPhase, messages, origin, binary].some((o) =>
    o !== undefined
  );
}
