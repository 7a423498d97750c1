/**
 * A real server far along: with LSNs and transaction ids as only years of writing reach them. What
 * pg_resetwal would do, which the packages of PostgreSQL for npm do not carry:
 * https://www.postgresql.org/docs/current/app-pgresetwal.html
 */

import { Buffer } from "node:buffer";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { giveToServer } from "./postgres_files.ts";
import { type PostgresOptions, type PostgresServer, startPostgres } from "./postgres.ts";

const XIDS_A_PAGE = 8192 * 4;
/** Where such a server's WAL begins. */
export const MOVED_LSN: bigint = 1n << 57n;
/** Where its transaction ids begin: with a page of the commit log, which the server then makes itself. */
export const MOVED_XID: number = 91_553 * XIDS_A_PAGE;
/** How often they have wrapped round by then. */
const EPOCH = 7;
/** Nearer than half of all ids to both ends, for rows of before have to be frozen in between. */
const HALFWAY_XID = 45_777 * XIDS_A_PAGE;

const SEGMENT_BYTES = 16 * 1024 * 1024;
const LONG_PAGE_HEADER_BYTES = 40;
const RECORD_HEADER_BYTES = 24;
const XLP_LONG_HEADER = 2;
const XLR_BLOCK_ID_DATA_SHORT = 255;

/** Starts a server and moves it to `MOVED_LSN` and `MOVED_XID`. */
export async function startMovedPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const server = await startPostgres(options);
  try {
    await move(server, MOVED_LSN - BigInt(SEGMENT_BYTES), HALFWAY_XID);
    await server.query("UPDATE pg_database SET datallowconn = true WHERE datname = 'template0'");
    for (const database of ["template0", "template1", "postgres"]) {
      await server.query("VACUUM FREEZE", { database });
    }
    await server.query("UPDATE pg_database SET datallowconn = false WHERE datname = 'template0'");
    await move(server, MOVED_LSN, MOVED_XID);
    return server;
  } catch (error) {
    await server.stop("immediate");
    throw error;
  }
}

/** Takes the server down and up again; meanwhile its WAL and its transaction ids begin elsewhere. */
async function move(server: PostgresServer, lsn: bigint, xid: number): Promise<void> {
  await server.shutdown("fast");
  const control = new ControlFile(
    await readFile(join(server.dataDir, "global", "pg_control")),
    server.major,
  );
  const redo = lsn + BigInt(LONG_PAGE_HEADER_BYTES);
  control.moveTo(redo, xid);
  const wal = join(server.dataDir, "pg_wal");
  let magic = 0;
  for (const name of await readdir(wal)) {
    if (!/^[0-9A-F]{24}$/.test(name)) continue;
    magic = (await readFile(join(wal, name))).readUInt16LE(0);
    await rm(join(wal, name));
  }
  const segment = lsn / BigInt(SEGMENT_BYTES);
  const name = ["1", (segment >> 8n).toString(16), (segment & 0xffn).toString(16)]
    .map((part) => part.toUpperCase().padStart(8, "0")).join("");
  await writeFile(join(wal, name), firstSegment(control, lsn, magic), { mode: 0o600 });
  await giveToServer(join(wal, name));
  await writeFile(join(server.dataDir, "global", "pg_control"), control.bytes);
  await server.start();
}

/** `ControlFileData`, as src/include/catalog/pg_control.h has it, on machines that are little-endian. */
class ControlFile {
  readonly bytes: Buffer;
  readonly #checkPointAt: number;
  readonly #checkPointBytes: number;
  readonly #major: number;

  constructor(bytes: Buffer, major: number) {
    this.bytes = bytes;
    this.#major = major;
    // Up to 10 the checkpoint before has a place of its own in front of it.
    this.#checkPointAt = major >= 11 ? 40 : 48;
    this.#checkPointBytes = major >= 12 ? 88 : 80;
    this.#crcAt();
  }

  get systemIdentifier(): bigint {
    return this.bytes.readBigUInt64LE(0);
  }

  /** `CheckPoint`: a part of the file itself. */
  get checkPoint(): Buffer {
    return this.bytes.subarray(this.#checkPointAt, this.#checkPointAt + this.#checkPointBytes);
  }

  moveTo(redo: bigint, xid: number): void {
    const crcAt = this.#crcAt();
    this.bytes.writeBigUInt64LE(redo, 32);
    this.checkPoint.writeBigUInt64LE(redo, 0);
    // From 12 on the epoch is its upper half, and stands behind it.
    this.checkPoint.writeUInt32LE(xid, 24);
    this.checkPoint.writeUInt32LE(EPOCH, this.#major >= 12 ? 28 : 20);
    this.bytes.writeUInt32LE(crc32c(this.bytes.subarray(0, crcAt)), crcAt);
  }

  /** The checksum is the last field, and where that is differs with the version. */
  #crcAt(): number {
    for (let at = 200; at < 400; at += 4) {
      if (crc32c(this.bytes.subarray(0, at)) === this.bytes.readUInt32LE(at)) return at;
    }
    throw new Error("pg_control has no checksum where one was looked for");
  }
}

/** One record, the checkpoint at which the server was shut down. */
function firstSegment(control: ControlFile, lsn: bigint, magic: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT_BYTES);
  bytes.writeUInt16LE(magic, 0);
  bytes.writeUInt16LE(XLP_LONG_HEADER, 2);
  bytes.writeUInt32LE(1, 4); // the timeline
  bytes.writeBigUInt64LE(lsn, 8);
  bytes.writeBigUInt64LE(control.systemIdentifier, 24);
  bytes.writeUInt32LE(SEGMENT_BYTES, 32);
  bytes.writeUInt32LE(8192, 36);
  const data = Buffer.concat([
    Buffer.from([XLR_BLOCK_ID_DATA_SHORT, control.checkPoint.length]),
    control.checkPoint,
  ]);
  const header = Buffer.alloc(RECORD_HEADER_BYTES);
  header.writeUInt32LE(RECORD_HEADER_BYTES + data.length, 0);
  header.writeUInt32LE(crc32c(Buffer.concat([data, header.subarray(0, 20)])), 20);
  bytes.set(header, LONG_PAGE_HEADER_BYTES);
  bytes.set(data, LONG_PAGE_HEADER_BYTES + RECORD_HEADER_BYTES);
  return bytes;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0x82f63b78 : value >>> 1;
  return value;
});

/** https://en.wikipedia.org/wiki/Cyclic_redundancy_check, the polynomial of Castagnoli. */
function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}
