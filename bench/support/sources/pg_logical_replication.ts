/** pg-logical-replication, with its flow control where the handler is to be waited for. */
import { createRequire } from "node:module";
import process from "node:process";
import type { Source, SourceOptions } from "./source.ts";

/** As `openSource`. */
export async function open(options: SourceOptions): Promise<Source> {
  const { dsn, slotName, onInsert, waits, peerFolder } = options;
  const { LogicalReplicationService, PgoutputPlugin } = createRequire(import.meta.url)(peerFolder);
  const service = new LogicalReplicationService({ connectionString: dsn }, {
    // Its default answers each message, which costs more than all else that it does.
    acknowledge: { auto: false, timeoutSeconds: 10 },
    flowControl: { enabled: waits },
  });
  const fail = (error: unknown) => {
    console.error(error);
    process.exit(1);
  };
  service.on("error", fail);
  service.on("data", (_lsn: string, message: { tag: string; new: { id: number } }) => {
    if (message.tag === "insert") return onInsert(message.new.id);
  });
  const started = new Promise((resolve) => service.on("start", resolve));
  const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: [slotName] });
  service.subscribe(plugin, slotName).catch(fail);
  await started;
  return {
    async stop() {
      await service.acknowledge(service.lastLsn());
      await service.destroy();
    },
  };
}
