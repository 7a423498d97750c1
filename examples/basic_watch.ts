/**
 * Prints every change of a table, as it is committed.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/basic_watch.ts
 *
 * Reads DATABASE_URL, or the PG* variables. Ctrl+C stops it; the slot stays, and holds on to the WAL
 * until it is read or dropped: `SELECT pg_drop_replication_slot('basic_watch')`.
 */
import { PgStream } from "@pgstream/pgstream";

const stream = new PgStream({ slotName: "basic_watch" });
stream.watch("documents");
stream.onChange((event) => {
  const { lsn, operation, schema, table, key, row } = event;
  console.log(lsn, operation, `${schema}.${table}`, key, JSON.stringify(row));
});

const { slot, publication } = await stream.setup();
console.log(`slot ${slot}, publication ${publication}: waiting for changes`);
await stream.start({ signals: true });
