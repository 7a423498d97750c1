/** Says how a stream is doing while it runs: a line that is kept fresh for a person, now and then a line in a pipe. */

import process from "node:process";
import type { StreamObserver, Work } from "../observer.ts";
import type { StreamState } from "../stream/status.ts";
import type { PgStream } from "../stream/pg_stream.ts";
import { streamLine } from "./progress_line.ts";
import type { Terminal } from "./terminal.ts";

const FOR_A_PERSON_MS = 500;
const IN_A_PIPE_MS = 60_000;
/** Nothing is to be fresh after these: the line stays. */
const LAST: readonly StreamState[] = ["stopped", "failed"];

/** Counts texts that became vectors. */
export class EmbeddedTexts implements StreamObserver {
  /** How many. */
  count = 0;

  /** Counts them. */
  async observe<T>({ kind, size }: Work, run: () => Promise<T>): Promise<T> {
    const result = await run();
    if (kind === "embed") this.count += size;
    return result;
  }
}

/**
 * Tells of it until `end()`, and when it ends.
 *
 * @param json lines of `status()` and `textsEmbedded` on stdout, at each change of state and once a minute
 */
export function tellOf(
  stream: PgStream,
  terminal: Terminal,
  { json, embedded }: { json: boolean; embedded: EmbeddedTexts },
): { end(): void } {
  const isPerson = !json && process.stderr.isTTY === true;
  const tell = (): void => {
    const status = stream.status();
    if (json) void terminal.printJson({ ...status, textsEmbedded: embedded.count });
    else if (isPerson && !LAST.includes(status.state)) {
      terminal.progress(streamLine(status, embedded.count));
    } else {
      terminal.endProgress();
      terminal.note(streamLine(status, embedded.count));
    }
  };
  stream.onStateChange(tell);
  const timer = setInterval(() => {
    // Before it begins, and after its end, there is nothing new.
    if (!["idle", ...LAST].includes(stream.status().state)) tell();
  }, isPerson ? FOR_A_PERSON_MS : IN_A_PIPE_MS);
  return {
    end() {
      clearInterval(timer);
      terminal.endProgress();
    },
  };
}
