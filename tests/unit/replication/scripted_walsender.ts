/** A walsender that says what a test tells it to. */
import { ByteReader, ByteWriter } from "../../../src/bytes.ts";
import type { StandbyStatusUpdate } from "../../../src/replication/messages.ts";
import {
  int16,
  msg,
  type Peer,
  say,
  type ScriptedServer,
  startScripted,
  welcome,
} from "../../support/scripted_server.ts";

/** What it answers before it streams. */
export interface Answers {
  /** Default: 60,000. */
  walSenderTimeoutMs?: number;
  /** The row of `pg_replication_slots`; default: none. */
  slot?: Record<string, string | null>;
  /** The row of `pg_stat_activity` of the session. */
  activity?: Record<string, string | null>;
}

/** A running one. */
export interface ScriptedWalsender extends ScriptedServer {
  dsn: string;
}

/** Answers what a stream asks before it starts, then leaves START_REPLICATION to `stream`. */
export async function startWalsender(
  stream: (peer: Peer) => Promise<void>,
  answers: Answers = {},
): Promise<ScriptedWalsender> {
  const server = await startScripted(async (peer) => {
    await welcome(peer);
    for (;;) {
      const { type, text } = await peer.message();
      if (type === "X") return;
      if (text.startsWith("START_REPLICATION")) await stream(peer);
      else await peer.send(...answer(text, answers), say.ready);
    }
  });
  return { ...server, dsn: `postgresql://app@127.0.0.1:${server.port}/db` };
}

function answer(sql: string, answers: Answers): Uint8Array[] {
  const { walSenderTimeoutMs = 60_000, slot = {} } = answers;
  const { activity = { pid: "77", backend_start: "then" } } = answers;
  const row = (fields: Record<string, string | null>) => [
    say.columns(...Object.keys(fields)),
    say.row(...Object.values(fields)),
    say.complete("SELECT 1"),
  ];
  if (sql.startsWith("IDENTIFY_SYSTEM")) {
    return row({ systemid: "7", timeline: "1", xlogpos: "0/100", dbname: "db" });
  }
  if (sql.includes("pg_settings")) return row({ setting: String(walSenderTimeoutMs) });
  if (sql.includes("pg_stat_activity")) return row(activity);
  if (sql.includes("pg_replication_slots")) {
    if (Object.keys(slot).length > 0) return row(slot);
    return [msg("T", int16(0)), say.complete("SELECT 0")];
  }
  return [say.complete("SET")];
}

/** PrimaryKeepalive in CopyData. */
export function keepalive(walEnd: bigint, replyRequested = false): Uint8Array {
  return say.copyData(
    new ByteWriter(18).writeUint8(0x6b).writeUint64(walEnd).writeInt64(0n)
      .writeUint8(replyRequested ? 1 : 0).finish(),
  );
}

/** The next status update; what else the client sends is passed over. */
export async function statusUpdate(
  peer: Peer,
): Promise<Pick<StandbyStatusUpdate, "writtenLsn" | "flushedLsn" | "replyRequested">> {
  for (;;) {
    const { type, body } = await peer.message();
    if (type !== "d") continue;
    const reader = new ByteReader(body.subarray(1));
    const [writtenLsn, flushedLsn] = [reader.readUint64(), reader.readUint64()];
    reader.readUint64();
    reader.readInt64();
    return { writtenLsn, flushedLsn, replyRequested: reader.readUint8() === 1 };
  }
}
