/** Says how a stream is doing while it runs: a line that is kept fresh for a person, now and then a line in a pipe. */

import process from "node:process";

import type { PgStream } from "../stream/pg_stream.ts";
import { streamLine } from "./progress_line.ts";
import type { Terminal } from "./terminal.ts";

const FOR_A_PERSON_MS = 500;
const IN_A_PIPE_MS = 60_000;

/**
 * Tells of it until `end()`.
 *
 * @param json lines of `status()` on stdout, at each change of state and once a minute
 */
export function tellOf(stream: PgStream, terminal: Terminal, json: boolean): { end(): void } {
  const isPerson = !json && process.stderr.isTTY === true;
  const tell = (): void => {
    if (json) void terminal.printJson(stream.status());
    else if (isPerson) terminal.progress(streamLine(stream.status()));
    else terminal.note(streamLine(stream.status()));
  };
  stream.onStateChange(tell);
  const timer = setInterval(tell, isPerson ? FOR_A_PERSON_MS : IN_A_PIPE_MS);
  return {
    end() {
      clearInterval(timer);
      terminal.endProgress();
    },
  };
}
