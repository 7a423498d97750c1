/**
 * The messages that a server sends, from bytes. Each function takes a frame's body and consumes it
 * to the last byte; bytes that are missing or left over are a `ProtocolError`.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { ByteReader } from "../bytes.ts";
import { ProtocolError } from "./errors.ts";

/** What the server asks for, or says, about authentication. */
export type Authentication =
  /** `Int32(0)` */
  | { readonly type: "ok" }
  /** `Int32(3)` */
  | { readonly type: "cleartext-password" }
  /** `Int32(5)`, `Byte4` salt */
  | { readonly type: "md5-password"; readonly salt: Uint8Array }
  /** `Int32(10)`, a `String` for each mechanism, a zero byte */
  | { readonly type: "sasl"; readonly mechanisms: readonly string[] }
  /** `Int32(11)`, the mechanism's data */
  | { readonly type: "sasl-continue"; readonly data: string }
  /** `Int32(12)`, the mechanism's data */
  | { readonly type: "sasl-final"; readonly data: string }
  /** Kerberos, GSSAPI, SSPI or something newer; not looked into. */
  | { readonly type: "other"; readonly code: number };

/** AuthenticationOk and its kin: `Int32` code, then what belongs to it. */
export function decodeAuthentication(body: Uint8Array): Authentication {
  return decode("Authentication", body, (reader): Authentication => {
    const code = reader.readInt32();
    switch (code) {
      case 0:
        return { type: "ok" };
      case 3:
        return { type: "cleartext-password" };
      case 5:
        return { type: "md5-password", salt: reader.readBytes(4) };
      case 10: {
        const mechanisms: string[] = [];
        for (let name = reader.readCString(); name !== ""; name = reader.readCString()) {
          mechanisms.push(name);
        }
        return { type: "sasl", mechanisms };
      }
      case 11:
        return { type: "sasl-continue", data: reader.readText(reader.remaining) };
      case 12:
        return { type: "sasl-final", data: reader.readText(reader.remaining) };
      default:
        reader.readBytes(reader.remaining);
        return { type: "other", code };
    }
  });
}

/** BackendKeyData: `Int32` process id, and the secret key: 4 to 256 bytes, here a copy. */
export function decodeBackendKeyData(
  body: Uint8Array,
): { processId: number; secretKey: Uint8Array } {
  return decode("BackendKeyData", body, (reader) => {
    const processId = reader.readInt32();
    if (reader.remaining < 4) throw new RangeError("its key is shorter than 4 bytes");
    return { processId, secretKey: reader.readBytes(reader.remaining).slice() };
  });
}

/** NegotiateProtocolVersion: `Int32` minor version, `Int32` count, a `String` for each option. */
export function decodeNegotiateProtocolVersion(
  body: Uint8Array,
): { newestMinor: number; unrecognizedOptions: readonly string[] } {
  return decode("NegotiateProtocolVersion", body, (reader) => {
    const newestMinor = reader.readInt32();
    const count = reader.readInt32();
    if (count < 0) throw new RangeError(`it has ${count} options`);
    const unrecognizedOptions: string[] = [];
    for (let i = 0; i < count; i++) unrecognizedOptions.push(reader.readCString());
    return { newestMinor, unrecognizedOptions };
  });
}

/** ParameterStatus: `String` name, `String` value. */
export function decodeParameterStatus(body: Uint8Array): { name: string; value: string } {
  return decode(
    "ParameterStatus",
    body,
    (reader) => ({ name: readLossyCString(reader), value: readLossyCString(reader) }),
  );
}

/** The state that a server is in when it waits for a query. */
export type TransactionStatus = "idle" | "in-transaction" | "failed-transaction";

/** ReadyForQuery: `Byte1` of `I`, `T` or `E`. */
export function decodeReadyForQuery(body: Uint8Array): TransactionStatus {
  return decode("ReadyForQuery", body, (reader) => {
    switch (reader.readUint8()) {
      case 0x49:
        return "idle";
      case 0x54:
        return "in-transaction";
      case 0x45:
        return "failed-transaction";
      default:
        throw new RangeError("its status is none of I, T, E");
    }
  });
}

