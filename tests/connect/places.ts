/** The servers of the matrix, and how a cell names the one it means. */

import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Certificate, CertificateAuthority, selfSigned } from "../support/certificates.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";
import { startTlsPostgres } from "../support/servers/tls_postgres.ts";
import { type Cell, type CertificateName, CERTIFICATES, TLS } from "./cells.ts";

/** The name that certificates are for, beside `localhost` and `127.0.0.1`. Nobody resolves it. */
const HOST_NAME = "db.pgstream.test";
/** Of every role. Must be in no message. */
export const PASSWORD = "canary-7c1f44";

/** Roles by what `pg_hba.conf` asks of them. */
const METHODS: Record<string, string> = {
  m_trust: "trust",
  m_password: "password",
  m_md5: "md5",
  m_scram: "scram-sha-256",
};
const CERTIFIED = ["m_cert", "m_cert_scram"];

const HBA = [
  ...Object.entries(METHODS).flatMap(([role, method]) => [
    `local all ${role} ${method}`,
    `host all ${role} 127.0.0.1/32 ${method}`,
  ]),
  "hostssl all m_cert 127.0.0.1/32 cert",
  "hostssl all m_cert_scram 127.0.0.1/32 scram-sha-256 clientcert=verify-full",
  `local all ${CERTIFIED} reject`,
  `host all ${CERTIFIED} 127.0.0.1/32 reject`,
].join("\n");

/** Where everything is. Passes as JSON to the programs that connect. */
export interface Places {
  servers: Record<CertificateName, { port: number; socketDir: string }>;
  /** Nobody listens there. */
  deadPort: number;
  /** Our authority. */
  rootFile: string;
  /** The certificates of roles, and their keys: files. */
  clients: Record<string, { certFile: string; keyFile: string }>;
}

/** Servers that run until `stop()`. */
export interface RunningPlaces {
  places: Places;
  /** Our authority, as PEM. */
  root: string;
  stop(): Promise<void>;
}

/** Starts one server for each certificate. */
export async function startPlaces(major: number): Promise<RunningPlaces> {
  const folder = await mkdtemp(join(tmpdir(), "pgstream-"));
  const running: PostgresServer[] = [];
  const stop = async () => {
    await Promise.all(running.map((server) => server.stop("immediate")));
    await rm(folder, { recursive: true });
  };
  const write = async (name: string, text: string) => {
    const path = join(folder, name);
    await writeFile(path, text, { mode: 0o600 });
    return path;
  };
  try {
    const authority = await CertificateAuthority.create();
    const clients: Places["clients"] = {};
    for (const commonName of CERTIFIED) {
      const { cert, key } = await authority.issue({ commonName });
      clients[commonName] = {
        certFile: await write(`${commonName}.crt`, cert),
        keyFile: await write(`${commonName}.key`, key),
      };
    }
    const servers = {} as Places["servers"];
    const start = async (name: CertificateName) => {
      const certificate = await certificateOf(name, authority);
      const server = certificate === null
        ? await startPostgres({ major, hba: HBA })
        : await startTlsPostgres({
          major,
          hba: HBA,
          tls: { certificate, clientCa: authority.cert },
        });
      running.push(server);
      await server.query(rolesSql());
      servers[name] = { port: server.port, socketDir: server.socketDir };
    };
    await Promise.all(CERTIFICATES.map(start));
    const rootFile = await write("root.crt", authority.cert);
    const places = { servers, deadPort: await closedPort(), rootFile, clients };
    return { places, root: authority.cert, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function certificateOf(
  name: CertificateName,
  authority: CertificateAuthority,
): Promise<Certificate | null> {
  const dns = ["localhost", HOST_NAME];
  switch (name) {
    case "no TLS":
      return null;
    case "good":
      return await authority.issue({ dns });
    case "expired":
      return await authority.issue({ dns, expired: true });
    case "wrong name":
      return await authority.issue({ dns: ["other.pgstream.test"], ips: ["127.0.0.9"] });
    case "another authority":
      return await (await CertificateAuthority.create({ name: "somebody else" })).issue({ dns });
    case "self-signed":
      return await selfSigned({ dns });
  }
}

function rolesSql(): string {
  const roles = [...Object.keys(METHODS), ...CERTIFIED].map((role) => {
    const encryption = role === "m_md5" ? "md5" : "scram-sha-256";
    return `SET password_encryption = '${encryption}';
      CREATE ROLE ${role} LOGIN REPLICATION PASSWORD '${PASSWORD}'`;
  });
  return roles.join(";\n");
}

/** Finds a port, and lets go of it. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

/** The connection string of a cell. */
export function dsnOf(cell: Cell, places: Places): string {
  const { port, socketDir } = places.servers[cell.certificate];
  const { sslrootcert, ...tls }: Record<string, string> = TLS[cell.tls];
  const said: Record<string, string> = {
    dbname: "postgres",
    // A client certificate that is lying about is another test's concern.
    sslcert: "",
    sslkey: "",
    ...tls,
    ...addressed(),
    ...AUTHENTICATED[cell.authentication](places),
  };
  if (sslrootcert !== undefined) {
    said.sslrootcert = sslrootcert === "ours" ? places.rootFile : sslrootcert;
  }
  function addressed(): Record<string, string> {
    switch (cell.address) {
      case "name":
        return { host: "localhost", port: `${port}` };
      case "IPv4":
        return { host: "127.0.0.1", port: `${port}` };
      case "host and hostaddr":
        return { host: HOST_NAME, hostaddr: "127.0.0.1", port: `${port}` };
      case "two hosts":
        return { host: "127.0.0.1,localhost", port: `${places.deadPort},${port}` };
      case "unix socket":
        return { host: socketDir, port: `${port}` };
    }
  }
  return Object.entries(said)
    .filter(([, value]) => value !== "")
    .map(([name, value]) => `${name}='${value}'`)
    .join(" ");
}

const withPassword = (user: string, more: Record<string, string> = {}) => () => ({
  user,
  password: PASSWORD,
  ...more,
});
const certified = (user: string, more: Record<string, string> = {}) => (places: Places) => ({
  user,
  sslcert: places.clients[user]!.certFile,
  sslkey: places.clients[user]!.keyFile,
  ...more,
});

const AUTHENTICATED: Record<
  Cell["authentication"],
  (places: Places) => Record<string, string>
> = {
  "trust": () => ({ user: "m_trust" }),
  "password": withPassword("m_password"),
  "md5": withPassword("m_md5"),
  "scram": withPassword("m_scram"),
  "scram, channel_binding=require": withPassword("m_scram", { channel_binding: "require" }),
  "scram, channel_binding=disable": withPassword("m_scram", { channel_binding: "disable" }),
  "scram, wrong password": () => ({ user: "m_scram", password: `not-${PASSWORD}` }),
  "md5, require_auth=scram-sha-256": withPassword("m_md5", { require_auth: "scram-sha-256" }),
  "trust, require_auth=scram-sha-256": withPassword("m_trust", { require_auth: "scram-sha-256" }),
  "client certificate": certified("m_cert"),
  "client certificate missing": () => ({ user: "m_cert" }),
  "client certificate and scram": certified("m_cert_scram", { password: PASSWORD }),
};
