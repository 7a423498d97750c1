/** Finds the adapter for the runtime, and loads no other. */
import {
  type Address,
  formatAddress,
  type Transport,
  type TransportConnectOptions,
  TransportError,
} from "./transport.ts";

/**
 * Opens a TCP connection or a unix socket on Node, Deno and Bun, loading the adapter when called.
 *
 * @throws {TransportError} `"host-unreachable"` where the runtime has no `node:net`; as the adapter.
 */
export async function connectDefault(
  address: Address,
  options: TransportConnectOptions,
): Promise<Transport> {
  const { connect } = await import("./node.ts").catch((cause) => {
    throw new TransportError(
      `Cannot connect to ${formatAddress(address)}: this runtime has no node:net`,
      {
        kind: "host-unreachable",
        address,
        hint: "On Cloudflare Workers pass the option connect: workersConnect(connect), of " +
          "@pgstream/pgstream/workers.",
        cause,
      },
    );
  });
  return connect(address, options);
}
