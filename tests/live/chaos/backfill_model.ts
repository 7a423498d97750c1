/** A table as a consumer sees it: what is left when events are applied to it, one after the other. */

import { createHash } from "node:crypto";

/** A row: names and values of columns; long values as `digest` makes them. */
export type LoggedRow = readonly (readonly [name: string, value: string | null])[];

/** An event as a consumer logs it. */
export interface BackfillEvent {
  table: string;
  operation: "insert" | "update" | "delete" | "truncate";
  backfill: boolean;
  lsn: string;
  ordinal: number;
  xid: number;
  key: string | null;
  oldKey: string | null;
  row: LoggedRow;
  oldRow: LoggedRow | null;
  unchanged: readonly string[];
}

/** What is known of a table. */
export interface TableFacts {
  table: string;
  /** In the key's order; none: rows are known by all that they hold. */
  primaryKey: readonly string[];
  /** Columns that every change tells, and that tell rows apart. */
  tells: readonly string[];
  columns: readonly string[];
}

/** Nobody said what the column holds. */
export const UNKNOWN = Symbol("unknown");
/** A replay began with a row that had gone on: what it took over from there means nothing. */
export const EXCUSED = Symbol("excused");
/** What a column holds. */
export type Cell = string | null | typeof UNKNOWN | typeof EXCUSED;

/** Stands for a value: the value, or where that is long its length and hash. */
export function digest(value: string): string {
  if (value.length <= 200) return value;
  return `#${value.length}:${createHash("sha1").update(value).digest("base64")}`;
}

/** What a row is known by; null where it does not say. */
export function identityOf({ tells }: TableFacts, row: LoggedRow): string | null {
  const values = new Map(row);
  const own = tells.map((name) => values.get(name));
  return own.includes(undefined) ? null : JSON.stringify(own);
}

/** The identities that an event is about: of the row that it leaves, and of the one that it took. */
export function identitiesOf(
  facts: TableFacts,
  { operation, row, oldRow }: BackfillEvent,
): { at: string | null; from: string | null } {
  const at = operation === "truncate" ? null : identityOf(facts, row);
  const from = operation === "update" && oldRow !== null ? identityOf(facts, oldRow) : null;
  return { at, from: from === at ? null : from };
}

/** A table whose rows can be told apart. */
export class KeyedModel {
  readonly #facts: TableFacts;
  readonly rows = new Map<string, Map<string, Cell>>();

  /** Empty. */
  constructor(facts: TableFacts) {
    this.#facts = facts;
  }

  /** @param again whether it was applied in a life before */
  apply(event: BackfillEvent, again: boolean): void {
    if (event.operation === "truncate") return this.rows.clear();
    const { at, from } = identitiesOf(this.#facts, event);
    if (event.operation === "delete") {
      this.rows.delete(at!);
      return;
    }
    const before = event.operation === "insert" ? undefined : this.rows.get(from ?? at!);
    const cells = new Map<string, Cell>(event.row);
    for (const name of event.unchanged) {
      const known = before?.get(name) ?? (before?.has(name) ? null : UNKNOWN);
      cells.set(name, again && (from !== null || known === UNKNOWN) ? EXCUSED : known);
    }
    if (from !== null) this.rows.delete(from);
    this.rows.set(at!, cells);
  }

  /** What differs from the table itself, in words. */
  differences(truth: readonly LoggedRow[]): string[] {
    const found: string[] = [];
    const { table } = this.#facts;
    const left = new Set(this.rows.keys());
    for (const row of truth) {
      const identity = identityOf(this.#facts, row)!;
      const cells = this.rows.get(identity);
      left.delete(identity);
      if (cells === undefined) {
        found.push(`lost: ${table} ${identity} was never handed out, or taken away again`);
        continue;
      }
      for (const [name, value] of row) {
        const cell = cells.get(name);
        if (cell === EXCUSED || cell === value) continue;
        found.push(
          cell === UNKNOWN
            ? `unknown value: ${table} ${identity} ${name}`
            : `stale: ${table} ${identity} ${name} is ${JSON.stringify(value)}, ` +
              `and ${JSON.stringify(cell)} by the events`,
        );
        break;
      }
    }
    for (const identity of left) {
      found.push(`orphan: ${table} ${identity} is gone, and there by the events`);
    }
    return found;
  }
}

/** A table without a key: how many there are of each row. */
export class KeylessModel {
  readonly #facts: TableFacts;
  readonly #counts = new Map<string, number>();

  /** Empty. */
  constructor(facts: TableFacts) {
    this.#facts = facts;
  }

  /** Applies it, unless it was applied before. */
  apply(event: BackfillEvent, again: boolean): void {
    if (again) return;
    if (event.operation === "truncate") return this.#counts.clear();
    if (event.operation !== "insert") this.#add(event.oldRow!, -1);
    if (event.operation !== "delete") this.#add(event.row, 1);
  }

  #add(row: LoggedRow, count: number): void {
    const identity = identityOf(this.#facts, row)!;
    this.#counts.set(identity, (this.#counts.get(identity) ?? 0) + count);
  }

  /** What differs from the table itself, in words. */
  differences(truth: readonly LoggedRow[]): string[] {
    const found: string[] = [];
    const counts = new Map(this.#counts);
    for (const row of truth) {
      const identity = identityOf(this.#facts, row)!;
      counts.set(identity, (counts.get(identity) ?? 0) - 1);
    }
    for (const [identity, count] of counts) {
      if (count === 0) continue;
      const what = count < 0 ? "lost" : "orphan";
      found.push(`${what}: ${this.#facts.table} ${Math.abs(count)} × ${identity}`);
    }
    return found;
  }
}
