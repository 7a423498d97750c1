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

/** A temporary slot is gone with its connection. */
export function temporaryLost(slotName: string): SlotError {
  return new SlotError(`Temporary slot "${slotName}" ended with its connection`, {
    kind: "slot-lost",
    slotName,
    hint:
      'Changes since then are missed. Use onSlotLost: "recreate" and onGap, or a slot that stays.',
  });
}

/** True where another session holds the slot. */
export function isInUse(error: unknown): error is SlotError {
  return error instanceof SlotError && error.kind === "slot-in-use";
}
