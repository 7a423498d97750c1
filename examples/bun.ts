#!/usr/bin/env bun
/**
 * A script for Bun: each transaction as a line of JSON, for a pipe. What is written is confirmed.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     bun examples/bun.ts | jq
 *
 * Bun reads DATABASE_URL, or the PG* variables, from `.env` as well. Nothing in here is Bun's own: Node runs
 * it as it is, and Deno by
 *
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" examples/bun.ts
 *
 * Ctrl+C stops it; the slot "bun_example" stays, and holds on to the WAL until it is read or dropped.
 */
import process from "node:process";
import { PgStream } from "@pgstream/pgstream";

const stopping = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.once(name, () => stopping.abort());

const stream = new PgStream({ slotName: "bun_example", logger: false });
stream.watch("documents");
await stream.setup();

for await (const transaction of stream.changes({ signal: stopping.signal })) {
  const rows = transaction.events.map(({ operation, key, row }) => ({ operation, key, row }));
  const line = JSON.stringify({ lsn: transaction.lsn, rows });
  // Confirmed when whoever reads the pipe has taken it, and not before.
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(`${line}\n`, (error) => error ? reject(error) : resolve());
  });
  transaction.ack();
}
