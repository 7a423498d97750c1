/**
 * The messages that a client sends, as bytes. Each function returns a buffer of the caller's own.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
import { ByteWriter } from "../bytes.ts";

const PROTOCOL_3_0 = 3 << 16;
const CANCEL_REQUEST = (1234 << 16) | 5678;
const SSL_REQUEST = (1234 << 16) | 5679;
const HEADER_BYTES = 5;

/**
 * StartupMessage: `Int32` length, `Int32` 196608 (protocol 3.0), then `String` name and `String`
 * value of each parameter, and a zero byte.
 *
 * @throws {RangeError} where a parameter holds a zero byte.
 */
export function encodeStartupMessage(parameters: Readonly<Record<string, string>>): Uint8Array {
  const writer = new ByteWriter(512).writeInt32(0).writeInt32(PROTOCOL_3_0);
  for (const [name, value] of Object.entries(parameters)) {
    writer.writeCString(name).writeCString(value);
  }
  writer.writeUint8(0);
  return writer.setInt32(0, writer.length).finish();
}

/** SSLRequest: `Int32` 8, `Int32` 80877103. The answer is one byte, and no message. */
export function encodeSslRequest(): Uint8Array {
  return new ByteWriter(8).writeInt32(8).writeInt32(SSL_REQUEST).finish();
}

/** CancelRequest: `Int32` length, `Int32` 80877102, `Int32` process id, and the secret key. */
export function encodeCancelRequest(processId: number, secretKey: Uint8Array): Uint8Array {
  return new ByteWriter(12 + secretKey.length).writeInt32(12 + secretKey.length)
    .writeInt32(CANCEL_REQUEST).writeInt32(processId).writeBytes(secretKey).finish();
}

/** PasswordMessage: `Byte1('p')`, `Int32` length, `String` password. */
export function encodePasswordMessage(password: string): Uint8Array {
  return message("p", (writer) => writer.writeCString(password));
}

/** SASLInitialResponse: `Byte1('p')`, `Int32`, `String` mechanism, `Int32` length, the response. */
export function encodeSaslInitialResponse(mechanism: string, response: string): Uint8Array {
  const bytes = new TextEncoder().encode(response);
  return message(
    "p",
    (writer) => writer.writeCString(mechanism).writeInt32(bytes.length).writeBytes(bytes),
  );
}

/** SASLResponse: `Byte1('p')`, `Int32` length, the response. */
export function encodeSaslResponse(response: string): Uint8Array {
  return message("p", (writer) => writer.writeText(response));
}

/** Query: `Byte1('Q')`, `Int32` length, `String` SQL. @throws {RangeError} on a zero byte. */
export function encodeQuery(sql: string): Uint8Array {
  return message("Q", (writer) => writer.writeCString(sql));
}

/** CopyData: `Byte1('d')`, `Int32` length, the payload, which is copied. */
export function encodeCopyData(payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  bytes[0] = 0x64;
  new DataView(bytes.buffer).setInt32(1, 4 + payload.length);
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** CopyDone: `Byte1('c')`, `Int32` 4. */
export function encodeCopyDone(): Uint8Array {
  return message("c");
}

/** CopyFail: `Byte1('f')`, `Int32` length, `String` reason. */
export function encodeCopyFail(reason: string): Uint8Array {
  return message("f", (writer) => writer.writeCString(reason));
}

/** Terminate: `Byte1('X')`, `Int32` 4. */
export function encodeTerminate(): Uint8Array {
  return message("X");
}

function message(type: string, write?: (writer: ByteWriter) => unknown): Uint8Array {
  const writer = new ByteWriter().writeText(type).writeInt32(0);
  write?.(writer);
  return writer.setInt32(1, writer.length - 1).finish();
}
