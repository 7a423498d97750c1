import { playAll } from "../support/hostile_server.ts";
import { QUERIES } from "./cases/queries.ts";

playAll("queries", QUERIES);
