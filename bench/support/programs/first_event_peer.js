/** The same with pg-logical-replication: `first_event_peer.js DSN SLOT PEER_FOLDER`. */
import { createRequire } from "node:module";
import process from "node:process";

const [connectionString, slotName, peerFolder] = process.argv.slice(2);
const { LogicalReplicationService, PgoutputPlugin } = createRequire(import.meta.url)(peerFolder);
const service = new LogicalReplicationService({ connectionString });
let first = true;
service.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
service.on("data", (_lsn, { tag }) => {
  if (tag !== "insert" || !first) return;
  first = false;
  console.log("event");
  void service.destroy();
});
const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: [slotName] });
await service.subscribe(plugin, slotName);
