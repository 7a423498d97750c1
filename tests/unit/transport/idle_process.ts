/** Connects as its argument says; run by a test that looks when this process ends. */
import process from "node:process";
import { connect } from "../../../src/transport/node.ts";

const { address, mode, ca } = JSON.parse(process.argv[2]!);
let transport = await connect(address);
if (ca !== undefined) {
  transport = await transport.startTls({ host: "localhost", verify: "full", ca });
}
if (mode === "closed") {
  transport.close();
} else {
  // Nothing but the connection keeps this process alive.
  const chunk = await transport.read();
  console.log(chunk === null ? "ended" : "bytes");
  transport.close();
}
