/**
 * The protocol's own level: messages of pgoutput as they come, confirmed by hand. For those who want
 * neither events nor sinks.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/decode_only.ts
 *
 * Ctrl+C stops it; the slot "decode_only_example" stays, and holds on to the WAL until it is read or
 * dropped.
 *
 * Reads DATABASE_URL, or the PG* variables. LSNs are `bigint` at this level.
 */
import process from "node:process";
import { formatLsn, ReplicationStream, SlotManager } from "@pgstream/pgstream";
import { PgOutputDecoder } from "@pgstream/pgstream/pgoutput";

const slotName = "decode_only_example";
await new SlotManager({ slotName, tables: ["documents"] }).setup();

const stream = await ReplicationStream.open({ slotName });
process.once("SIGINT", () => stream.close());
process.once("SIGTERM", () => stream.close());
console.log("streaming");

const decoder = new PgOutputDecoder();
for await (const { data } of stream) {
  const message = decoder.decode(data);
  switch (message.type) {
    case "insert":
    case "update":
      console.log(message.type, message.relation.name, message.row);
      break;
    case "delete":
      console.log(message.type, message.relation.name, message.oldRow);
      break;
    case "commit":
      // The end of the commit record, never a row's LSN: everything before it has been printed.
      console.log("commit", formatLsn(message.endLsn));
      stream.acknowledge(message.endLsn);
      break;
  }
}
