/** A real PostgreSQL server that speaks TLS: https://www.postgresql.org/docs/current/ssl-tcp.html */

import { chmod, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Certificate } from "../certificates.ts";
import { giveToServer } from "./postgres_files.ts";
import { type PostgresOptions, type PostgresServer, startPostgres } from "./postgres.ts";

/** With what a server speaks TLS. */
export interface ServerTls {
  /** The server's own; what it hangs on may follow in `cert`. */
  certificate: Pick<Certificate, "cert" | "key">;
  /** PEM of whom to trust for client certificates. Default: nobody, and none are asked for. */
  clientCa?: string;
  /** Of PostgreSQL, e.g. `{ ssl_max_protocol_version: "TLSv1.2" }`. */
  settings?: Record<string, string>;
}

/**
 * Starts a server that takes encrypted connections, and plain ones where `hba` does not refuse them:
 * `hostnossl all all 0.0.0.0/0 reject` refuses `server.query()` too.
 *
 * `hostssl all alice 127.0.0.1/32 cert` takes a certificate with the CN `alice` for a password.
 */
export async function startTlsPostgres(
  { tls, ...options }: PostgresOptions & { tls: ServerTls },
): Promise<PostgresServer> {
  const server = await startPostgres(options);
  try {
    await useTls(server, tls);
    return server;
  } catch (error) {
    await server.stop("immediate");
    throw error;
  }
}

/** Gives a running server a certificate, or another one; it restarts on the same port. */
export async function useTls(server: PostgresServer, tls: ServerTls): Promise<void> {
  await writeServerFile(join(server.dataDir, "server.crt"), tls.certificate.cert);
  await writeServerFile(join(server.dataDir, "server.key"), tls.certificate.key);
  await writeServerFile(join(server.dataDir, "client_ca.crt"), tls.clientCa ?? "");
  await server.configure({
    ssl: "on",
    ssl_cert_file: "server.crt",
    ssl_key_file: "server.key",
    ssl_ca_file: tls.clientCa === undefined ? "" : "client_ca.crt",
    ...tls.settings,
  });
  await server.restart();
}

/** Writes a file that only the server may read, which it insists on for its key. */
async function writeServerFile(path: string, text: string): Promise<void> {
  const written = `${path}.new`;
  await writeFile(written, text, { mode: 0o600 });
  await chmod(written, 0o600);
  await giveToServer(written);
  await rename(written, path);
}
