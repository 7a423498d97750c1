/**
 * Decoders of pgoutput side by side, each read by a loop of its own: engines learn by the place in the code what
 * rows are like, and a loop that all of them share would be slow for all.
 */

import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { type RowValues, ValueTypes } from "../../src/delivery/row_values.ts";
import {
  type Insert,
  PgOutputDecoder,
  type PgOutputMessage,
  type Row,
} from "../../src/pgoutput/mod.ts";
import { install } from "../../tests/support/install.ts";

/**
 * Decodes messages from the first one of a connection on. It makes ready, and gives back what is timed, which reads
 * every value of every row, the new one or of a delete what it tells of the old one.
 *
 * @returns what counts the values that are not NULL
 */
export type Decoder = (
  messages: readonly Uint8Array[],
  onValue?: (value: unknown) => void,
) => () => Promise<number>;

/** Ours; values stay text. */
export const pgstream: Decoder = (messages, onValue) => () => {
  const decoder = new PgOutputDecoder();
  let count = 0;
  for (const bytes of messages) {
    const message = decoder.decode(bytes);
    const row = rowOf(message);
    if (row === null) continue;
    for (const { name } of (message as Insert).relation.columns) {
      const value = row[name];
      if (value != null) count++;
      onValue?.(value);
    }
  }
  return Promise.resolve(count);
};

/** Ours, with what a stream of `values: "js"` makes of a row. */
export const pgstreamJs: Decoder = (messages, onValue) => async () => {
  const decoder = new PgOutputDecoder();
  const types = new ValueTypes({});
  let values: RowValues | null = null;
  let count = 0;
  for (const bytes of messages) {
    const message = decoder.decode(bytes);
    if (message.type === "relation") {
      const table = { schema: message.schema, table: message.name };
      values = await types.rowValues(table, message.columns, () => Promise.resolve([]));
      continue;
    }
    const row = rowOf(message);
    if (row === null) continue;
    values?.read(row);
    for (const { name } of (message as Insert).relation.columns) {
      const value = row[name];
      if (value != null) count++;
      onValue?.(value);
    }
  }
  return count;
};

function rowOf(message: PgOutputMessage): Row | null {
  if (message.type === "insert" || message.type === "update") return message.row;
  return message.type === "delete" ? message.oldRow : null;
}

/** The parser of pg-logical-replication, which reads values by the parsers of `pg`: text of columns of type text. */
export async function loadPgLogicalReplication(): Promise<Decoder> {
  const { folder } = await install("pg-logical-replication");
  const { PgoutputPlugin } = createRequire(import.meta.url)(folder);
  return (messages, onValue) => {
    // A `Buffer` is what it is given by `pg`.
    const buffers = messages.map(({ buffer, byteOffset, length }) =>
      Buffer.from(buffer, byteOffset, length)
    );
    return () => {
      const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["p"] });
      let count = 0;
      for (const bytes of buffers) {
        const message = plugin.parse(bytes);
        const { tag } = message;
        const row = tag === "insert" || tag === "update"
          ? message.new
          : tag === "delete"
          ? message.key ?? message.old
          : null;
        if (row === null) continue;
        for (const { name } of message.relation.columns) {
          const value = row[name];
          if (value != null) count++;
          onValue?.(value);
        }
      }
      return Promise.resolve(count);
    };
  };
}

/** How many messages a read from a socket gives pgwire: some 16 KB. */
const MESSAGES_A_CHUNK = 150;

/**
 * The decoder of pgwire. It is reached by its stream, which is never connected, and takes over the objects that
 * stand for XLogData: making those is not timed. Text is taken from `afterRaw`, which is the shorter way to it:
 * `after` has getters that look at the type first.
 */
export async function loadPgwire(): Promise<Decoder> {
  const { folder } = await install("pgwire");
  const { pgconnection } = await import(pathToFileURL(join(folder, "index.js")).href);
  const stream = pgconnection({ hostname: "127.0.0.1" }).logicalReplication({ slot: "none" });
  return (messages, onValue) => {
    const chunks: { messages: unknown[] }[] = [];
    for (let at = 0; at < messages.length; at += MESSAGES_A_CHUNK) {
      chunks.push({
        messages: messages.slice(at, at + MESSAGES_A_CHUNK)
          .map((data) => ({ tag: "XLogData", lsn: "", endLsn: "", time: 0n, data })),
      });
    }
    return async () => {
      let count = 0;
      for await (const chunk of stream.pgoutputDecode.call(chunks)) {
        for (const { relation, beforeRaw, afterRaw } of chunk.messages) {
          const row = afterRaw ?? beforeRaw;
          if (row === undefined) continue;
          for (const { name } of relation.columns) {
            const value = row[name];
            if (value != null) count++;
            onValue?.(value);
          }
        }
      }
      return count;
    };
  };
}
