import { playAll } from "../support/hostile_server.ts";
import { ENCRYPTION } from "./cases/encryption.ts";

playAll("TLS (28)", ENCRYPTION);
