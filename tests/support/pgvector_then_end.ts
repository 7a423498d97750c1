/** Writes to the pgvector at the DSN that it is given, closes its sink, and has nothing left to do. */

import process from "node:process";
import { PgVectorSink } from "../../src/sinks/pgvector.ts";

const dsn = process.argv[2]!;
const sink = new PgVectorSink({ dsn, table: "ended", createTable: { dimensions: 3 } });
await sink.upsert({ id: 1, vector: [1, 2, 3] });
await sink.close();
console.log("written and closed");
