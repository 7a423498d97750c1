/** Names of tables as users write them: literal, never folded to lower case. */

/** A table's full name, each part literal. */
export interface TableName {
  /** `public` where none was written. */
  schema: string;
  /** The table, view or partition root itself. */
  table: string;
}

/**
 * Reads `table` or `schema.table`, split at the first dot outside double quotes. A part in double
 * quotes is taken as SQL does: `"We""ird"."Ta.ble"`. Nothing is folded: `User` is the table `"User"`.
 *
 * @throws {RangeError} where a part is empty, holds a zero byte, or a quote is not closed.
 *
 * @example
 * ```ts
 * parseTableName("blog.articles"); // { schema: "blog", table: "articles" }
 * ```
 */
export function parseTableName(name: string): TableName {
  const dot = firstDotOutsideQuotes(name);
  if (dot === -1) return { schema: "public", table: parsePart(name, name) };
  return {
    schema: parsePart(name.slice(0, dot), name),
    table: parsePart(name.slice(dot + 1), name),
  };
}

/**
 * Writes a name so that `parseTableName` reads the same: `schema.table`, with quotes only around a
 * part that needs them. For messages and reports, not for SQL.
 */
export function formatTableName({ schema, table }: TableName): string {
  return `${formatPart(schema)}.${formatPart(table)}`;
}

/**
 * Writes a name for SQL, each part in double quotes: `"blog"."articles"`.
 *
 * @throws {RangeError} where a part holds a zero byte, at which a server would end the statement.
 */
export function quoteTableName({ schema, table }: TableName): string {
  if (`${schema}${table}`.includes("\0")) throw new RangeError("A table's name holds a zero byte");
  return `"${schema.replaceAll('"', '""')}"."${table.replaceAll('"', '""')}"`;
}

function firstDotOutsideQuotes(name: string): number {
  let quoted = false;
  for (let index = 0; index < name.length; index++) {
    const char = name[index];
    if (char === '"') quoted = !quoted;
    else if (char === "." && !quoted) return index;
  }
  return -1;
}

function parsePart(part: string, name: string): string {
  const quoted = /^"((?:[^"]|"")*)"$/.exec(part);
  const literal = quoted === null ? part : quoted[1]!.replaceAll('""', '"');
  if (literal === "" || literal.includes("\0") || (quoted === null && part.includes('"'))) {
    throw new RangeError(`Not a table name: ${JSON.stringify(name)}`);
  }
  return literal;
}

function formatPart(part: string): string {
  return /[".]/.test(part) ? `"${part.replaceAll('"', '""')}"` : part;
}
