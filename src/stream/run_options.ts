/** What a run of a stream works with. */
import type { RetryLimits } from "../backoff.ts";
import type { LoadTypes } from "../delivery/row_values.ts";
import type { Lsn } from "../lsn.ts";
import type { Backend } from "../replication/backend.ts";
import type { WatchedTable } from "../replication/watched_table.ts";
import type { Connector } from "../wire/connector.ts";
import type { Gap } from "./options.ts";
import type { KnownSystem } from "./continuation.ts";
import type { OpenStream } from "./source.ts";

/** Where a stream begins to read. */
export interface Arrived {
  system: { systemId: string; timeline: number };
  /** When that was started, as it prints it. */
  startedAt: string;
  /** What the server holds for handled. */
  confirmedLsn: Lsn;
  /** False where changes were missed, or the slot begins anew. */
  continues: boolean;
}

/** From one connection to the next. */
export interface RunOptions {
  connector: Connector;
  /** Makes a connection that streams. */
  open: OpenStream;
  slotName: string;
  publicationName: string;
  tables: readonly WatchedTable[];
  temporary: boolean;
  /** True where the server is asked for what `pg_logical_emit_message` wrote. */
  messages: boolean;
  failover: boolean;
  /** The types of the run. */
  loadTypes: LoadTypes;
  /** What may wait for the handlers. */
  maxQueueBytes: number;
  /** Null: a lost connection ends the stream. */
  reconnect: RetryLimits | null;
  onSlotLost: "error" | "recreate";
  /** `"fail"`: at once. */
  whenSlotInUse: "error" | "wait" | "fail";
  /** Stop once all that is committed now is handled. */
  catchUp: boolean;
  /** Walsenders that were opened for this slot before; more are added. */
  own: Backend[];
  /** What an earlier run learnt of the server. */
  known: KnownSystem | null;
  onState: (state: "connecting" | "streaming" | "reconnecting" | "stopping") => void;
  /** A connection took a lost one's place. */
  onReconnect: () => void;
  /** What a connection was lost by. */
  onLost: (error: unknown) => void;
  onGap: (gap: Gap) => void;
  /** The stream has its slot, and nothing of it was read yet. What it throws ends the stream. */
  onArrived: (arrived: Arrived) => Promise<void>;
}
