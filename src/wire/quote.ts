/**
 * Quoting of names and values in SQL text.
 * https://www.postgresql.org/docs/current/sql-syntax-lexical.html
 */

/**
 * A name as SQL text, always quoted.
 *
 * @throws {RangeError} where the name is empty or holds a zero byte.
 *
 * @example
 * ```ts
 * quoteIdentifier('We"ird'); // "We""ird" within double quotes
 * ```
 */
export function quoteIdentifier(name: string): string {
  if (name === "") throw new RangeError("A name is empty");
  rejectZero(name);
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * A text as an SQL literal, right whatever `standard_conforming_strings` says: with a backslash in
 * it the literal takes the form `E'…'`. Not for replication commands: see
 * {@linkcode quoteReplicationLiteral}.
 *
 * @throws {RangeError} where the text holds a zero byte.
 */
export function quoteLiteral(text: string): string {
  const quoted = quoteReplicationLiteral(text);
  // The space keeps the E from joining a word before it.
  return text.includes("\\") ? ` E${quoted.replaceAll("\\", "\\\\")}` : quoted;
}

/**
 * A text as a literal of a replication command (START_REPLICATION and its kin), whose grammar has
 * neither backslashes nor `E'…'`.
 * https://www.postgresql.org/docs/current/protocol-replication.html
 *
 * @throws {RangeError} where the text holds a zero byte.
 */
export function quoteReplicationLiteral(text: string): string {
  rejectZero(text);
  return `'${text.replaceAll("'", "''")}'`;
}

function rejectZero(text: string): void {
  if (text.includes("\0")) throw new RangeError("A name or text for SQL holds a zero byte");
}
