/**
 * The decoder of `pgoutput`, the plugin that Postgres ships for logical replication: bytes of
 * protocol versions 1 to 4 to messages, with no socket and no dependency. It runs wherever JavaScript
 * does. `StreamAssembler` makes whole transactions of those that came in parts.
 *
 * Feed it the data of each XLogData message, or what the SQL functions of a slot return:
 *
 * ```sql
 * SELECT data FROM pg_logical_slot_get_binary_changes('docs', NULL, NULL,
 *   'proto_version', '1', 'publication_names', 'docs');
 * ```
 *
 * @example
 * ```ts
 * import { PgOutputDecoder } from "@pgstream/pgstream/pgoutput";
 *
 * const decoder = new PgOutputDecoder(); // one for each connection: it remembers the tables
 *
 * function onData(data: Uint8Array): void {
 *   const message = decoder.decode(data);
 *   switch (message.type) {
 *     case "insert":
 *     case "update":
 *       console.log(message.relation.name, message.row, message.unchanged);
 *       break;
 *     case "delete":
 *       console.log(message.relation.name, message.oldKind, message.oldRow);
 *       break;
 *   }
 * }
 * ```
 *
 * @module
 */

export { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";
export { PgOutputDecoder } from "./decoder.ts";
export { AssemblyError, DecodeError, type DecodeErrorOptions } from "./errors.ts";
export { commitTimeToDate } from "./messages.ts";
export type {
  Begin,
  Commit,
  Delete,
  Insert,
  Message,
  OldKind,
  Origin,
  PgOutputMessage,
  Relation,
  RelationColumn,
  ReplicaIdentity,
  Row,
  Truncate,
  TupleValue,
  Type,
  Update,
} from "./messages.ts";
export { StreamAssembler, type StreamAssemblerOptions } from "./stream_assembler.ts";
export type {
  BeginPrepare,
  CommitPrepared,
  Prepare,
  RollbackPrepared,
  StreamAbort,
  StreamCommit,
  StreamMessage,
  StreamPrepare,
  StreamStart,
  StreamStop,
} from "./stream_messages.ts";
