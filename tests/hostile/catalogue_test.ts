import { playAll } from "../support/hostile_server.ts";
import { CATALOGUE } from "./cases/catalogue.ts";

playAll("the catalogue", CATALOGUE);
