/** A change as a server would tell it, before it has a place in the WAL. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import { type ChangeMessage, EventBuilder, loneMessage } from "../delivery/event_builder.ts";
import type { RowValues } from "../delivery/row_values.ts";
import type { Lsn } from "../lsn.ts";
import { newEmptyRow } from "../pgoutput/row_maker.ts";
import type { Begin, Commit, Message, Relation, Row } from "../pgoutput/mod.ts";
import { POSTGRES_EPOCH_MS } from "../replication/messages.ts";
import type { TableName } from "../table_name.ts";

/** What a test says of a row that changes. */
export interface Change {
  operation: ChangeEvent["operation"];
  table: TableName;
  /** In the key's order; none where the table has none. */
  primaryKey: readonly string[];
  /** Those that the event tells of, `unchanged` ones too. */
  columns: readonly string[];
  /** Names of the types of those that have a value. */
  types: ReadonlyMap<string, string>;
  /** One of those whose type is a guess, so that its text is; null where there is none. */
  unclear: string | null;
  /** True for what no transaction brings. */
  backfill: boolean;
  /** New objects each time: what a handler does to an event is not seen when it comes again. */
  message: (relation: Relation) => ChangeMessage;
  /** What the message would be on the wire, roughly. */
  wireBytes: number;
}

/** What a test says of a message. */
export type Written = Pick<Message, "prefix" | "content" | "transactional">;

/** A table's columns, from one ALTER TABLE to the next. */
export interface Shape {
  relation: Relation;
  name: TableName;
  primaryKey: readonly string[];
}

/** Where a transaction lies: the same for the same number, whenever the tests are run. */
export interface Place {
  begin: Begin;
  commit: Commit;
}

const FIRST_LSN = 0x100_0000n;
const TRANSACTION_BYTES = 0x100n;
const COMMIT_RECORD_BYTES = 0x30n;
const FIRST_XID = 700;
const FIRST_COMMIT_MS = Date.UTC(2026, 0, 1);
const TEXT_OID = 25;

/** The place of the transaction with this number, from 1; the end of the one with number 0 is where the WAL begins. */
export function placeOf(transaction: number): Place {
  const commitLsn: Lsn = FIRST_LSN + BigInt(transaction) * TRANSACTION_BYTES;
  const commitTimeMs = FIRST_COMMIT_MS + transaction * 1000 - POSTGRES_EPOCH_MS;
  const commitTimeUs = BigInt(commitTimeMs) * 1000n;
  return {
    begin: { type: "begin", finalLsn: commitLsn, commitTimeUs, xid: FIRST_XID + transaction },
    commit: {
      type: "commit",
      flags: 0,
      commitLsn,
      endLsn: commitLsn + COMMIT_RECORD_BYTES,
      commitTimeUs,
    },
  };
}

let made = 0;

/** A place behind those of all that was made before. */
export function nextPlace(): Place {
  return placeOf(++made);
}

/** The shape of a table of which nothing else is known. */
export function shapeOf({ table, primaryKey, columns }: Change, oid = 1): Shape {
  const keyed = primaryKey.length > 0;
  return {
    name: table,
    primaryKey,
    relation: {
      type: "relation",
      xid: null,
      oid,
      schema: table.schema,
      name: table.table,
      replicaIdentity: keyed ? "default" : "full",
      columns: columns.map((name) => ({
        name,
        typeOid: TEXT_OID,
        typeModifier: -1,
        key: !keyed || primaryKey.includes(name),
      })),
    },
  };
}

/**
 * The event that the stream would make of the change, as the only one of a transaction.
 *
 * @param values null: its values are text
 */
export function buildEvent(
  change: Change,
  { begin }: Place,
  { relation, name, primaryKey }: Shape = shapeOf(change),
  values: RowValues | null = null,
): ChangeEvent {
  const builder = new EventBuilder();
  const events: ChangeEvent[] = [];
  builder.declare(relation, { name, primaryKey, keyed: primaryKey.length > 0, values });
  builder.begin(begin);
  builder.build(change.message(relation), (event) => events.push(event));
  const [event] = events;
  if (!change.backfill) return event!;
  return { ...event, ordinal: -1, xid: 0, backfill: true } as ChangeEvent;
}

/** The message as the server sends it, at a place. Its bytes are new each time, as those of rows are. */
export function messageAt({ prefix, content, transactional }: Written, place: Place): Message {
  const messageLsn = transactional ? place.begin.finalLsn : place.commit.endLsn;
  return {
    type: "message",
    xid: null,
    prefix,
    content: content.slice(),
    transactional,
    messageLsn,
  };
}

/** What the stream would make of the message, as the only one of a transaction where it belongs to one. */
export function buildMessage(written: Written, place: Place): LogicalMessage {
  const message = messageAt(written, place);
  if (!written.transactional) return loneMessage(message);
  const builder = new EventBuilder();
  builder.begin(place.begin);
  return builder.message(message);
}

/** A row as the decoder makes them, with its columns in the order of the table. */
export function rowOf(
  values: Readonly<Record<string, string | null>>,
  { columns }: Relation,
): Row {
  const row = new (newEmptyRow())();
  for (const { name } of columns) if (values[name] !== undefined) row[name] = values[name];
  return row;
}
