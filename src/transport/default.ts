/** Finds the adapter for the runtime, and loads no other. */
import type { Address, Transport, TransportConnectOptions } from "./transport.ts";

/** Opens a TCP connection or a unix socket on Node, Deno and Bun, loading the adapter when called. */
export async function connectDefault(
  address: Address,
  options: TransportConnectOptions,
): Promise<Transport> {
  const { connect } = await import("./node.ts");
  return connect(address, options);
}
