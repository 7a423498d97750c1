/** The server: its version, its settings, what is left of its slots and walsenders. */

import type { Connection } from "../wire/connection.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { fixedMinor } from "../replication/old_minors.ts";
import { numberOf, rowsOf, textOf } from "../replication/server.ts";
import { serverFaults } from "../replication/server_check.ts";
import type { Findings } from "./findings.ts";

/** A walsender that is given up earlier is given up in the middle of work. */
const SHORTEST_SENDER_TIMEOUT_MS = 5000;
/** A consumer that is away for a day is away for a weekend. */
const SHORTEST_IDLE_TIMEOUT_S = 86_400;

/** What settings the server has that concern a stream. */
interface Settings {
  [name: string]: number;
}

/** Looks at the server. */
export async function findServer(
  connection: Connection,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const version = connection.parameters.get("server_version") ?? "of unknown version";
  const faults = await serverFaults(connection, signal);
  for (const fault of faults) findings.error(fault);
  if (faults.some(({ kind }) => kind === "server-version")) return;
  const fixed = fixedMinor(connection.serverVersion);
  if (fixed === null) findings.ok("server-version", `PostgreSQL ${version}`);
  else {
    findings.warning(
      "server-version",
      `PostgreSQL ${version} loses changes of a table that is added to a publication beside an ` +
        "open transaction that has written to it",
      `Update to ${fixed} or later`,
    );
  }
  if (!faults.some(({ kind }) => kind === "wal-level")) {
    findings.ok("wal-level", 'wal_level is "logical"');
  }
  await findTls(connection, findings, signal);
  const settings = await readSettings(connection, signal);
  await findRoom(connection, settings, findings, signal);
  findTimeouts(settings, findings);
  await findStandby(connection, findings, signal);
}

async function findTls(
  connection: Connection,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const result = await connection.query(
    "SELECT ssl, version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()",
    { signal },
  );
  const [row] = rowsOf(result);
  const { host } = connection.host;
  const local = host.startsWith("/") || /^(localhost|127\.[\d.]+|::1)$/.test(host);
  if (row?.ssl === "t") findings.ok("tls", `The connection is encrypted (${row.version})`);
  else if (local) findings.ok("tls", "The connection is not encrypted, and stays on this machine");
  else {
    findings.warning(
      "tls",
      "The connection is not encrypted: who is between reads rows, and the password's proof",
      "Add sslmode=verify-full to the DSN, with sslrootcert where the authority is your own",
    );
  }
}

async function readSettings(connection: Connection, signal: AbortSignal): Promise<Settings> {
  const names = [
    "max_replication_slots",
    "max_wal_senders",
    "wal_sender_timeout",
    "idle_replication_slot_timeout",
    "max_slot_wal_keep_size",
  ];
  const result = await connection.query(
    `SELECT name, setting FROM pg_catalog.pg_settings
      WHERE name IN (${names.map(quoteLiteral).join(", ")})`,
    { signal },
  );
  return Object.fromEntries(
    rowsOf(result).map((row) => [textOf(row, "name"), Number(textOf(row, "setting"))]),
  );
}

async function findRoom(
  connection: Connection,
  { max_replication_slots: slots = 0, max_wal_senders: senders = 0 }: Settings,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const [row] = rowsOf(
    await connection.query(
      `SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots,
        (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication
          WHERE pid <> pg_catalog.pg_backend_pid()) AS senders`,
      { signal },
    ),
  );
  const slotsLeft = slots - numberOf(row, "slots");
  if (slotsLeft > 0) {
    findings.ok("replication-slots", `${slotsLeft} of ${slots} replication slots are left`);
  } else {
    findings.problem(
      "replication-slots",
      `All of ${slots} replication slots are taken`,
      "Drop one that nobody uses (SELECT slot_name FROM pg_replication_slots WHERE NOT active;), or: " +
        `ALTER SYSTEM SET max_replication_slots = ${slots + 10}; and restart the server`,
    );
  }
  const sendersLeft = senders - numberOf(row, "senders");
  if (sendersLeft > 1) {
    findings.ok("walsenders", `${sendersLeft} of ${senders} walsenders are left`);
  } else {
    findings.warning(
      "walsenders",
      `${sendersLeft === 1 ? "The last" : "None"} of ${senders} walsenders is left`,
      `ALTER SYSTEM SET max_wal_senders = ${senders + 10}; and restart the server`,
    );
  }
}

function findTimeouts(settings: Settings, findings: Findings): void {
  const sender = settings.wal_sender_timeout ?? 0;
  if (sender === 0) {
    findings.warning(
      "wal-sender-timeout",
      "wal_sender_timeout is 0: a consumer that vanished holds its slot for ever",
      "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
    );
  } else if (sender < SHORTEST_SENDER_TIMEOUT_MS) {
    findings.warning(
      "wal-sender-timeout",
      `wal_sender_timeout is ${sender} ms: a slow network ends the stream again and again`,
      "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_reload_conf();",
    );
  } else findings.ok("wal-sender-timeout", `wal_sender_timeout is ${sender / 1000} s`);
  // In seconds; before 18 there is none.
  const idle = settings.idle_replication_slot_timeout ?? 0;
  if (idle > 0 && idle < SHORTEST_IDLE_TIMEOUT_S) {
    findings.warning(
      "idle-slot-timeout",
      `idle_replication_slot_timeout is ${idle} s: a slot that is not read for so long is lost`,
      "ALTER SYSTEM SET idle_replication_slot_timeout = '7d'; SELECT pg_reload_conf();",
    );
  }
  // In MB; before 13 there is none.
  const keep = settings.max_slot_wal_keep_size ?? -1;
  findings.ok(
    "slot-wal-limit",
    keep < 0
      ? "Slots keep WAL without limit: a consumer that is away fills the disk in the end"
      : `Slots keep ${keep} MB of WAL at most: one that is further behind is lost`,
  );
}

async function findStandby(
  connection: Connection,
  findings: Findings,
  signal: AbortSignal,
): Promise<void> {
  const [row] = rowsOf(
    await connection.query(
      `SELECT pg_catalog.pg_is_in_recovery() AS standby,
        pg_catalog.current_setting('hot_standby_feedback') AS feedback,
        pg_catalog.current_setting('primary_slot_name', true) AS primary_slot`,
      { signal },
    ),
  );
  if (row?.standby !== "t") return;
  if (connection.serverVersion < 160000) {
    findings.problem(
      "standby",
      "The server is a standby, and decodes nothing before PostgreSQL 16",
      "Connect to the primary",
    );
    return;
  }
  if (row.feedback === "on") findings.ok("standby", "The server is a standby, with feedback");
  else {
    findings.warning(
      "standby-feedback",
      "The server is a standby without hot_standby_feedback: the primary may remove rows of the " +
        "catalogue that its slots need, which are lost then",
      "ALTER SYSTEM SET hot_standby_feedback = on; SELECT pg_reload_conf();",
    );
  }
  if ((row.primary_slot ?? "") === "") {
    findings.warning(
      "standby-primary-slot",
      "The standby has no slot on its primary, which forgets its feedback while it is away",
      "On the primary: SELECT pg_create_physical_replication_slot('standby'); here: " +
        "ALTER SYSTEM SET primary_slot_name = 'standby'; SELECT pg_reload_conf();",
    );
  }
}
