/** A program that starts a server, says where it is, and stays until it is killed. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { startPostgres } from "./postgres.ts";

const server = await startPostgres({ lifetimeMs: 60_000 });
const pid = parseInt(await readFile(join(server.dataDir, "postmaster.pid"), "utf8"));
const { dataDir, supervisorPid: supervisor } = server;
console.log(JSON.stringify({ pid, supervisor, dataDir }));
