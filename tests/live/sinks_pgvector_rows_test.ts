import { after } from "node:test";
import postgres from "postgres";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";
import { parseVector } from "../../src/values/vector.ts";
import { rowSinkContract, type RowSinkUnderTest } from "../contract/row_sink_contract.ts";
import { startPgvector } from "../support/servers/pgvector.ts";

const server = await startPgvector();
const sql = postgres(server.dsn, { onnotice: () => {} });

after(async () => {
  await sql.end();
  await server.stop();
});

rowSinkContract("PgVectorSink", async (): Promise<RowSinkUnderTest> => {
  const open = () => new PgVectorSink({ dsn: server.dsn, createTable: { dimensions: 3 } });
  const sink = open();
  await sink.prepareRows();
  return {
    sink,
    async read(id) {
      const [row] = await sql`select vector::text, payload from embeddings where id = ${id}`;
      return row === undefined
        ? null
        : { vector: [...parseVector(row.vector)], payload: row.payload };
    },
    async count() {
      return Number((await sql`select count(*) from embeddings`)[0]!.count);
    },
    reopen: () => Promise.resolve(open()),
    release: () => sink.close(),
  };
}, {
  members: [
    "prepareRows",
    "apply",
    "position",
    "fingerprints",
    "scan",
    "deleteTable",
    "otherModel",
    "filled",
    "location",
    "search",
  ],
  atomic: true,
});
