/** Whether a slot is one that a stream of ours can use. */
import type { Connection } from "../wire/connection.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { SlotError } from "./errors.ts";
import type { Slot } from "./slot_state.ts";
import { readReplayedLsn } from "./standby.ts";

/** The output plugin that streams of ours decode. */
export const OUTPUT_PLUGIN = "pgoutput";

/**
 * Checks that the slot can be one of ours, whatever has become of it.
 *
 * @throws {SlotError} of kind `slot-plugin` or `slot-database`.
 */
export function checkSlotKind(slotName: string, slot: Slot, database: string): void {
  const fail = (kind: string, message: string) => {
    throw new SlotError(message, { kind, slotName, hint: anotherSlot(slotName) });
  };
  if (slot.plugin !== OUTPUT_PLUGIN) {
    const what = slot.plugin === null ? "a physical slot" : `of the plugin "${slot.plugin}"`;
    fail("slot-plugin", `Slot "${slotName}" is ${what}, not of "${OUTPUT_PLUGIN}"`);
  }
  if (slot.database !== database) {
    fail(
      "slot-database",
      `Slot "${slotName}" belongs to database "${slot.database}", not to "${database}"`,
    );
  }
}

/**
 * Checks that a stream of ours can use the slot.
 *
 * @throws {SlotError} of kind `slot-in-use` while it is being created, or where it is another session's
 * temporary one; `slot-standby`, `slot-plugin`, `slot-database`, `slot-two-phase` or `slot-lost`.
 */
export function checkSlot(slotName: string, slot: Slot, database: string): void {
  if (slot.creating) {
    throw new SlotError(
      `Cannot use slot "${slotName}": PID ${slot.activePid} is still creating it`,
      {
        kind: "slot-in-use",
        slotName,
        activePid: slot.activePid ?? undefined,
        retryable: true,
        hint: "Try again when setup() has ended: the server waits for writing transactions to end.",
      },
    );
  }
  if (slot.temporary) throw heldAsTemporary(slotName, slot);
  checkSlotKind(slotName, slot, database);
  if (slot.copy) {
    throw new SlotError(`Slot "${slotName}" is a standby's copy: it waits there for a failover`, {
      kind: "slot-standby",
      slotName,
      retryable: true,
      hint: "Connect to the primary, or again when this server has been promoted.",
    });
  }
  if (slot.twoPhase) {
    throw new SlotError(`Slot "${slotName}" decodes two-phase transactions`, {
      kind: "slot-two-phase",
      slotName,
      hint: anotherSlot(slotName),
    });
  }
  checkNotLost(slotName, slot);
}

/**
 * Checks that the server still streams from the slot.
 *
 * @throws {SlotError} of kind `slot-lost`.
 */
export function checkNotLost(slotName: string, slot: Slot, cause?: unknown): void {
  if (slot.invalidated === null) return;
  throw new SlotError(
    `Slot "${slotName}" was invalidated by the server (${slot.invalidated}): ` +
      "changes after its position are gone",
    {
      kind: "slot-lost",
      slotName,
      hint: "Drop it, run setup() again, and rebuild what it kept in step: " +
        `SELECT pg_drop_replication_slot(${quoteLiteral(slotName)}); ` +
        (PREVENTIONS[slot.invalidated] ??
          "Look at max_slot_wal_keep_size and idle_replication_slot_timeout."),
      cause,
    },
  );
}

const KEEP_ROWS =
  "That it does not happen again, set hot_standby_feedback = on on this standby, and " +
  "primary_slot_name to a physical slot of the primary.";

/** What a slot on a standby is invalidated for: the first is all that 16 tells. */
const PREVENTIONS: Readonly<Record<string, string>> = {
  conflict: `${KEEP_ROWS} Or the primary's wal_level was changed: it has to be logical.`,
  rows_removed: KEEP_ROWS,
  wal_level_insufficient:
    "That it does not happen again, leave the primary's wal_level at logical.",
};

/** The error for a name that a temporary slot cannot have, since `slot` has it; null: it has just gone. */
export function slotNameTaken(slotName: string, slot: Slot | null): SlotError {
  if (slot === null || slot.temporary || slot.creating) return heldAsTemporary(slotName, slot);
  return new SlotError(
    `Cannot make the temporary slot "${slotName}": there is a lasting one of that name`,
    { kind: "slot-exists", slotName, hint: anotherSlot(slotName) },
  );
}

function heldAsTemporary(slotName: string, slot: Slot | null): SlotError {
  const activePid = slot?.activePid ?? undefined;
  const holder = activePid === undefined ? "another session" : `PID ${activePid}`;
  return new SlotError(`Cannot use slot "${slotName}": it is a temporary one of ${holder}`, {
    kind: "slot-in-use",
    slotName,
    activePid,
    retryable: true,
    hint: "It goes when that session ends. Stop it, or choose another slotName.",
  });
}

/**
 * Checks that the server can keep slots on its standbys.
 *
 * @throws {SlotError} of kind `failover-unsupported`.
 */
export async function checkFailoverSupported(
  connection: Connection,
  slotName: string,
  signal?: AbortSignal,
): Promise<void> {
  if (connection.serverVersion >= 170000) {
    if (await readReplayedLsn(connection, signal) === null) return;
    throw new SlotError(
      `Slot "${slotName}" cannot be one that other servers keep: this server is a standby`,
      {
        kind: "failover-unsupported",
        slotName,
        hint:
          "Leave failover out: a slot that is made on a standby outlives the promotion of that " +
          "standby. Or connect to the primary.",
      },
    );
  }
  const version = connection.parameters.get("server_version") ?? "of unknown version";
  throw new SlotError(
    `Slot "${slotName}" cannot survive a failover: the server is PostgreSQL ${version}`,
    {
      kind: "failover-unsupported",
      slotName,
      hint: "Failover slots need PostgreSQL 17 or later: leave failover out.",
    },
  );
}

function anotherSlot(slotName: string): string {
  return "Choose another slotName, or drop it if nobody needs it: " +
    `SELECT pg_drop_replication_slot(${quoteLiteral(slotName)});`;
}
