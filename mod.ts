/**
 * Watch Postgres tables through logical replication and keep a vector store in step with them.
 *
 * A table that is synced becomes vectors; other changes are handed to a handler, in commit order and at
 * least once. Nothing is confirmed to the server before it is handled. The module speaks Postgres' own
 * protocol over a plain socket and has no dependencies; sinks for pgvector and Qdrant, and embedders, are
 * entry points of their own.
 *
 * @example
 * ```ts
 * import { MemorySink, PgStream } from "@pgstream/pgstream";
 * import { openAiEmbedder } from "@pgstream/pgstream/sync";
 *
 * const stream = new PgStream({ dsn: "postgresql://user:pass@localhost/db" });
 * stream.sink(new MemorySink());
 * stream.sync("documents", {
 *   text: (row) => row.content,
 *   embed: openAiEmbedder({ model: "text-embedding-3-small" }),
 *   payload: ["id", "title"],
 * });
 * await stream.setup();
 * await stream.start({ signals: true });
 * ```
 *
 * @module
 */
export { type ChangeHandler, PgStream } from "./src/stream/pg_stream.ts";
export type { SchemaChange, TableColumn, TableIdentity } from "./src/delivery/schema_changes.ts";
export type { MessageHandler } from "./src/stream/handlers.ts";
export type {
  Failure,
  Gap,
  HandlerContext,
  PgStreamOptions,
  Transaction,
  WatchOptions,
} from "./src/stream/options.ts";
export type { BackfillStatus } from "./src/backfill/job.ts";
export { BackfillError } from "./src/backfill/errors.ts";
export { FileStateStore } from "./src/backfill/file_state_store.ts";
export { MemoryStateStore, type StateStore } from "./src/backfill/state_store.ts";
export type { CatchUpReport, StreamState, StreamStatus } from "./src/stream/status.ts";
export type { FailureDecision } from "./src/delivery/handler.ts";
export type { LaneKey } from "./src/delivery/lane_plan.ts";
export type { BackoffLimits, RetryLimits } from "./src/backoff.ts";

export type {
  AnyRow,
  ChangeEvent,
  DeleteEvent,
  EventBase,
  EventOf,
  InsertEvent,
  LogicalMessage,
  SchemaOf,
  TableOf,
  TruncateEvent,
  UpdateEvent,
} from "./src/change.ts";

export type { SparseVector, Vector } from "./src/values/vector.ts";
export { MemorySink, type StoredPoint } from "./src/sinks/memory.ts";
export {
  type RowPage,
  type RowPoint,
  rowPointId,
  type RowSink,
  type RowState,
  type RowVector,
  type RowWrite,
  type SearchOptions,
  type SourcePosition,
  type StoreLocation,
  type StreamPosition,
} from "./src/sinks/rows.ts";
export { compareSourcePositions, compareStreamPositions } from "./src/sinks/positions.ts";
export {
  type PointId,
  pointIdText,
  type SearchHit,
  Sink,
  SinkError,
  type SinkErrorOptions,
  type SinkLike,
  type VectorPoint,
} from "./src/sinks/sink.ts";

export {
  type SetupReport,
  SlotManager,
  type SlotManagerOptions,
  type TablePart,
  type TeardownReport,
} from "./src/replication/slot_manager.ts";
export {
  type PgOutputOptions,
  ReplicationStream,
  type ReplicationStreamOptions,
} from "./src/replication/replication_stream.ts";
export type { PrimaryKeepalive, ReplicationMessage, XLogData } from "./src/replication/messages.ts";
export { PublicationError, ReplicationError, SlotError } from "./src/replication/errors.ts";

export {
  type Begin,
  type BeginPrepare,
  type Commit,
  type CommitPrepared,
  commitTimeToDate,
  DecodeError,
  type DecodeErrorOptions,
  type Delete,
  type Insert,
  type Message,
  type OldKind,
  type Origin,
  PgOutputDecoder,
  type PgOutputMessage,
  type Prepare,
  type Relation,
  type RelationColumn,
  type ReplicaIdentity,
  type RollbackPrepared,
  type Row,
  type StreamAbort,
  type StreamCommit,
  type StreamMessage,
  type StreamPrepare,
  type StreamStart,
  type StreamStop,
  type Truncate,
  type TupleValue,
  type Type,
  type Update,
} from "./src/pgoutput/mod.ts";

export { DeliveryError, HandlerError } from "./src/delivery/errors.ts";
export type { ConnectorOptions } from "./src/wire/connector.ts";
export {
  ProtocolError,
  WireError,
  type WireErrorKind,
  type WireErrorOptions,
} from "./src/wire/errors.ts";
export {
  PostgresError,
  type PostgresErrorKind,
  type ServerMessage,
} from "./src/wire/postgres_error.ts";
export {
  type Address,
  type Connect,
  type EncryptedTransport,
  type TlsOptions,
  type Transport,
  type TransportConnectOptions,
  TransportError,
  type TransportErrorKind,
  type TransportErrorOptions,
} from "./src/transport/transport.ts";
export { isRetryable, PgStreamError, type PgStreamErrorOptions } from "./src/errors.ts";
export type { Logger } from "./src/logger.ts";
export type { Observe, StreamObserver, Work } from "./src/observer.ts";
export type { Finding } from "./src/finding.ts";
export { formatLsn, type Lsn, parseLsn } from "./src/lsn.ts";
export type {
  VerifyDifference,
  VerifyOptions,
  VerifyProgress,
  VerifyReport,
} from "./src/sync/verify.ts";
export type { SyncedChunk, SyncOptions } from "./src/sync/options.ts";
export type { BatchEmbedderOptions } from "./src/sync/batched_embedder.ts";
export type { Chunker } from "./src/sync/chunk_text.ts";
export type { Embedder } from "./src/sync/embedder.ts";
export type { Timers } from "./src/sync/timers.ts";
