/** The slot: whether a stream can use it, what it keeps back, and what keeps it from being made. */

import { PgStreamError } from "../errors.ts";
import { checkSlot, slotNameTaken } from "../replication/slot_check.ts";
import { readSlot } from "../replication/slot_state.ts";
import { currentDatabase, rowsOf, textOf } from "../replication/server.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteLiteral } from "../wire/quote.ts";
import type { Findings } from "./findings.ts";

/** WAL that one should know of. */
const MUCH_BYTES = 1_000_000_000;

/** How the slot is to be used. */
export interface SlotUse {
  slotName: string;
  temporary: boolean;
  failover: boolean;
  /** A transaction that is open for longer is no usual one. */
  longMs: number;
}

/** Looks at the slot, and at those beside it. */
export async function findSlot(
  connection: Connection,
  use: SlotUse,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const { slotName } = use;
  const slot = await readSlot(connection, slotName, signal);
  if (slot === null) {
    findings.ok(
      "slot",
      use.temporary
        ? "The slot is made when the stream starts"
        : "The slot is not there yet: setup() makes it",
      slotName,
    );
  } else {
    try {
      if (use.temporary && !slot.temporary) throw slotNameTaken(slotName, slot);
      checkSlot(slotName, slot, await currentDatabase(connection, signal));
    } catch (error) {
      if (signal.aborted || !(error instanceof PgStreamError)) throw error;
      findings.error(error, slotName);
      return await findOpen(connection, use.longMs, findings, signal);
    }
    await findUse(connection, slotName, slot.activePid, findings, signal);
    if (use.failover && !slot.failover) {
      findings.warning(
        "slot-failover",
        "The slot is no failover slot: standbys do not keep it",
        "Drop it and run setup() with failover: true; what was not handled is missed then",
        slotName,
      );
    }
    await findWal(connection, slotName, findings, signal);
  }
  await findOtherSlots(connection, slotName, findings, signal);
  await findOpen(connection, use.longMs, findings, signal);
}

async function findUse(
  connection: Connection,
  slotName: string,
  activePid: number | null,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  if (activePid === null) {
    findings.ok("slot", "The slot is there, and nobody reads it at the moment", slotName);
    return;
  }
  const [row] = rowsOf(
    await connection.query(
      `SELECT application_name FROM pg_catalog.pg_stat_replication WHERE pid = ${activePid}`,
      { signal },
    ),
  );
  const name = row?.application_name ?? "";
  const by = name === "" ? "" : ` (${name})`;
  findings.ok("slot", `The slot is there, and read by PID ${activePid}${by}`, slotName);
}

/** WAL between a position and the end: of a standby what it has replayed. */
function behind(lsn: string): string {
  return `pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
    THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, ${lsn})`;
}

async function findWal(
  connection: Connection,
  slotName: string,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const has13 = connection.serverVersion >= 130000;
  const [row] = rowsOf(
    await connection.query(
      `SELECT ${behind("restart_lsn")}::bigint AS retained, active,
        ${has13 ? "wal_status, safe_wal_size" : "NULL AS wal_status, NULL AS safe_wal_size"}
      FROM pg_catalog.pg_replication_slots WHERE slot_name = ${quoteLiteral(slotName)}`,
      { signal },
    ),
  );
  const retained = Number(row?.retained ?? 0);
  const size = megabytes(retained);
  const safe = row?.safe_wal_size == null ? null : Number(row.safe_wal_size);
  if (row?.wal_status === "unreserved") {
    findings.problem(
      "slot-wal",
      `The slot keeps ${size} of WAL, more than max_slot_wal_keep_size: it is lost at the next checkpoint`,
      "Start its consumer now; and for the next time: ALTER SYSTEM SET max_slot_wal_keep_size = -1; " +
        "SELECT pg_reload_conf();",
      slotName,
    );
  } else if (safe !== null && safe < retained / 4) {
    findings.warning(
      "slot-wal",
      `The slot keeps ${size} of WAL, and is lost when ${
        megabytes(Math.max(0, safe))
      } more are written`,
      "Start its consumer, or raise max_slot_wal_keep_size",
      slotName,
    );
  } else if (retained > MUCH_BYTES) {
    findings.warning(
      "slot-wal",
      `The slot keeps ${size} of WAL on the server's disk`,
      row?.active === "t"
        ? "Look at pgstream status: does its consumer keep up?"
        : "Start its consumer, or drop it: " +
          `SELECT pg_drop_replication_slot(${quoteLiteral(slotName)});`,
      slotName,
    );
  } else findings.ok("slot-wal", `The slot keeps ${size} of WAL`, slotName);
}

async function findOtherSlots(
  connection: Connection,
  slotName: string,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const result = await connection.query(
    `SELECT slot_name, ${behind("restart_lsn")}::bigint AS retained
      FROM pg_catalog.pg_replication_slots
      WHERE NOT active AND slot_name <> ${quoteLiteral(slotName)}
        AND ${behind("restart_lsn")} > ${MUCH_BYTES} ORDER BY 2 DESC`,
    { signal },
  );
  for (const row of rowsOf(result)) {
    const name = textOf(row, "slot_name");
    findings.warning(
      "other-slots",
      `Nobody reads this slot, and it keeps ${
        megabytes(Number(row.retained))
      } of WAL on the server's disk`,
      `SELECT pg_drop_replication_slot(${quoteLiteral(name)});`,
      name,
    );
  }
}

/** What is open for long: a slot is not made before it ends, and keeps the WAL since it began. */
async function findOpen(
  connection: Connection,
  longMs: number,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const open = await connection.query(
    `SELECT pid, pg_catalog.round(EXTRACT(epoch FROM now() - xact_start))::bigint AS seconds
      FROM pg_catalog.pg_stat_activity
      WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
        AND now() - xact_start > interval '${longMs} milliseconds' ORDER BY 2 DESC LIMIT 5`,
    { signal },
  );
  for (const row of rowsOf(open)) {
    findings.warning(
      "open-transaction",
      `PID ${row.pid} has a writing transaction open for ${row.seconds} s: a slot is made only ` +
        "when it ends, and WAL is kept since it began",
      `SELECT pg_terminate_backend(${row.pid});`,
    );
  }
  const prepared = await connection.query(
    `SELECT gid, pg_catalog.round(EXTRACT(epoch FROM now() - prepared))::bigint AS seconds
      FROM pg_catalog.pg_prepared_xacts
      WHERE now() - prepared > interval '${longMs} milliseconds' ORDER BY 2 DESC LIMIT 5`,
    { signal },
  );
  for (const row of rowsOf(prepared)) {
    findings.warning(
      "prepared-transaction",
      `The transaction ${row.gid} is prepared since ${row.seconds} s: a slot is made only when it ` +
        "is decided, and WAL is kept since it began",
      `ROLLBACK PREPARED ${quoteLiteral(textOf(row, "gid"))};`,
    );
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0)} MB`;
}
