import { playAll } from "../support/hostile_server.ts";
import { PGOUTPUT } from "./cases/pgoutput.ts";

playAll("pgoutput", PGOUTPUT);
