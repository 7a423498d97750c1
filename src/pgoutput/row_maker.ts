/** Makes rows: objects that inherit nothing, one shape for tables of the same columns. */
import type { Row, TupleValue } from "./messages.ts";

const NOTHING_INHERITED = Object.freeze(Object.create(null));
/** To make a constructor takes as long as some 100 rows. */
const FEW_ROWS = 100;
/** A table of PostgreSQL has no more. */
const MAX_COLUMNS = 1600;

/**
 * Makes what makes rows that inherit nothing. A constructor for each table keeps the shapes of its
 * rows stable and lets the engine learn their size; `Object.create(null)` would be a hash table,
 * three times slower on V8.
 */
export function newEmptyRow(): new () => Row {
  const EmptyRow = function () {} as unknown as new () => Row;
  EmptyRow.prototype = NOTHING_INHERITED;
  return EmptyRow;
}

/** Makes the rows of tables whose columns have these names. */
export class RowMaker {
  readonly Empty: new () => Row = newEmptyRow();
  readonly #columns: readonly string[];
  #made = 0;
  /** Null until there were enough rows, and where no code can be made. */
  #Whole: WholeRow | null = null;

  /** @param columns their names */
  constructor(columns: readonly string[]) {
    this.#columns = columns;
  }

  /** @param values one for each column; more are not looked at */
  whole(values: readonly TupleValue[]): Row {
    if (this.#Whole !== null) return new this.#Whole(values);
    if (++this.#made === FEW_ROWS) this.#Whole = newWholeRow(this.#columns);
    const row = new this.Empty();
    this.#columns.forEach((name, at) => row[name] = values[at]!);
    return row;
  }
}

type WholeRow = new (values: readonly TupleValue[]) => Row;

/**
 * A constructor that names its columns: a property that is named in the code is set in a tenth of the time of one
 * whose name is in a variable, and the engine knows beforehand how large a row is. Names stand in it as literals
 * of JSON, which are literals of JavaScript too, so that none of them can be anything but a name.
 *
 * @returns null where the runtime makes no code of strings: Cloudflare's Workers, a policy of the page
 */
function newWholeRow(columns: readonly string[]): WholeRow | null {
  if (columns.length > MAX_COLUMNS) return null;
  const sets = columns.map((name, at) => `this[${JSON.stringify(name)}] = values[${at}];`);
  try {
    const WholeRow = new Function("values", sets.join("\n")) as unknown as WholeRow;
    WholeRow.prototype = NOTHING_INHERITED;
    return WholeRow;
  } catch {
    return null;
  }
}
