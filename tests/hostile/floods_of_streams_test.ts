import { playAll } from "../support/hostile_server.ts";
import { STREAM_FLOODS } from "./cases/floods.ts";

// One after the other: the memory of the process is that of one case.
playAll("floods of streams", STREAM_FLOODS, { sideBySide: 1 });
