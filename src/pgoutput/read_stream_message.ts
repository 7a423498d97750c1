/** Reads what protocols 2 to 4 add to pgoutput. */
import type { ByteReader } from "../bytes.ts";
import type { Prepare, StreamMessage } from "./stream_messages.ts";
import { byteText } from "./tuple_reader.ts";

/**
 * The transaction id that comes behind Byte1 inside a stream; null for messages without.
 *
 * @throws {RangeError} for a message that does not belong there.
 */
export function readStreamXid(reader: ByteReader, messageType: number): number | null {
  switch (messageType) {
    case 0x49: // I
    case 0x55: // U
    case 0x44: // D
    case 0x54: // T
    case 0x4d: // M
    case 0x52: // R
    case 0x59: // Y
      return reader.readUint32();
    case 0x4f: // O
    case 0x45: // E
      return null;
    default:
      throw new RangeError(`no message inside of a stream begins with ${byteText(messageType)}`);
  }
}

/** Reads what follows Byte1. @throws {RangeError} where no such message exists. */
export function readStreamMessage(reader: ByteReader, messageType: number): StreamMessage {
  switch (messageType) {
    case 0x53: // S
      return {
        type: "stream-start",
        xid: reader.readUint32(),
        firstSegment: (reader.readUint8() & 1) !== 0,
      };
    case 0x45: // E
      return { type: "stream-stop" };
    case 0x63: // c
      return {
        type: "stream-commit",
        xid: reader.readUint32(),
        flags: reader.readUint8(),
        commitLsn: reader.readUint64(),
        endLsn: reader.readUint64(),
        commitTimeUs: reader.readInt64(),
      };
    case 0x41: { // A
      const xid = reader.readUint32();
      const subXid = reader.readUint32();
      // Only the length tells whether they are there.
      const told = reader.remaining !== 0;
      return {
        type: "stream-abort",
        xid,
        subXid,
        abortLsn: told ? reader.readUint64() : null,
        abortTimeUs: told ? reader.readInt64() : null,
      };
    }
    case 0x62: // b
      return {
        type: "begin-prepare",
        prepareLsn: reader.readUint64(),
        endLsn: reader.readUint64(),
        prepareTimeUs: reader.readInt64(),
        xid: reader.readUint32(),
        gid: reader.readCString(),
      };
    case 0x50: // P
      return { type: "prepare", ...readPrepare(reader) };
    case 0x70: // p
      return { type: "stream-prepare", ...readPrepare(reader) };
    case 0x4b: // K
      return {
        type: "commit-prepared",
        flags: reader.readUint8(),
        commitLsn: reader.readUint64(),
        endLsn: reader.readUint64(),
        commitTimeUs: reader.readInt64(),
        xid: reader.readUint32(),
        gid: reader.readCString(),
      };
    case 0x72: // r
      return {
        type: "rollback-prepared",
        flags: reader.readUint8(),
        prepareEndLsn: reader.readUint64(),
        rollbackEndLsn: reader.readUint64(),
        prepareTimeUs: reader.readInt64(),
        rollbackTimeUs: reader.readInt64(),
        xid: reader.readUint32(),
        gid: reader.readCString(),
      };
    default:
      throw new RangeError(`no message of pgoutput begins with ${byteText(messageType)}`);
  }
}

function readPrepare(reader: ByteReader): Omit<Prepare, "type"> {
  return {
    flags: reader.readUint8(),
    prepareLsn: reader.readUint64(),
    endLsn: reader.readUint64(),
    prepareTimeUs: reader.readInt64(),
    xid: reader.readUint32(),
    gid: reader.readCString(),
  };
}
