/** Connects to the port of its argument; run by a test that looks when this process ends. */
import process from "node:process";
import { connect } from "../../../src/transport/node.ts";

const [port, mode] = process.argv.slice(2);
const transport = await connect({ host: "127.0.0.1", port: Number(port) });
if (mode === "closed") {
  transport.close();
} else {
  // Nothing but the connection keeps this process alive.
  transport.read().then((chunk) => console.log(chunk === null ? "ended" : "bytes"));
}
