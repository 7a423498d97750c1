/**
 * As little as a client of a replication slot can do: a socket whose CopyData messages are counted by their lengths and
 * thrown away, and status updates that confirm nothing. For a server that asks for no password.
 */

import { Buffer } from "node:buffer";
import { connect } from "node:net";

const COPY_DATA = 0x64; // 'd'
const ERROR_RESPONSE = 0x45; // 'E'
const READY_FOR_QUERY = 0x5a; // 'Z'
const XLOG_DATA = 0x77; // 'w'
const HEADER_BYTES = 5;
/** Of XLogData, before the message of pgoutput: Byte1, three Int64. */
const XLOG_DATA_HEADER_BYTES = 25;
const INSERT = 0x49;
const UPDATE = 0x55;
const DELETE = 0x44;
const STATUS_INTERVAL_MS = 1000;

/** Reads from the slot until it has counted so many changes. @returns how many that were */
export function countChanges(
  dsn: string,
  slotName: string,
  publicationName: string,
  changes: number,
): Promise<number> {
  const { hostname, port, username, pathname } = new URL(dsn);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  const socket = connect(Number(port), hostname);
  const startUp = { user: username, database: pathname.slice(1), replication: "database" };
  const fields = [...Object.entries(startUp).flat(), ""].map((text) => `${text}\0`).join("");
  socket.write(message("", `\0\x03\0\0${fields}`));
  const updates = setInterval(() => socket.write(STATUS_UPDATE), STATUS_INTERVAL_MS);
  let counted = 0;
  let rest: Uint8Array = new Uint8Array(0);

  socket.on("data", (received: Uint8Array) => {
    const chunk = rest.length === 0 ? received : Buffer.concat([rest, received]);
    let at = 0;
    while (chunk.length - at >= HEADER_BYTES) {
      const length = (chunk[at + 1]! << 24) | (chunk[at + 2]! << 16) | (chunk[at + 3]! << 8) |
        chunk[at + 4]!;
      const end = at + 1 + length;
      if (end > chunk.length) break;
      const type = chunk[at];
      const body = at + HEADER_BYTES;
      if (type === COPY_DATA && chunk[body] === XLOG_DATA) {
        const kind = chunk[body + XLOG_DATA_HEADER_BYTES];
        if (kind === INSERT || kind === UPDATE || kind === DELETE) counted++;
      } else if (type === READY_FOR_QUERY) {
        const options = `proto_version '1', publication_names '${publicationName}'`;
        socket.write(
          message("Q", `START_REPLICATION SLOT "${slotName}" LOGICAL 0/0 (${options})\0`),
        );
      } else if (type === ERROR_RESPONSE) {
        reject(new Error(new TextDecoder().decode(chunk.subarray(body, end))));
      }
      at = end;
    }
    rest = chunk.subarray(at);
    if (counted >= changes) resolve(counted);
  });
  socket.on("error", reject);
  socket.on("close", () => reject(new Error(`The server closed the connection after ${counted}`)));
  return promise.finally(() => {
    clearInterval(updates);
    socket.destroy();
  });
}

/** A message of the frontend: Byte1 where it has a type, Int32 length that counts itself, body. */
function message(type: string, body: string): Uint8Array {
  const bytes = Buffer.from(`${type}\0\0\0\0${body}`, "latin1");
  bytes.writeInt32BE(bytes.length - type.length, type.length);
  return bytes;
}

/** CopyData of a StandbyStatusUpdate: all of its positions are 0, which moves no slot. */
const STATUS_UPDATE = message("d", `r${"\0".repeat(33)}`);
