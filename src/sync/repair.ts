/** Mends what a store has of rows: through the stream, so that it stays in order with changes. */

import { formatLsn } from "../lsn.ts";
import type { RowSink } from "../sinks/rows.ts";
import type { LiveStream } from "./live_stream.ts";
import { type Compared, type Different, isOf } from "./second_look.ts";

/** What mends. */
export interface Mending extends Compared {
  readonly live: LiveStream;
  readonly sink: Compared["sink"] & Required<Pick<RowSink, "apply">>;
}

/** Has rows written anew that are there, and removes the points of those that are gone. */
export async function mend(
  mending: Mending,
  different: ReadonlyMap<string, Different>,
  signal: AbortSignal,
): Promise<void> {
  const { live } = mending;
  const keysOf = (isRow: boolean) =>
    [...different].filter(([, it]) => it.isRow === isRow).map(([key]) => key);
  const [there, gone] = [keysOf(true), keysOf(false)];
  if (there.length > 0) await live.rewrite(there, signal);
  if (gone.length > 0) await live.atBarrier(() => remove(mending, gone, signal), signal);
}

/**
 * While the stream stands still. What it has handled is shown, as this look is complete: so a row that is not there is
 * gone. Should it come anew behind what is shown, it comes to the store later than this, and stays.
 */
async function remove(
  { source, sink, maker, live }: Mending,
  keys: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  for (let left = keys; left.length > 0;) {
    signal.throwIfAborted();
    const rows = await source.at(left, signal);
    left = left.slice(rows.keys.length);
    const { server } = live;
    if (!rows.complete || server === null || !isOf(rows, server)) continue;
    const { systemId, timeline } = server;
    const position = { systemId, timeline, lsn: formatLsn(rows.shownLsn), ordinal: -1 };
    const { table, model } = maker;
    await sink.apply(
      rows.keys.filter((key) => !rows.rows.has(key)).map((key) => ({
        ...{ table, key, position, model, points: [], surplus: true },
      })),
      null,
    );
  }
}
