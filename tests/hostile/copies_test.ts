import { playAll } from "../support/hostile_server.ts";
import { COPY_BOTH, COPY_OUT } from "./cases/copies.ts";

playAll("COPY", COPY_OUT);
playAll("START_REPLICATION", COPY_BOTH);
