/** A store in a process of its own: `print_store.ts pgvector` or `qdrant` prints its address, and stays until it is killed. */

import process from "node:process";
import { startPgvector } from "./servers/pgvector.ts";
import { startQdrant } from "./servers/qdrant.ts";

console.log(
  process.argv[2] === "pgvector" ? (await startPgvector()).dsn : (await startQdrant()).url,
);
