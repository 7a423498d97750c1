/** Decoders of pgoutput side by side: each hands every row that it decodes to a function. */

import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { type RowValues, ValueTypes } from "../../src/delivery/row_values.ts";
import { PgOutputDecoder, type Row } from "../../src/pgoutput/mod.ts";
import { install } from "../../tests/support/install.ts";

/** Is given the names of the columns and a row: the new one, of a delete what it tells of the old one. */
export type OnRow = (columns: readonly { name: string }[], row: Record<string, unknown>) => void;

/** Decodes messages from the first one of a connection on. It makes ready, and gives back what is timed. */
export type Decoder = (
  messages: readonly Uint8Array[],
  onRow: OnRow,
) => () => void | Promise<void>;

/** Ours; values stay text. */
export const pgstream: Decoder = (messages, onRow) => () => {
  const decoder = new PgOutputDecoder();
  for (const bytes of messages) {
    const message = decoder.decode(bytes);
    if (message.type === "insert" || message.type === "update") {
      onRow(message.relation.columns, message.row);
    } else if (message.type === "delete") onRow(message.relation.columns, message.oldRow);
  }
};

/** Ours, with what a stream of `values: "js"` makes of a row. */
export const pgstreamJs: Decoder = (messages, onRow) => async () => {
  const decoder = new PgOutputDecoder();
  const types = new ValueTypes({});
  let values: RowValues | null = null;
  const read = (columns: readonly { name: string }[], row: Row) => {
    values?.read(row);
    onRow(columns, row);
  };
  for (const bytes of messages) {
    const message = decoder.decode(bytes);
    if (message.type === "insert" || message.type === "update") {
      read(message.relation.columns, message.row);
    } else if (message.type === "delete") read(message.relation.columns, message.oldRow);
    else if (message.type === "relation") {
      const table = { schema: message.schema, table: message.name };
      values = await types.rowValues(table, message.columns, () => Promise.resolve([]));
    }
  }
};

/** The parser of pg-logical-replication, which reads values by the parsers of `pg`: text of columns of type text. */
export async function loadPgLogicalReplication(): Promise<Decoder> {
  const { folder } = await install("pg-logical-replication");
  const { PgoutputPlugin } = createRequire(import.meta.url)(folder);
  return (messages, onRow) => {
    // A `Buffer` is what it is given by `pg`.
    const buffers = messages.map(({ buffer, byteOffset, length }) =>
      Buffer.from(buffer, byteOffset, length)
    );
    return () => {
      const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["p"] });
      for (const bytes of buffers) {
        const message = plugin.parse(bytes);
        if (message.tag === "insert" || message.tag === "update") {
          onRow(message.relation.columns, message.new);
        } else if (message.tag === "delete") {
          onRow(message.relation.columns, message.key ?? message.old);
        }
      }
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
  return (messages, onRow) => {
    const chunks: { messages: unknown[] }[] = [];
    for (let at = 0; at < messages.length; at += MESSAGES_A_CHUNK) {
      chunks.push({
        messages: messages.slice(at, at + MESSAGES_A_CHUNK)
          .map((data) => ({ tag: "XLogData", lsn: "", endLsn: "", time: 0n, data })),
      });
    }
    return async () => {
      for await (const chunk of stream.pgoutputDecode.call(chunks)) {
        for (const { tag, relation, beforeRaw, afterRaw } of chunk.messages) {
          if (tag === "insert" || tag === "update") onRow(relation.columns, afterRaw);
          else if (tag === "delete") onRow(relation.columns, beforeRaw);
        }
      }
    };
  };
}
