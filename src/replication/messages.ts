/**
 * What travels inside CopyData while a walsender streams.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 */
import { ByteReader, ByteWriter } from "../bytes.ts";
import type { Lsn } from "../lsn.ts";
import type { Span } from "../wire/frames.ts";
import { ReplicationError } from "./errors.ts";

const XLOG_DATA = 0x77; // 'w'
const PRIMARY_KEEPALIVE = 0x6b; // 'k'
/** What of XLogData comes before its data: the type and three Int64. */
const XLOG_DATA_HEADER_BYTES = 25;
const NOTHING = new Uint8Array(0);
const STANDBY_STATUS_UPDATE = 0x72; // 'r'

/** Milliseconds from the Unix epoch to 2000-01-01 00:00 UTC, where Postgres begins to count. */
export const POSTGRES_EPOCH_MS = 946_684_800_000;

/**
 * A piece of the stream: `Byte1('w') Int64 walStart Int64 walEnd Int64 sendTime Byte(n) data`.
 * `data` is one message of the output plugin, and a view of what was received.
 */
export interface XLogData {
  /** `Byte1('w')` */
  readonly type: "xLogData";
  /** For pgoutput: the LSN that the message belongs to; `0n` for a Relation. */
  readonly walStart: Lsn;
  /** The server's end of WAL when it sent this. For logical decoding the same as `walStart`. */
  readonly walEnd: Lsn;
  /** The server's clock, in microseconds since 2000-01-01 UTC. */
  readonly sendTimeUs: bigint;
  /** One output plugin message. Borrowed: copy it to keep it beyond the chunk it came in. */
  readonly data: Uint8Array;
}

/** A sign of life: `Byte1('k') Int64 walEnd Int64 sendTime Byte1 replyRequested`. */
export interface PrimaryKeepalive {
  /** `Byte1('k')` */
  readonly type: "primaryKeepalive";
  /** Everything before this was sent. */
  readonly walEnd: Lsn;
  /** The server's clock, in microseconds since 2000-01-01 UTC. */
  readonly sendTimeUs: bigint;
  /** The server closes the connection soon unless it is answered. */
  readonly replyRequested: boolean;
}

/** What a walsender sends. */
export type ReplicationMessage = XLogData | PrimaryKeepalive;

/**
 * Reads payloads of CopyData where they lie, one after the other. Most are XLogData, of which it makes
 * no object and no `bigint` unless asked for `message`. It is the `Span` of XLogData's data.
 */
export class ReplicationMessageReader implements Span {
  readonly #reader = new ByteReader();
  /** What the payload at hand lies in. */
  bytes: Uint8Array = NOTHING;
  /** Where the data begins, which is one message of the output plugin. */
  start = 0;
  /** Where the payload ends. */
  end = 0;
  /** XLogData: the upper 32 bits of `walStart`. */
  walStartHigh = 0;
  /** XLogData: the lower 32 bits of `walStart`. */
  walStartLow = 0;
  /** Null where the message at hand is XLogData. */
  keepalive: PrimaryKeepalive | null = null;

  /**
   * Takes the next payload in hand.
   *
   * @throws {ReplicationError} of kind `replication-message` where it is neither message, or is cut.
   */
  read(bytes: Uint8Array, start: number, end: number): void {
    const reader = this.#reader;
    try {
      reader.aim(bytes, start, end);
      const type = reader.readUint8();
      if (type === XLOG_DATA) {
        this.walStartHigh = reader.readUint32();
        this.walStartLow = reader.readUint32();
        reader.skip(16);
        this.keepalive = null;
      } else if (type === PRIMARY_KEEPALIVE) {
        this.keepalive = readKeepalive(reader);
      } else {
        throw new RangeError(`Unknown type 0x${type.toString(16)}`);
      }
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new ReplicationError(
        `Cannot read a replication message of ${end - start} bytes: ${cause.message}`,
        { kind: "replication-message", cause },
      );
    }
    this.bytes = bytes;
    this.start = start + reader.offset;
    this.end = end;
  }

  /** Lets go of the payload at hand: it may be large, and the next one late. */
  release(): void {
    this.#reader.release();
    this.bytes = NOTHING;
    this.start = 0;
    this.end = 0;
  }

  /** The message at hand, as an object. */
  get message(): ReplicationMessage {
    if (this.keepalive !== null) return this.keepalive;
    const reader = this.#reader;
    reader.aim(this.bytes, this.start - XLOG_DATA_HEADER_BYTES + 1, this.end);
    return {
      type: "xLogData",
      walStart: reader.readUint64(),
      walEnd: reader.readUint64(),
      sendTimeUs: reader.readInt64(),
      data: reader.readBytes(reader.remaining),
    };
  }
}

function readKeepalive(reader: ByteReader): PrimaryKeepalive {
  const keepalive: PrimaryKeepalive = {
    type: "primaryKeepalive",
    walEnd: reader.readUint64(),
    sendTimeUs: reader.readInt64(),
    replyRequested: reader.readUint8() !== 0,
  };
  reader.expectEnd();
  return keepalive;
}

/** What a client tells the server about itself. */
export interface StandbyStatusUpdate {
  /** The last position received. */
  writtenLsn: Lsn;
  /** What the slot may forget: everything before it is handled. */
  flushedLsn: Lsn;
  /** The client's clock, in milliseconds since the Unix epoch. */
  clockMs: number;
  /** Asks the server for a keepalive at once. Default: false. */
  replyRequested?: boolean;
}

/**
 * Encodes `Byte1('r') Int64 written Int64 flushed Int64 applied Int64 clock Byte1 replyRequested`.
 * Applied is the same as flushed: for a logical slot it means nothing else.
 */
export function encodeStandbyStatusUpdate(update: StandbyStatusUpdate): Uint8Array {
  return new ByteWriter(34)
    .writeUint8(STANDBY_STATUS_UPDATE)
    .writeUint64(update.writtenLsn)
    .writeUint64(update.flushedLsn)
    .writeUint64(update.flushedLsn)
    .writeInt64(BigInt(Math.round((update.clockMs - POSTGRES_EPOCH_MS) * 1000)))
    .writeUint8(update.replyRequested === true ? 1 : 0)
    .finish();
}
