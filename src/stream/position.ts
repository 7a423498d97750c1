/** What has become of a slot, by the error that tells of it. */
import { SlotError } from "../replication/errors.ts";

const LOST_KINDS: ReadonlySet<string> = new Set([
  "slot-missing",
  "slot-lost",
  "slot-moved",
  "system-changed",
  "timeline-changed",
  "lsn-beyond-server",
]);

/** True where changes between the last confirmed position and now cannot be had any more, or may be wrong. */
export function isSlotLost(error: unknown): error is SlotError {
  return error instanceof SlotError && LOST_KINDS.has(error.kind);
}

/** True where another session holds the slot. */
export function isInUse(error: unknown): error is SlotError {
  return error instanceof SlotError && error.kind === "slot-in-use";
}
