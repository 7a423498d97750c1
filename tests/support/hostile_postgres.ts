/** A PostgreSQL 18 of a few rows that a stream can be set up and started on; in each answer it can be made to lie. */
import { ByteWriter } from "../../src/bytes.ts";
import * as encode from "./pgoutput_encoder.ts";
import { type Peer, say, welcome } from "./scripted_server.ts";

/** A row by its column names. */
export type Row = Record<string, string | null>;

/** What the client asks. */
export type Question = keyof typeof QUESTIONS;

/** Messages in place of the honest answer, ReadyForQuery included; or what is done in place of answering. */
export type Lie = readonly Uint8Array[] | ((peer: Peer, sql: string) => Promise<void>);

/** The table that is watched. */
export const DOCUMENTS: encode.TableSpec = {
  oid: 16_385,
  name: "documents",
  columns: [{ name: "id", typeOid: 23, key: true }, { name: "v" }],
};

/** Its row in the catalogue. */
export const TABLE: Row = {
  oid: "16385",
  nspname: "public",
  relname: "documents",
  relkind: "r",
  relpersistence: "p",
  relreplident: "d",
  primary_key: '["id"]',
  identity_index: null,
  generated: null,
  virtual: null,
  columns: '["id", "v"]',
};

/** Its publication. */
export const PUBLICATION: Row = {
  oid: "5",
  puballtables: "f",
  pubinsert: "t",
  pubupdate: "t",
  pubdelete: "t",
  pubtruncate: "t",
  pubviaroot: "f",
  pubgencols: "f",
  comment: "pgstream: owned by slot pgstream",
};

/** The slot. */
export const SLOT: Row = {
  slot_name: "pgstream",
  plugin: "pgoutput",
  slot_type: "logical",
  database: "db",
  temporary: "f",
  active_pid: null,
  confirmed_flush_lsn: "0/100",
  wal_status: "reserved",
  two_phase: "f",
  conflicting: "f",
  invalidation_reason: null,
  failover: "f",
  synced: "f",
  on_standby: "f",
};

/** The answer to IDENTIFY_SYSTEM. */
export const SYSTEM: Row = { systemid: "7", timeline: "1", xlogpos: "0/10000", dbname: "db" };

/** By what each question is known, and the honest answer; the first that fits. */
const QUESTIONS = {
  identify: { asks: /^IDENTIFY_SYSTEM/, answer: rows(SYSTEM) },
  timeout: { asks: /'wal_sender_timeout'/, answer: rows({ setting: "60000" }) },
  server: {
    asks: /current_setting\('wal_level'\)/,
    answer: rows({ wal_level: "logical", encoding: "UTF8" }),
  },
  table: { asks: /c\.relpersistence, c\.relreplident/, answer: rows(TABLE) },
  similar: { asks: /pg_catalog\.lower\(c\.relname/, answer: rows() },
  createPublication: {
    asks: /^BEGIN; CREATE PUBLICATION/,
    answer: [say.complete("CREATE PUBLICATION"), say.ready],
  },
  publication: { asks: /FROM pg_catalog\.pg_publication p/, answer: rows(PUBLICATION) },
  publicationTables: {
    asks: /FROM pg_catalog\.pg_publication_rel r/,
    answer: rows({
      oid: "16385",
      nspname: "public",
      relname: "documents",
      columns: null,
      filter: null,
    }),
  },
  publicationSchemas: {
    asks: /FROM pg_catalog\.pg_publication_namespace p/,
    answer: [say.columns("nspname"), say.complete("SELECT 0"), say.ready],
  },
  database: { asks: /current_database\(\)/, answer: rows({ current_database: "db" }) },
  startedAt: {
    asks: /pg_postmaster_start_time/,
    answer: rows({ pg_postmaster_start_time: "then" }),
  },
  createSlot: { asks: /pg_create_logical_replication_slot/, answer: rows({ lsn: "0/100" }) },
  holder: { asks: /s\.active_pid/, answer: rows({ active_pid: null, ended: null }) },
  slot: { asks: /pg_replication_slots WHERE slot_name/, answer: rows(SLOT) },
  backend: { asks: /pg_stat_activity/, answer: rows({ pid: "77", backend_start: "then" }) },
} satisfies Record<string, { asks: RegExp; answer: readonly Uint8Array[] }>;

/** A result of these rows, which have the same columns. */
export function rows(...found: Row[]): readonly Uint8Array[] {
  return [
    say.columns(...Object.keys(found[0] ?? {})),
    ...found.map((row) => say.row(...Object.values(row))),
    say.complete(`SELECT ${found.length}`),
    say.ready,
  ];
}

/** The server's side of each connection. @param stream answers START_REPLICATION; default: streams one row */
export function postgres(
  lies: Partial<Record<Question, Lie>> = {},
  stream: (peer: Peer) => Promise<void> = honestStream,
): (peer: Peer) => Promise<void> {
  return async (peer) => {
    await welcome(peer);
    for (;;) {
      const { type, text } = await peer.message();
      if (type === "X") return;
      const sql = text.slice(0, -1);
      if (sql.startsWith("START_REPLICATION")) {
        await stream(peer);
        continue;
      }
      const question = Object.keys(QUESTIONS).find((name) =>
        QUESTIONS[name as Question].asks.test(sql)
      ) as Question | undefined;
      const lie = question === undefined ? undefined : lies[question];
      if (typeof lie === "function") await lie(peer, sql);
      else if (lie !== undefined) await peer.send(...lie);
      else if (question !== undefined) await peer.send(...QUESTIONS[question].answer);
      else await peer.send(say.complete("SET"), say.ready);
    }
  };
}

/** XLogData in CopyData. */
export function xLogData(data: Uint8Array, walStart = 0x200n, timeUs = 0n): Uint8Array {
  return say.copyData(
    new ByteWriter(64).writeText("w").writeUint64(walStart).writeUint64(walStart).writeInt64(timeUs)
      .writeBytes(data).finish(),
  );
}

/** PrimaryKeepalive in CopyData. */
export function keepalive(walEnd: bigint, replyRequested = false, timeUs = 0n): Uint8Array {
  return say.copyData(
    new ByteWriter(18).writeText("k").writeUint64(walEnd).writeInt64(timeUs)
      .writeUint8(replyRequested ? 1 : 0).finish(),
  );
}

/** A transaction of one row of `documents`; its Relation comes first. */
export function transactionOf(
  id: string,
  commitLsn = 0x200n,
  rows: Uint8Array[] = [encode.insert(DOCUMENTS.oid, [id, "text"])],
): Uint8Array[] {
  return [
    encode.begin(commitLsn, 1),
    encode.relation(DOCUMENTS),
    ...rows,
    encode.commit(commitLsn, commitLsn + 0x10n),
  ].map((message) => xLogData(message, commitLsn));
}

/** Streams one row, and then does what a server does when it is told the end. */
export async function honestStream(peer: Peer): Promise<void> {
  await peer.send(say.copyBoth, ...transactionOf("1"));
  await end(peer);
}

/** Reads to the client's CopyDone and answers it. */
export async function end(peer: Peer): Promise<void> {
  while ((await peer.message()).type !== "c");
  await peer.send(say.copyDone, say.complete("COPY 0"), say.ready);
}
