/** Which server and which slot a stream was at, and what tells that it is not there any more. */
import { SlotError } from "../replication/errors.ts";
import type { SystemIdentity } from "../replication/server.ts";

/** Which server it was. A position means nothing on another one, nor on another timeline. */
export interface KnownSystem extends Pick<SystemIdentity, "systemId" | "timeline"> {
  /** Where it was a standby: when that was started. */
  standbyStartedAt?: string;
}

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
