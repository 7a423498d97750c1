/**
 * Tables in memory, kept by the changes alone: at the end they must hold what SELECT says. A change that
 * does not fit what is there (a key that is there already, a row that is not) is a failure of its own.
 */

import type { Change, Texts } from "./shape.ts";

/** What the server says of a table. */
export interface Content {
  table: string;
  /** Of the primary key; none where there is none. */
  keyColumns: string[];
  /** Of the index that is the replica identity, else of the primary key. */
  identity: string[];
  columns: string[];
  rows: Texts[];
}

/** How a change finds its row. */
export type By = "key" | "row";

/** The rows of one table that the changes leave. */
export class Model {
  readonly rows: Texts[] = [];
  readonly #by: By;
  readonly #columns: string[];

  /**
   * @param by `"key"`: as a store does that follows the README, by `key` and `oldKey`. `"row"`: by what the
   * server sent of the old row, else by the columns of the new one.
   * @param columns what a row is known by; none: by all that was sent of it.
   */
  constructor(by: By, columns: string[]) {
    this.#by = by;
    this.#columns = columns;
  }

  /** @throws where the change does not fit what is there. */
  apply(change: Change): void {
    switch (change.operation) {
      case "truncate":
        this.rows.length = 0;
        break;
      case "insert":
        this.#mustBeFree(change);
        this.rows.push(change.row);
        break;
      case "delete":
        this.#take(change);
        break;
      case "update": {
        const old = this.#take(change);
        this.#mustBeFree(change);
        this.rows.push(withUnchanged(change, old));
      }
    }
  }

  #take(change: Change): Texts {
    const at = this.rows.findIndex((row) => this.#means(change, row));
    if (at === -1) throw new Error(`no row is there for ${brief(change)}`);
    return this.rows.splice(at, 1)[0]!;
  }

  #means(change: Change, row: Texts): boolean {
    if (this.#by === "key") return keyOf(row, this.#columns) === (change.oldKey ?? change.key);
    const told = change.oldRow;
    if (told !== null) return Object.keys(told).every((name) => row[name] === told[name]);
    return this.#columns.every((name) => row[name] === change.row[name]);
  }

  #mustBeFree(change: Change): void {
    if (this.#by === "row") return;
    const key = keyOf(change.row, this.#columns);
    if (key !== change.key) throw new Error(`${key} is the key of the row: ${brief(change)}`);
    if (this.rows.some((row) => keyOf(row, this.#columns) === key)) {
      throw new Error(`a row is there already: ${brief(change)}`);
    }
  }
}

function withUnchanged({ row, unchanged }: Change, old: Texts): Texts {
  const kept: Texts = Object.create(null);
  for (const name of unchanged) {
    if (!(name in old)) throw new Error(`${name} is unchanged, and never was there`);
    kept[name] = old[name]!;
  }
  return Object.assign(kept, row);
}

/** As events name it: one column as it is, several as JSON. */
function keyOf(row: Texts, columns: string[]): string | null {
  const values = columns.map((name) => row[name] ?? null);
  return values.length === 1 ? values[0]! : JSON.stringify(values);
}

/** In an order of its own, for neither side has one. */
export function sorted(rows: Texts[], columns: string[]): (string | null)[][] {
  return rows.map((row) => columns.map((name) => row[name] === undefined ? "absent!" : row[name]))
    .sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
}

function brief({ operation, table, key, oldKey }: Change): string {
  return `${operation} ${table} ${oldKey === null ? "" : `${oldKey} to `}${key}`;
}
