/** What a synced table is told by the stream: who it is, how far it is, what a store has of it already. */

import type { ChangeEvent } from "../change.ts";
import type { StreamPosition } from "../sinks/rows.ts";
import type { SinkLike } from "../sinks/sink.ts";

/** What events are handled with. */
export interface SyncContext {
  /** Aborted when the stream is told to stop: give up what takes long. */
  readonly signal: AbortSignal;
  /** The server that the events come from, as IDENTIFY_SYSTEM has it. */
  readonly system: { readonly systemId: string; readonly timeline: number };
  /** True where a sink that keeps the stream's position has all of this event, from a run before. */
  isStored(sink: SinkLike, event: ChangeEvent): boolean;
  /** What the sink is to store with the events at hand; null where it keeps no position. */
  position(sink: SinkLike): StreamPosition | null;
  /** Events that are likely to come next, in order; none where nobody knows. */
  upcoming(): readonly ChangeEvent[];
  /** The sink has stored that. */
  stored(sink: SinkLike, position: StreamPosition): void;
}
