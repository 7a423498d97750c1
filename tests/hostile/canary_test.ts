/**
 * The password is in no error, no log line and no object that a user holds, however it was given and whatever
 * a real server has against it. What scripted servers do is looked at in the same way by `playAll()`.
 */
import { assert, assertEquals, assertInstanceOf } from "@std/assert";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { inspect } from "node:util";
import { PgStream, PgStreamError, ReplicationStream, SlotManager } from "../../mod.ts";
import { Connector, type ConnectorOptions } from "../../src/wire/connector.ts";
import { assertNoCanary, CANARY, CANARY_USER, CanaryLog } from "../support/canary.ts";
import { say, startScripted } from "../support/scripted_server.ts";
import { type PostgresServer, startPostgres } from "../support/servers/postgres.ts";

/** Roles by what pg_hba.conf asks of them. */
const HBA = [
  ["canary_scram", "scram-sha-256"],
  ["canary_md5", "md5"],
  ["canary_clear", "password"],
  ["canary_rejected", "reject"],
].map(([role, method]) => `host all ${role} 127.0.0.1/32 ${method}`).join("\n");

let server: PostgresServer;
before(async () => {
  server = await startPostgres({ hba: HBA });
  await server.query("CREATE TABLE documents (id int PRIMARY KEY)");
  const password = `PASSWORD '${CANARY.replaceAll("'", "''")}'`;
  for (const role of ["canary_scram", "canary_clear", "canary_rejected"]) {
    await server.query(`CREATE ROLE ${role} LOGIN REPLICATION ${password}`);
  }
  await server.query(`CREATE ROLE canary_plain LOGIN ${password}`);
  await server.query(
    `SET password_encryption = md5; CREATE ROLE canary_md5 LOGIN REPLICATION ${password}`,
  );
});
after(() => server?.stop("immediate"));

type Way = "dsn" | "key=value" | "option" | "function" | "environment";
const WAYS: readonly Way[] = ["dsn", "key=value", "option", "function", "environment"];

/** What leads to the server, with the password given in one of the ways. */
function optionsOf(
  way: Way,
  logger: CanaryLog,
  { role, password = CANARY, database = "postgres" }: {
    role: string;
    password?: string;
    database?: string;
  },
): ConnectorOptions {
  const { host, port } = server;
  if (way === "environment") process.env.PGPASSWORD = password;
  else delete process.env.PGPASSWORD;
  const quoted = password.replaceAll("\\", "\\\\").replaceAll("'", "\\'");
  const dsn = way === "key=value"
    ? `host=${host} port=${port} user=${role} password='${quoted}' dbname='${database}' sslmode=disable`
    : `postgresql://${role}${way === "dsn" ? `:${encodeURIComponent(password)}` : ""}@` +
      `${host}:${port}/${encodeURIComponent(database)}?sslmode=disable`;
  return {
    dsn,
    logger,
    ...(way === "option" ? { password } : {}),
    ...(way === "function" ? { password: () => password } : {}),
  };
}

/** All that connects. @param hold is given what the user holds */
const CALLS: Readonly<
  Record<string, (options: ConnectorOptions, hold: (object: unknown) => void) => Promise<unknown>>
> = {
  "connect()": async (options, hold) => {
    const connector = new Connector(options);
    const connection = await connector.connect();
    hold(connection);
    await connection.close();
  },
  "setup()": (options, hold) => {
    const stream = streamOf(options);
    hold(stream);
    return stream.setup();
  },
  "start()": (options, hold) => {
    const stream = streamOf(options);
    hold(stream);
    return stream.start();
  },
  "catchUp()": (options, hold) => {
    const stream = streamOf(options);
    hold(stream);
    return stream.catchUp();
  },
  "changes()": async (options, hold) => {
    const stream = streamOf(options);
    hold(stream);
    await stream.changes()[Symbol.asyncIterator]().next();
  },
  "teardown()": (options, hold) => {
    const stream = streamOf(options);
    hold(stream);
    return stream.teardown();
  },
  "ReplicationStream.open()": (options) => ReplicationStream.open(options),
  "SlotManager.setup()": (options, hold) => {
    const manager = new SlotManager({ ...options, tables: ["documents"] });
    hold(manager);
    return manager.setup();
  },
};

