/**
 * Takes all changes from a slot, by one client: `replay.ts CLIENT DSN SLOT PUBLICATION TABLES CHANGES`, and prints what
 * that took. What the client needs is loaded before the clock starts.
 */

import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { install } from "../../tests/support/install.ts";
import { printMeasured } from "./measured_child.ts";

const [client, dsn, slotName, publicationName, tables, count] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const wanted = Number(count);

/** Loads a client. What it gives takes the changes, and resolves to how many there were. */
const clients: Record<string, () => Promise<() => Promise<number>>> = {
  async raw() {
    const { countChanges } = await import("./raw_replication.ts");
    return () => countChanges(dsn, slotName, publicationName, wanted);
  },

  async pgstream() {
    const { PgStream } = await import("../../mod.ts");
    return async () => {
      const { promise: done, resolve } = Promise.withResolvers<void>();
      const stream = new PgStream({ dsn, slotName, publicationName });
      let handled = 0;
      // deno-lint-ignore require-await -- a promise is what handlers return
      stream.watch(...tables.split(",")).onChange(async () => {
        if (++handled === wanted) resolve();
      });
      const running = stream.start();
      await Promise.race([done, running]);
      // Which confirms what is handled, and waits for the server to have read that.
      await stream.stop();
      await running;
      return handled;
    };
  },

  "pg-logical-replication": () => pgLogicalReplication(true),

  "pg-logical-replication-unconfirmed": () => pgLogicalReplication(false),

  async pgwire() {
    const { folder } = await install("pgwire");
    const { pgconnection } = await import(pathToFileURL(join(folder, "index.js")).href);
    return async () => {
      const connection = pgconnection({ replication: "database" }, dsn);
      const stream = connection.logicalReplication({
        slot: slotName,
        options: { proto_version: 1, publication_names: publicationName },
      });
      let handled = 0;
      for await (const { messages } of stream.pgoutputDecode()) {
        for (const { tag, lsn } of messages) {
          if (tag === "insert" || tag === "update" || tag === "delete") handled++;
          else if (tag === "commit") stream.ack(lsn);
        }
        if (handled >= wanted) break;
      }
      await connection.end();
      return handled;
    };
  },
};

/** With the flow control that its manual recommends for handlers that are awaited. */
async function pgLogicalReplication(auto: boolean): Promise<() => Promise<number>> {
  const { folder } = await install("pg-logical-replication");
  const { LogicalReplicationService, PgoutputPlugin } = createRequire(import.meta.url)(folder);
  return async () => {
    const { promise: done, resolve, reject } = Promise.withResolvers<void>();
    const service = new LogicalReplicationService({ connectionString: dsn }, {
      acknowledge: { auto, timeoutSeconds: auto ? 10 : 0 },
      flowControl: { enabled: true },
    });
    const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: [publicationName] });
    let handled = 0;
    // deno-lint-ignore require-await -- likewise
    service.on("data", async (_lsn: string, { tag }: { tag: string }) => {
      if (tag === "insert" || tag === "update" || tag === "delete") handled++;
      // The transaction of the last change is handled in full.
      else if (tag === "commit" && handled >= wanted) resolve();
    });
    service.on("error", reject);
    service.subscribe(plugin, slotName).catch(reject);
    await done;
    await service.stop();
    return handled;
  };
}

await printMeasured(await clients[client]!());
process.exit();
