/** Rows of text → rows of JS values, for streams with `values: "js"`. */
import type { Row, TupleValue } from "../pgoutput/mod.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { CatalogType } from "../values/built_in_types.ts";
import { ParserFailure, type Parsers, type ParseText, Types } from "../values/types.ts";
import { DeliveryError } from "./errors.ts";

/** A column that is more than text. */
interface ValueColumn {
  name: string;
  /** What its type is called. */
  type: string;
  parse: ParseText;
}

/** Reads the rows of one table, as it is at the time. */
export class RowValues {
  readonly #table: TableName;
  readonly #columns: readonly ValueColumn[];

  /** @param columns those that do not stay text */
  constructor(table: TableName, columns: readonly ValueColumn[]) {
    this.#table = table;
    this.#columns = columns;
  }

  /**
   * Puts values in the place of their text. What is NULL, or not there, stays so.
   *
   * @throws {DeliveryError} of kind `parser-failed` or `malformed-value`.
   */
  read(row: Row): void {
    for (const column of this.#columns) {
      const text = row[column.name];
      if (typeof text !== "string") continue;
      row[column.name] = this.#valueOf(text, column) as TupleValue;
    }
  }

  #valueOf(text: string, column: ValueColumn): unknown {
    try {
      return column.parse(text);
    } catch (error) {
      const name = `${JSON.stringify(column.name)} of ${formatTableName(this.#table)}`;
      throw error instanceof ParserFailure
        ? parserFailed(name, column.type, error.message)
        : malformedValue(name, column.type);
    }
  }
}

/** Asks the catalogue for types; those that it does not have are left out. */
export type LookUpTypes = (oids: readonly number[]) => Promise<readonly CatalogType[]>;

/** The types by which a table's values are read; null: they stay text. */
export type LoadTypes = (table: TableName) => Promise<ValueTypes> | null;

/** The types of a run: what is known of one holds for all tables, for changes as for rows of a backfill. */
export class ValueTypes {
  readonly #types: Types;

  /** Those that Postgres ships, and parsers that go before ours. */
  constructor(parsers: Parsers) {
    this.#types = new Types(parsers);
  }

  /**
   * What reads rows of a table; null where all of it stays text.
   *
   * @param lookUp is asked for types that are not known yet, each once
   */
  async rowValues(
    table: TableName,
    columns: readonly { name: string; typeOid: number }[],
    lookUp: LookUpTypes,
  ): Promise<RowValues | null> {
    const types = this.#types;
    const unknown = types.unknown(columns.map(({ typeOid }) => typeOid));
    if (unknown.length > 0) {
      for (const type of await lookUp(unknown)) types.learn(type);
      // What is gone is not asked for again.
      for (const oid of types.unknown(unknown)) {
        types.learn({ oid, name: `${oid}`, kind: "", element: null, delimiter: "," });
      }
    }
    const read: ValueColumn[] = [];
    for (const { name, typeOid } of columns) {
      const parse = types.parserOf(typeOid);
      if (parse !== null) read.push({ name, type: types.nameOf(typeOid), parse });
    }
    return read.length === 0 ? null : new RowValues(table, read);
  }
}

function malformedValue(column: string, type: string): DeliveryError {
  return new DeliveryError(`Column ${column} has a value that does not read as ${type}`, {
    kind: "malformed-value",
    hint: `Read it yourself, by parsers: { ${JSON.stringify(type)}: (text) => text }. ` +
      "What is not confirmed comes again.",
  });
}

/** @param how it failed: it threw, or gave a promise */
function parserFailed(column: string, type: string, how: string): DeliveryError {
  return new DeliveryError(`Your parser ${how} on a value of column ${column}, type ${type}`, {
    kind: "parser-failed",
    hint:
      "It has to read, at once, all that Postgres prints for the type, and may return the text as it is. " +
      "What is not confirmed comes again.",
  });
}
