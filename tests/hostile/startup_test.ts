import { playAll } from "../support/hostile_server.ts";
import { STARTUP } from "./cases/startup.ts";

playAll("start-up (30)", STARTUP);