function streamOf(options: ConnectorOptions): PgStream {
  return new PgStream({ ...options, reconnect: false }).watch("documents").onChange(() => {});
}

async function refusal(
  what: string,
  call: keyof typeof CALLS,
  options: ConnectorOptions,
): Promise<string> {
  const { logger } = options;
  const held: unknown[] = [];
  const error = await CALLS[call]!(options, (object) => held.push(object)).then(
    () => null,
    (error) => error,
  );
  assertInstanceOf(error, PgStreamError, `${what}: ${error}`);
  assertNoCanary(what, error, ...held, ...(logger as CanaryLog).lines);
  return error.kind;
}

const TROUBLES = [
  [
    "a wrong password, by SCRAM",
    { role: "canary_scram", password: `${CANARY}x` },
    "authentication",
  ],
  ["a wrong password, by md5", { role: "canary_md5", password: `${CANARY}x` }, "authentication"],
  [
    "a wrong password, in the clear",
    { role: "canary_clear", password: `${CANARY}x` },
    "authentication",
  ],
  ["a role that is not there", { role: "canary_nobody" }, "authentication"],
  ["a role that pg_hba.conf rejects", { role: "canary_rejected" }, "authentication"],
  [
    "a database that is not there",
    { role: "canary_scram", database: "no such" },
    "database-missing",
  ],
] as const;

