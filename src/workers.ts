/**
 * Streams on Cloudflare Workers: how sockets are opened there.
 *
 * ```ts ignore
 * import { connect } from "cloudflare:sockets";
 * import { PgStream } from "@pgstream/pgstream";
 * import { workersConnect } from "@pgstream/pgstream/workers";
 *
 * export default {
 *   async scheduled(_event: unknown, env: { DATABASE_URL: string }): Promise<void> {
 *     const stream = new PgStream({ dsn: env.DATABASE_URL, connect: workersConnect(connect) });
 *     stream.watch("documents");
 *     stream.onChange((event) => console.log(event.operation, event.key));
 *     await stream.catchUp();
 *   },
 * };
 * ```
 *
 * @module
 */
export {
  workersConnect,
  type WorkersSocket,
  type WorkersSocketConnect,
} from "./transport/workers.ts";
export type {
  Address,
  Connect,
  EncryptedTransport,
  TlsOptions,
  Transport,
  TransportConnectOptions,
} from "./transport/transport.ts";
