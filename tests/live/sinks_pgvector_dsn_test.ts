/** PGlite takes any parameter of a connection; PostgreSQL itself refuses those that it does not know. */

import { after, test } from "node:test";
import { assertEquals, assertRejects } from "@std/assert";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { testPostgres } from "../support/servers/test_postgres.ts";

const server = await testPostgres();
after(() => server.stop());

// Without the extension: to write, a column that holds a vector's text is enough.
await server.query("CREATE TABLE embeddings (id text PRIMARY KEY, vector text, payload jsonb)");

function sinkWith(query: string): PgVectorSink {
  const url = new URL(server.dsn);
  url.search = query;
  return new PgVectorSink({ dsn: url.href });
}

test("PostgreSQL takes the connection of a dsn as hosted servers write it", async () => {
  const sink = sinkWith(
    "channel_binding=require&gssencmode=prefer&keepalives=1&keepalives_idle=30&sslrootcert=%2Fca.pem" +
      "&target_session_attrs=read-write&sslnegotiation=postgres&tcp_user_timeout=1000&geqo=off",
  );
  await sink.upsert({ id: "1", vector: [1, 2, 3] });
  await sink.close();
  assertEquals(await server.query("SELECT id, vector FROM embeddings"), [
    { id: "1", vector: "[1,2,3]" },
  ]);
});

test("a demand that cannot be met is refused by name, not ignored", async () => {
  for (const [name, value] of [["gssencmode", "require"], ["require_auth", "scram-sha-256"]]) {
    const sink = sinkWith(`${name}=${value}`);
    const error = await assertRejects(() => sink.delete("1"), SinkError, name);
    assertEquals(error.kind, "sink-options");
    await sink.close();
  }
});
