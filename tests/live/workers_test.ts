/**
 * Streams in the real runtime of Cloudflare Workers, without Node's modules: workerd, which is started here
 * whatever runtime the test itself runs on.
 */

import { assert, assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { embed, EMBEDDING_DIMENSIONS } from "../../examples/embed.ts";
import { type Certificate, CertificateAuthority, selfSigned } from "../support/certificates.ts";
import type { PostgresServer } from "../support/servers/postgres.ts";
import { startQdrant } from "../support/servers/qdrant.ts";
import { startTlsPostgres } from "../support/servers/tls_postgres.ts";
import { type Database, uniqueName, until } from "../support/streams.ts";
import { TestTable, texts } from "../support/test_table.ts";
import { startWorker, type Worker } from "../support/workerd.ts";
import { bundleForWorkers } from "../support/workers_bundle.ts";
import type { CatchUpAnswer, CatchUpOrder, FoundError } from "../support/workers/catch_up.ts";

const CANARY = "canary-9b1d07";
const DNS = ["localhost", "db.pgstream.test"];
const ROLES = {
  encrypted: "scram-sha-256",
  md5: "md5",
};
const HBA = [
  "hostnossl all encrypted all reject",
  ...Object.entries(ROLES).map(([role, method]) => `host all ${role} 127.0.0.1/32 ${method}`),
].join("\n");

let authority: CertificateAuthority;
let db: PostgresServer;
let worker: Worker;

before(async () => {
  authority = await CertificateAuthority.create();
  db = await startTls(await authority.issue({ dns: DNS }));
  for (const [role, method] of Object.entries(ROLES)) {
    await db.query(`SET password_encryption = '${method}';
      CREATE ROLE ${role} LOGIN SUPERUSER PASSWORD '${CANARY}'`);
  }
  worker = await startWorker("tests/support/workers/catch_up.ts", { trusted: [authority.cert] });
});
after(async () => {
  await worker?.stop();
  await db?.stop("immediate");
});

function startTls(certificate: Certificate): Promise<PostgresServer> {
  return startTlsPostgres({ hba: HBA, tls: { certificate } });
}

/** Of the server, but for what is given. */
function dsnOf(server: PostgresServer, said: Record<string, string> = {}): string {
  const all = {
    host: "127.0.0.1",
    port: `${server.port}`,
    user: server.user,
    password: server.password,
    dbname: "postgres",
    sslmode: "disable",
    ...said,
  };
  return Object.entries(all).map(([name, value]) => `${name}='${value}'`).join(" ");
}

async function catchUp(
  table: TestTable,
  order: Partial<CatchUpOrder> = {},
): Promise<CatchUpAnswer> {
  const all = { dsn: dsnOf(db), slotName: table.slotName, table: table.name, ...order };
  return await worker.call<CatchUpAnswer>(all);
}

async function failure(dsn: string): Promise<FoundError> {
  const order = { dsn, slotName: uniqueName(), table: "documents", setUp: true };
  const { error } = await worker.call<CatchUpAnswer>(order);
  assert(error !== null, "It works");
  return error;
}

function database(): Database {
  const query: Database["query"] = (sql, parameters) =>
    db.query(sql, parameters === undefined ? {} : { parameters });
  return { dsn: db.dsn, query };
}

async function noSessionIsLeft(): Promise<void> {
  await until("no session to be left", async () => {
    const [row] = await db.query<{ count: number }>(`SELECT count(*)::int AS count
      FROM pg_stat_activity WHERE backend_type IN ('walsender', 'client backend')
      AND pid <> pg_backend_pid()`);
    return row!.count === 0;
  });
}

describe("a stream on Workers", () => {
  test("sets up, handles what is committed, confirms it, and leaves no socket open", async () => {
    const table = await TestTable.create(database(), "worker");
    await table.remove();
    await db.query(`CREATE TABLE ${table.name} (id int PRIMARY KEY, v text)`);
    const log = worker.log;
    assertEquals((await catchUp(table, { setUp: true })).error, null);

    await table.insert(1, 2);
    await table.insertMany(3, 5000, "repeat('x', 500)");
    const before = await table.confirmedLsn();
    const { keys, values, report, error } = await catchUp(table);
    assertEquals(error, null);
    assertEquals(keys, texts(1, 5000));
    assertEquals(values.slice(1, 3), [null, "x".repeat(500)]);
    assertEquals([report!.events, report!.transactions, report!.busy], [5000, 3, false]);
    assert(await table.confirmedLsn() > before);
    assertEquals(await table.walsenderPid(), null);

    // The next request has nothing but what is new.
    await table.insert(5001);
    assertEquals((await catchUp(table)).keys, ["5001"]);
    assertEquals((await catchUp(table)).report!.events, 0);
    await noSessionIsLeft();
    assertEquals(worker.log, log);
    await table.remove();
  });

  test("that fails in its handler says so, and the next request has the event again", async () => {
    const table = await TestTable.create(database(), "failing");
    await table.insert(1, 2, 3);
    const { keys, report, error } = await catchUp(table, { failAt: "2" });
    assertEquals([keys, report], [["1"], null]);
    assertEquals([error!.kind, error!.name], ["handler-failed", "HandlerError"]);
    assertMatch(error!.cause, /cannot take it/);
    assertEquals((await catchUp(table)).keys, ["2", "3"]);
    await noSessionIsLeft();
    await table.remove();
  });

  test("logs in by SCRAM and by MD5; a wrong password is named, and not shown", async () => {
    const table = await TestTable.create(database(), "login");
    await table.insert(1);
    const md5 = dsnOf(db, { user: "md5", password: CANARY });
    assertEquals((await catchUp(table, { dsn: md5 })).keys, ["1"]);
    for (const user of ["encrypted", "md5"]) {
      const wrong = { user, password: `${CANARY}x`, sslmode: "verify-full", host: "localhost" };
      const error = await failure(dsnOf(db, wrong));
      assertEquals([error.kind, error.retryable], ["authentication", false]);
      assertNotMatch(JSON.stringify(error), new RegExp(CANARY));
    }
    assertNotMatch(worker.log, new RegExp(CANARY));
    await noSessionIsLeft();
    await table.remove();
  });

  test("says where it cannot connect, and what is to be done", async () => {
    const refused = await failure(dsnOf(db, { port: "1" }));
    assertEquals([refused.kind, refused.retryable], ["connection-refused", true]);
    assertMatch(refused.message, /^Cannot connect to 127\.0\.0\.1:1: /);
    const unknown = await failure(dsnOf(db, { host: "nobody.invalid" }));
    assertEquals([unknown.kind, unknown.retryable], ["connection-refused", true]);
    assertMatch(unknown.message, /nobody\.invalid/);
    const none = await failure(dsnOf(db, { host: "no name" }));
    assertEquals([none.kind, none.retryable], ["host-not-found", false]);
    const unix = await failure(dsnOf(db, { host: "/tmp" }));
    assertEquals([unix.kind, unix.retryable], ["host-unreachable", false]);
    assertMatch(unix.message, /no unix sockets/);
    const order = { dsn: dsnOf(db), slotName: "s", table: "t", withoutConnect: true };
    const { error } = await worker.call<CatchUpAnswer>(order);
    assertEquals(error!.kind, "host-unreachable");
    assertMatch(error!.hint!, /workersConnect\(connect\)/);
  });
});

test("what is built for Workers imports the platform's sockets, and nothing of Node's", async () => {
  // Minified, so that no example in a comment counts.
  const code = await bundleForWorkers({
    entry: "tests/support/workers/catch_up.ts",
    minify: true,
  });
  const imports = [...code.matchAll(/\b(?:from|import)\s*\(?\s*["']([^"']+)["']/g)];
  assertEquals(imports.map(([, name]) => name), ["cloudflare:sockets"]);
});

describe("TLS on Workers", () => {
  const encrypted = (server: PostgresServer, said: Record<string, string>) =>
    dsnOf(server, { user: "encrypted", password: CANARY, sslmode: "verify-full", ...said });

  test("carries a stream where the certificate is good, by name and by address", async () => {
    const table = await TestTable.create(database(), "tls");
    const places = [
      { host: "localhost" },
      { host: "127.0.0.1" },
      { host: "db.pgstream.test", hostaddr: "127.0.0.1" },
      { host: "127.0.0.1", sslmode: "prefer" },
      { host: "localhost", sslrootcert: "system" },
    ];
    for (const [index, place] of places.entries()) {
      await table.insertMany(index * 1000 + 1, index * 1000 + 1000, "repeat('x', 500)");
      const { keys, error } = await catchUp(table, { dsn: encrypted(db, place) });
      assertEquals(error, null);
      assertEquals(keys, texts(index * 1000 + 1, index * 1000 + 1000));
    }
    const plain = await failure(encrypted(db, { sslmode: "disable" }));
    assertEquals(plain.kind, "authentication");
    await noSessionIsLeft();
    await table.remove();
  });

  for (
    const [what, make] of [
      ["expired", () => authority.issue({ dns: DNS, expired: true })],
      ["for another name", () => authority.issue({ dns: ["other.pgstream.test"], ips: [] })],
      [
        "of an authority that is not trusted",
        async () => await (await CertificateAuthority.create()).issue({ dns: DNS }),
      ],
      ["self-signed", () => selfSigned({ dns: DNS })],
    ] as const
  ) {
    test(`rejects a certificate that is ${what}, whatever sslmode says`, async () => {
      const server = await startTls(await make());
      try {
        for (const sslmode of ["verify-full", "require", "prefer"]) {
          const error = await failure(encrypted(server, { host: "localhost", sslmode }));
          assertEquals([error.kind, error.retryable], ["tls-failed", true]);
          assertMatch(error.message, /rejects the certificate, as one for localhost/);
          assertMatch(error.hint!, /authority that the runtime trusts/);
          assertNotMatch(JSON.stringify(error), new RegExp(CANARY));
        }
      } finally {
        await server.stop("immediate");
      }
    });
  }

  test("refuses what the platform cannot do, before anything is sent", async () => {
    const { cert, key } = await authority.issue();
    for (
      const [said, what] of [
        [{ sslrootcert: authority.cert }, /sslrootcert/],
        [{ sslcert: cert, sslkey: key }, /sslcert/],
        [{ sslsni: "0" }, /sslsni/],
        [{ sslnegotiation: "direct" }, /ALPN/],
      ] as [Record<string, string>, RegExp][]
    ) {
      const error = await failure(encrypted(db, { host: "localhost", ...said }));
      assertEquals([error.kind, error.retryable], ["tls-unavailable", false]);
      assertMatch(error.message, what);
      assert(error.hint !== null);
    }
    const bound = { host: "localhost", channel_binding: "require" };
    assertEquals((await failure(encrypted(db, bound))).kind, "channel-binding");
    await noSessionIsLeft();
  });
});

/** An API like OpenAI's before a real model. */
async function startEmbeddings(key: string) {
  let broken = false;
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += chunk;
    const allowed = request.headers.authorization === `Bearer ${key}`;
    response.statusCode = broken ? 503 : allowed ? 200 : 401;
    if (response.statusCode !== 200) return response.end();
    const { input } = JSON.parse(body) as { input: string[] };
    const vectors = await embed(input, { signal: AbortSignal.timeout(30_000) });
    const data = vectors.map((embedding, index) => ({ index, embedding }));
    response.end(JSON.stringify({ data }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    fail: (fails: boolean) => broken = fails,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

async function wranglerConfig() {
  const file = new URL("../../examples/workers/wrangler.jsonc", import.meta.url);
  const text = (await readFile(file, "utf8")).replaceAll(/^\s*\/\/.*$/gm, "");
  return JSON.parse(text) as { main: string; vars: Record<string, string> };
}

test("examples/workers: a cron trigger brings a Qdrant collection into step", async () => {
  const qdrant = await startQdrant();
  const embeddings = await startEmbeddings("key-5e");
  const { main, vars } = await wranglerConfig();
  const example = await startWorker(`examples/workers/${main}`, {
    bindings: {
      ...vars,
      DATABASE_URL: dsnOf(db, { sslmode: "verify-full", host: "localhost" }),
      QDRANT_URL: qdrant.url,
      EMBEDDINGS_URL: embeddings.url,
      EMBEDDINGS_KEY: "key-5e",
      EMBEDDINGS_DIMENSIONS: `${EMBEDDING_DIMENSIONS}`,
    },
    trusted: [authority.cert],
  });
  const points = async () => {
    const answer = await fetch(`${qdrant.url}/collections/documents/points/scroll`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ with_payload: true, with_vector: true }),
    });
    const { result } = await answer.json() as {
      result: { points: { payload: Record<string, unknown>; vector: number[] }[] };
    };
    return result.points.map(({ payload: { id, content }, vector }) => [
      id,
      content,
      vector.length,
    ]);
  };
  try {
    await db.query("CREATE TABLE documents (id bigint PRIMARY KEY, content text)");
    assertEquals(await example.schedule(), "ok");
    await db.query("INSERT INTO documents VALUES (1, 'bread'), (2, 'a comet')");
    await db.query("DELETE FROM documents WHERE id = 2");
    assertEquals(await example.schedule(), "ok");
    assertEquals(await points(), [[1, "bread", EMBEDDING_DIMENSIONS]]);

    // What could not be done in one run is done in the next.
    embeddings.fail(true);
    await db.query("UPDATE documents SET content = 'cheese'");
    assertEquals(await example.schedule(), "exception");
    assertMatch(example.log, /The handler failed on update of public\.documents/);
    embeddings.fail(false);
    assertEquals(await example.schedule(), "ok");
    assertEquals(await points(), [[1, "cheese", EMBEDDING_DIMENSIONS]]);
    await noSessionIsLeft();
  } finally {
    await example.stop();
    embeddings.stop();
    await qdrant.close();
  }
});
