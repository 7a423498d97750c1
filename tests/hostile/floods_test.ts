import { playAll } from "../support/hostile_server.ts";
import { FLOODS } from "./cases/floods.ts";

// One after the other: the memory of the process is that of one case.
playAll("floods", FLOODS, { sideBySide: 1 });