describe("a real server (31)", () => {
  for (const [what, parts, kind] of TROUBLES) {
    test(`that is told ${what}, in each way and by each call`, async () => {
      for (const way of WAYS) {
        for (const call of Object.keys(CALLS)) {
          const options = optionsOf(way, new CanaryLog(), parts);
          assertEquals(await refusal(`${call}, ${way}`, call, options), kind, `${call}, ${way}`);
        }
      }
    });
  }

  test("lets the right password in, by each method and in each way", async () => {
    for (const way of WAYS) {
      for (const role of ["canary_scram", "canary_md5", "canary_clear"]) {
        const log = new CanaryLog();
        const connection = await new Connector(optionsOf(way, log, { role })).connect();
        const error = await connection.query("SELECT nonsense").catch((error) => error);
        assertInstanceOf(error, PgStreamError);
        assertNoCanary(`${role}, ${way}`, connection, error, ...log.lines);
        await connection.close();
        const late = await connection.query("SELECT 1").catch((error) => error);
        assertEquals(late.kind, "connection-closed");
        assertNoCanary(`${role}, ${way}, closed`, connection, late);
      }
    }
  });

  test("refuses a role that may not replicate", async () => {
    for (const way of WAYS) {
      const options = optionsOf(way, new CanaryLog(), { role: "canary_plain" });
      assertEquals(await refusal(way, "setup()", options), "replication-privilege");
    }
  });

  test("ends the session of a stream that runs", async () => {
    await server.query("GRANT CREATE ON DATABASE postgres TO canary_scram");
    await server.query("ALTER TABLE documents OWNER TO canary_scram");
    const log = new CanaryLog();
    const stream = streamOf(optionsOf("function", log, { role: "canary_scram" }));
    await stream.setup();
    const ended = stream.start().catch((error) => error);
    while (stream.status().state !== "streaming") {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assertNoCanary("a stream that runs", stream, stream.status(), ...log.lines);
    await server.query(
      "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active",
    );
    const error = await ended;
    assertInstanceOf(error, PgStreamError);
    assertNoCanary("a stream that has ended", error, stream, stream.status(), ...log.lines);
    await stream.teardown();
  });
});

describe("what a user holds", () => {
  test("a stream does not show the password", () => {
    for (const way of WAYS) {
      const stream = streamOf(optionsOf(way, new CanaryLog(), { role: "canary_scram" }));
      assertNoCanary(`a stream, ${way}`, stream, inspect(stream), String(stream));
    }
  });

  test("a SlotManager does not show the password", () => {
    for (const way of WAYS) {
      const manager = new SlotManager(optionsOf(way, new CanaryLog(), { role: "canary_scram" }));
      assertNoCanary(`a SlotManager, ${way}`, manager, inspect(manager), String(manager));
    }
  });

  test("a connector does not show the password", () => {
    for (const way of WAYS) {
      const connector = new Connector(optionsOf(way, new CanaryLog(), { role: "canary_scram" }));
      assertNoCanary(`a connector, ${way}`, inspect(connector), JSON.stringify(connector));
    }
  });
});

describe("a connection string that cannot be read", () => {
  const encoded = encodeURIComponent(CANARY);
  const MALFORMED: Readonly<Record<string, string>> = {
    "the password is not encoded": `postgresql://user:${CANARY}@host/db`,
    "the port is a word": `postgresql://user:${encoded}@host:word/db`,
    "the scheme is another one's": `mysql://user:${encoded}@host/db`,
    "a percent sign is alone": `postgresql://user:%${encoded}@host/db`,
    "a quote has no end": `host=h user=u password='${CANARY.replaceAll("'", "\\'")}`,
    "the password is a parameter's name": `postgresql://user@host/db?${encoded}`,
    "the password is a port": `postgresql://user@host:${encoded}/db`,
    "the mode of encryption is the password": `postgresql://user@host/db?sslmode=${encoded}`,
    "the time-out is the password": `postgresql://user@host/db?connect_timeout=${encoded}`,
    "there is a zero byte in the password": `postgresql://user:${encoded}%00@host/db`,
  };
  for (const [what, dsn] of Object.entries(MALFORMED)) {
    test(`shows nothing of it where ${what}`, async () => {
      delete process.env.PGPASSWORD;
      const log = new CanaryLog();
      for (const call of Object.keys(CALLS)) {
        const held: unknown[] = [];
        // Some calls throw at once.
        const error = await Promise.resolve()
          .then(() => CALLS[call]!({ dsn, logger: log }, (object) => held.push(object)))
          .then(() => null, (error) => error);
        assertInstanceOf(error, PgStreamError, `${call}: ${error}`);
        assertNoCanary(`${call}, ${what}`, error, ...held, ...log.lines);
      }
    });
  }
});

describe("a password from a file", () => {
  let folder: string;
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "pgstream-canary-"));
  });
  after(() => rm(folder, { recursive: true }));

  /** Connects to a server that asks for the password in the clear and does not take it. */
  async function refused(
    parameters: (port: number) => Promise<string>,
  ): Promise<void> {
    delete process.env.PGPASSWORD;
    let heard = "";
    const asking = await startScripted(async (peer) => {
      await peer.startup();
      await peer.send(say.cleartext);
      heard = (await peer.message()).text.slice(0, -1);
      await peer.send(say.error("FATAL", "28P01", "no"));
    });
    try {
      const log = new CanaryLog();
      const connector = new Connector({ dsn: await parameters(asking.port), logger: log });
      const error = await connector.connect().catch((error) => error);
      assertInstanceOf(error, PgStreamError);
      assertEquals(error.kind, "authentication", error.message);
      assert(heard === CANARY, "the file's password was to be sent");
      assertNoCanary("a file", error, inspect(connector), ...log.lines);
    } finally {
      await asking.stop();
    }
  }

  async function fileOf(name: string, text: string): Promise<string> {
    const path = join(folder, name);
    await writeFile(path, text);
    await chmod(path, 0o600);
    return path;
  }

  test("of passwords, is nowhere", () =>
    refused(async (port) => {
      const escaped = CANARY.replaceAll("\\", "\\\\").replaceAll(":", "\\:");
      const path = await fileOf("pgpass", `127.0.0.1:${port}:*:${CANARY_USER}:${escaped}\n`);
      return `postgresql://${CANARY_USER}@127.0.0.1:${port}/db?sslmode=disable&passfile=${
        encodeURIComponent(path)
      }`;
    }));

  test("of services, is nowhere", () =>
    refused(async (port) => {
      const path = await fileOf(
        "services",
        `[canary]\nhost=127.0.0.1\nport=${port}\nuser=${CANARY_USER}\ndbname=db\npassword=${CANARY}\n`,
      );
      process.env.PGSERVICEFILE = path;
      return "postgresql:///?service=canary&sslmode=disable";
    }));
});
