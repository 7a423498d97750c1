/** Where a connection goes on that takes an earlier one's place. */
import type { Frontier } from "../delivery/frontier.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { SlotError } from "../replication/errors.ts";
import type { SystemIdentity } from "../replication/server.ts";

/** Which server it was. A position means nothing on another one, nor on another timeline. */
export interface KnownSystem extends Pick<SystemIdentity, "systemId" | "timeline"> {
  /** Where it was a standby: when that was started. */
  standbyStartedAt?: string;
}

/** What a new connection found. */
export interface Found {
  slotName: string;
  identity: SystemIdentity;
  /** The slot's position. */
  confirmedLsn: Lsn;
  /** True where the slot is kept on standbys too, and so outlives a fail-over. */
  failover: boolean;
  /** How far a standby has come; null, or left out, of any other server. */
  replayedLsn?: Lsn | null;
}

/** Where to start. */
export interface Continuation {
  startLsn: Lsn;
  /**
   * What becomes of what is queued: it is kept, and left out when it comes again; it is handled before
   * anything else is read, for it may come again in another way; somebody else has handled it.
   */
  queued: "keep" | "finish" | "drop";
}

/**
 * Checks that what is known of the slot's past fits what is found.
 *
 * @param frontier null before the first connection
 * @param shared true where other consumers take turns with this one
 * @throws {SlotError} `system-changed`, `timeline-changed`, `lsn-beyond-server`, `slot-moved`: changes may be missing.
 */
export function continueAt(
  found: Found,
  known: KnownSystem | null,
  frontier: Frontier | null,
  shared: boolean,
): Continuation {
  const { slotName, identity, confirmedLsn, failover, replayedLsn = null } = found;
  if (known !== null && known.systemId !== identity.systemId) {
    throw lost(
      slotName,
      "system-changed",
      `is on another server now: the system identifier was ` +
        `${known.systemId} and is ${identity.systemId}`,
    );
  }
  if (known !== null && known.timeline !== identity.timeline) {
    if (!failover) {
      throw lost(
        slotName,
        "timeline-changed",
        `is on timeline ${identity.timeline} now, it was on ` +
          `${known.timeline}: the server was restored, or a standby has taken its place`,
      );
    }
    // A slot made for this. Its own position counts: what came after it may never have happened here.
    return { startLsn: confirmedLsn, queued: "finish" };
  }
  if (frontier === null) return { startLsn: confirmedLsn, queued: "finish" };
  if (confirmedLsn > frontier.confirmed) {
    // In turns, whoever held it meanwhile has handled what lies between.
    if (shared) return { startLsn: confirmedLsn, queued: "drop" };
    throw lost(
      slotName,
      "slot-moved",
      `is at ${formatLsn(confirmedLsn)}, but this stream has confirmed no more than ` +
        `${formatLsn(frontier.confirmed)}: it was made anew, advanced, or used by another consumer`,
    );
  }
  // A standby may be behind, and comes there.
  if (frontier.confirmed > identity.walLsn && replayedLsn === null) {
    throw lost(
      slotName,
      "lsn-beyond-server",
      `cannot go on at ${formatLsn(frontier.confirmed)}: ` +
        `the server's WAL ends at ${formatLsn(identity.walLsn)}`,
    );
  }
  // A server that crashed may have forgotten the last confirmations; the frontier has not.
  return { startLsn: frontier.confirmed, queued: "keep" };
}

function lost(slotName: string, kind: string, what: string): SlotError {
  return new SlotError(`Slot "${slotName}" ${what}`, {
    kind,
    slotName,
    hint: "Changes may be missing: rebuild what it kept in step, and start anew. " +
      'With onSlotLost: "recreate" the stream goes on by itself and tells onGap.',
  });
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
