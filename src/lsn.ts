/**
 * Log sequence numbers: byte positions in the write-ahead log.
 *
 * Inside the library an LSN is a `bigint`; in public it is the text that Postgres prints.
 * https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */

/** A position in the write-ahead log, in bytes; `0n` means invalid, as `InvalidXLogRecPtr` does. */
export type Lsn = bigint;

/** The LSN that stands for "none". */
export const INVALID_LSN: Lsn = 0n;

const LSN_TEXT = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/**
 * Reads an LSN as Postgres prints it.
 *
 * @throws {RangeError} where the text is not `XXXXXXXX/XXXXXXXX`.
 *
 * @example
 * ```ts
 * parseLsn("16/B374D848"); // 97500059720n
 * ```
 */
export function parseLsn(text: string): Lsn {
  const match = LSN_TEXT.exec(text);
  if (match === null) throw new RangeError(`Not an LSN: ${JSON.stringify(text)}`);
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

/**
 * Writes an LSN as Postgres prints it.
 *
 * @example
 * ```ts
 * formatLsn(97500059720n); // "16/B374D848"
 * ```
 */
export function formatLsn(lsn: Lsn): string {
  const high = Number(lsn >> 32n).toString(16);
  const low = Number(lsn & 0xffff_ffffn).toString(16);
  return `${high}/${low}`.toUpperCase();
}