/** One column of a result. */
export interface FieldDescription {
  /** The column's name. */
  readonly name: string;
  /** OID of the table that the column comes from, else 0. */
  readonly tableOid: number;
  /** Attribute number of the column in that table, else 0. */
  readonly columnNumber: number;
  /** OID of the column's type. */
  readonly typeOid: number;
  /** `pg_type.typlen`: negative for variable widths. */
  readonly typeSize: number;
  /** `pg_attribute.atttypmod`. */
  readonly typeModifier: number;
}

/**
 * RowDescription: `Int16` count; for each field `String` name, `Int32` table, `Int16` column,
 * `Int32` type, `Int16` size, `Int32` modifier, `Int16` format.
 */
export function decodeRowDescription(body: Uint8Array): readonly FieldDescription[] {
  return decode("RowDescription", body, (reader) => {
    const fields: FieldDescription[] = [];
    for (let left = reader.readUint16(); left > 0; left--) {
      fields.push({
        name: reader.readCString(),
        tableOid: reader.readUint32(),
        columnNumber: reader.readInt16(),
        typeOid: reader.readUint32(),
        typeSize: reader.readInt16(),
        typeModifier: reader.readInt32(),
      });
      if (reader.readInt16() !== 0) throw new RangeError("a field is not in text format");
    }
    return fields;
  });
}

/**
 * DataRow of text values: `Int16` count; for each column `Int32` length (−1 is NULL) and the value.
 *
 * @param count the number of columns that RowDescription has announced.
 */
export function decodeDataRow(body: Uint8Array, count: number): readonly (string | null)[] {
  return decode("DataRow", body, (reader) => {
    const sent = reader.readUint16();
    if (sent !== count) throw new RangeError(`it has ${sent} columns, ${count} were announced`);
    const row: (string | null)[] = [];
    for (let i = 0; i < count; i++) {
      const length = reader.readInt32();
      row.push(length === -1 ? null : reader.readText(length));
    }
    return row;
  });
}

/** CommandComplete: `String` tag, for example `SELECT 3`. */
export function decodeCommandComplete(body: Uint8Array): string {
  return decode("CommandComplete", body, (reader) => reader.readCString());
}

/**
 * CopyInResponse, CopyOutResponse, CopyBothResponse: `Int8` format (0 text, 1 binary), `Int16`
 * count, an `Int16` format code for each column.
 */
export function decodeCopyResponse(body: Uint8Array): { binary: boolean; columns: number } {
  return decode("CopyResponse", body, (reader) => {
    const format = reader.readUint8();
    if (format > 1) throw new RangeError("its format is neither 0 nor 1");
    const columns = reader.readUint16();
    for (let i = 0; i < columns; i++) reader.readInt16();
    return { binary: format === 1, columns };
  });
}

/** A message without a body: CopyDone, EmptyQueryResponse. */
export function decodeEmpty(name: string, body: Uint8Array): void {
  decode(name, body, () => {});
}

/** NotificationResponse: `Int32` process id, `String` channel, `String` payload. */
export function decodeNotification(
  body: Uint8Array,
): { processId: number; channel: string; payload: string } {
  return decode("NotificationResponse", body, (reader) => ({
    processId: reader.readInt32(),
    channel: readLossyCString(reader),
    payload: readLossyCString(reader),
  }));
}

/**
 * ErrorResponse and NoticeResponse: for each field `Byte1` code and `String` value, then a zero
 * byte. Codes that nobody knows yet are kept too.
 * https://www.postgresql.org/docs/current/protocol-error-fields.html
 *
 * @returns the values by their one-letter codes.
 */
export function decodeErrorFields(body: Uint8Array): ReadonlyMap<string, string> {
  return decode("ErrorResponse", body, (reader) => {
    const fields = new Map<string, string>();
    for (let code = reader.readUint8(); code !== 0; code = reader.readUint8()) {
      fields.set(String.fromCharCode(code), readLossyCString(reader));
    }
    return fields;
  });
}

// Errors of the start-up, and names in a SQL_ASCII database, come in whatever encoding the server
// has: better a replacement character in a message than no message.
const lossyUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

function readLossyCString(reader: ByteReader): string {
  return lossyUtf8.decode(reader.readCStringBytes());
}

function decode<T>(name: string, body: Uint8Array, read: (reader: ByteReader) => T): T {
  const reader = new ByteReader(body);
  try {
    const message = read(reader);
    reader.expectEnd();
    return message;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ProtocolError(`The server sent a ${name} message that does not parse`, {
      cause: error,
    });
  }
}
