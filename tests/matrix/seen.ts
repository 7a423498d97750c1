/** What came, of events and of the protocol's messages, in one form. */

import { assert, assertEquals } from "@std/assert";
import { type ChangeEvent, parseLsn, ReplicationStream } from "../../mod.ts";
import {
  commitTimeToDate,
  PgOutputDecoder,
  type Relation,
  type Row,
} from "../../src/pgoutput/mod.ts";
import type { Change, Texts } from "./shape.ts";

/** A change, and where it stood. */
export interface Seen {
  change: Change;
  schema: string;
  table: string;
  lsn: bigint;
  ordinal: number;
  xid: number;
  commitTimeMs: number;
}

/** By what an event says. */
export function seenOf(event: ChangeEvent): Seen {
  const { operation, schema, table, key, oldKey, lsn, ordinal, xid, commitTime } = event;
  assertEquals(event.backfill, false);
  if (operation === "delete") assertEquals(event.row, event.oldRow);
  const change: Change = {
    operation,
    table,
    key,
    oldKey,
    row: copied(event.row),
    oldRow: event.oldRow === null ? null : copied(event.oldRow),
    unchanged: [...event.unchanged],
    options: null,
  };
  return {
    change,
    schema,
    table,
    lsn: parseLsn(lsn),
    ordinal,
    xid,
    commitTimeMs: commitTime.getTime(),
  };
}

/** With the prototype that rows of expectations have, so that the two may be equal; names in one order. */
function copied(row: object): Texts {
  assertEquals(Object.getPrototypeOf(Object.getPrototypeOf(row) ?? Object.create(null)), null);
  return fromEntries(Object.entries(row) as [string, string | null][]);
}

/** As `Object.fromEntries`: a column `__proto__` is a property of its own. */
function fromEntries(entries: [string, string | null][]): Texts {
  return Object.fromEntries(entries.sort(([a], [b]) => a < b ? -1 : 1));
}

/** Reads a slot up to the row of the marker, and what it says, by its messages alone. */
export async function byteLevel(
  options: { dsn: string; slotName: string; publicationName: string },
  marker: { schema: string; table: string },
): Promise<Seen[]> {
  const seen: Seen[] = [];
  const decoder = new PgOutputDecoder();
  const stream = await ReplicationStream.open({ ...options, logger: false });
  try {
    let begun: { lsn: bigint; xid: number; commitTimeMs: number } | null = null;
    let lastCommit = 0n;
    let ordinal = 0;
    const add = (relation: Relation, change: Omit<Change, "table" | "key" | "oldKey">) => {
      assert(begun !== null, "a row outside of a transaction");
      const { schema, name: table } = relation;
      seen.push({
        change: { ...change, table, key: null, oldKey: null },
        schema,
        table,
        ordinal: ordinal++,
        ...begun,
      });
    };
    for await (const { data } of stream) {
      const message = decoder.decode(data);
      switch (message.type) {
        case "begin":
          assertEquals(begun, null, "a transaction within a transaction");
          assert(message.finalLsn > lastCommit, "commits go backwards");
          begun = {
            lsn: message.finalLsn,
            xid: message.xid,
            commitTimeMs: commitTimeToDate(message.commitTimeUs).getTime(),
          };
          ordinal = 0;
          break;
        case "commit":
          assertEquals(message.commitLsn, begun?.lsn);
          assert(message.endLsn > message.commitLsn);
          lastCommit = message.commitLsn;
          begun = null;
          stream.acknowledge(message.endLsn);
          if (seen.at(-1)?.table === marker.table && seen.at(-1)?.schema === marker.schema) {
            return seen;
          }
          break;
        case "insert":
          add(message.relation, {
            operation: "insert",
            row: texts(message.row),
            oldRow: null,
            unchanged: [...message.unchanged],
            options: null,
          });
          break;
        case "update":
          add(message.relation, {
            operation: "update",
            row: texts(message.row),
            oldRow: message.oldRow === null ? null : texts(message.oldRow),
            unchanged: [...message.unchanged],
            options: null,
          });
          break;
        case "delete": {
          const oldRow = texts(message.oldRow);
          add(message.relation, {
            operation: "delete",
            row: oldRow,
            oldRow,
            unchanged: [],
            options: null,
          });
          break;
        }
        case "truncate":
          for (const relation of message.relations) {
            const { cascade, restartIdentity } = message;
            const options = { cascade, restartIdentity };
            add(relation, { operation: "truncate", row: {}, oldRow: null, unchanged: [], options });
          }
          break;
        case "message":
          throw new Error("a message that nobody asked for");
      }
    }
    throw new Error("the stream ended before the marker");
  } finally {
    await stream.close();
  }
}

function texts(row: Row): Texts {
  for (const value of Object.values(row)) assert(!(value instanceof Uint8Array));
  return copied(row);
}
