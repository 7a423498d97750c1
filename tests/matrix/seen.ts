/** What came, of events and of the protocol's messages, in one form. */

import { assert, assertEquals } from "@std/assert";
import {
  type ChangeEvent,
  parseLsn,
  ReplicationStream,
  type ReplicationStreamOptions,
} from "../../mod.ts";
import {
  commitTimeToDate,
  PgOutputDecoder,
  type PgOutputMessage,
  type Relation,
  type Row,
  StreamAssembler,
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

/**
 * Reads a slot up to the row of the marker, and what it says, by its messages alone. What comes in parts
 * (`streaming`) is put together first.
 *
 * @param options `inParts`: a stream without a part of a transaction has not shown what it should
 */
export async function byteLevel(
  { inParts, ...options }: ReplicationStreamOptions & { inParts: boolean },
  marker: { schema: string; table: string },
): Promise<Seen[]> {
  const decoder = new PgOutputDecoder();
  const assembler = new StreamAssembler();
  const reading = new Reading();
  const stream = await ReplicationStream.open({ ...options, logger: false });
  try {
    let parts = 0;
    for await (const { data } of stream) {
      const decoded = decoder.decode(data);
      if (decoded.type === "stream-start") parts++;
      for (const message of assembler.accept(decoded)) {
        reading.add(message);
        if (message.type !== "commit") continue;
        stream.acknowledge(message.endLsn);
        const last = reading.seen.at(-1);
        if (last?.table !== marker.table || last.schema !== marker.schema) continue;
        assert(parts > 0 || !inParts, "nothing came in parts");
        return reading.seen;
      }
    }
    throw new Error("the stream ended before the marker");
  } finally {
    await stream.close();
  }
}

/** Messages, one after the other, as the protocol orders them. */
class Reading {
  readonly seen: Seen[] = [];
  #begun: Pick<Seen, "lsn" | "xid" | "commitTimeMs"> | null = null;
  #lastCommit = 0n;
  #ordinal = 0;

  add(message: PgOutputMessage): void {
    switch (message.type) {
      case "begin":
        assertEquals(this.#begun, null, "a transaction within a transaction");
        assert(message.finalLsn > this.#lastCommit, "commits go backwards");
        this.#begun = {
          lsn: message.finalLsn,
          xid: message.xid,
          commitTimeMs: commitTimeToDate(message.commitTimeUs).getTime(),
        };
        this.#ordinal = 0;
        break;
      case "commit":
        assertEquals(message.commitLsn, this.#begun?.lsn);
        assert(message.endLsn > message.commitLsn);
        this.#lastCommit = message.commitLsn;
        this.#begun = null;
        break;
      case "insert":
        this.#row(message.relation, message, null);
        break;
      case "update":
        this.#row(message.relation, message, message.oldRow);
        break;
      case "delete":
        this.#row(
          message.relation,
          { type: "delete", row: message.oldRow, unchanged: [] },
          message.oldRow,
        );
        break;
      case "truncate":
        for (const relation of message.relations) {
          const { cascade, restartIdentity } = message;
          const options = { cascade, restartIdentity };
          const nothing = { row: {}, oldRow: null, unchanged: [] };
          this.#push(relation, { operation: "truncate", ...nothing, options });
        }
        break;
      case "relation":
      case "type":
      case "origin":
        break;
      default:
        throw new Error(`a message that nobody asked for: ${message.type}`);
    }
  }

  #row(
    relation: Relation,
    { type, row, unchanged }: {
      type: "insert" | "update" | "delete";
      row: Row;
      unchanged: readonly string[];
    },
    oldRow: Row | null,
  ): void {
    this.#push(relation, {
      operation: type,
      row: texts(row),
      oldRow: oldRow === null ? null : texts(oldRow),
      unchanged: [...unchanged],
      options: null,
    });
  }

  #push(
    { schema, name: table }: Relation,
    change: Omit<Change, "table" | "key" | "oldKey">,
  ): void {
    assert(this.#begun !== null, "a row outside of a transaction");
    this.seen.push({
      change: { ...change, table, key: null, oldKey: null },
      schema,
      table,
      ordinal: this.#ordinal++,
      ...this.#begun,
    });
  }
}

function texts(row: Row): Texts {
  for (const value of Object.values(row)) assert(!(value instanceof Uint8Array));
  return copied(row);
}
