import { playAll } from "../support/hostile_server.ts";
import { SCRAM } from "./cases/scram.ts";

playAll("SCRAM", SCRAM);
