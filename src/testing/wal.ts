/** What was committed, in order, and how far of it is confirmed: a server's WAL and one slot. */
import type { TrackedTransaction } from "../delivery/frontier.ts";
import { PgStreamError } from "../errors.ts";
import type { Lsn } from "../lsn.ts";
import { formatTableName } from "../table_name.ts";
import { type Change, type Place, placeOf, type Shape, shapeOf, type Written } from "./change.ts";

/** A change, and the shape that its table had at the time; or a message. */
export type Logged = { change: Change; shape: Shape } | { written: Written };

/** A transaction, or what comes between two of them: rows that a backfill reads, or a message of none. */
export interface Entry extends Place {
  changes: Logged[];
  /** Null: a transaction. */
  lone: Written | null;
  backfill: boolean;
  /** Counts the rows of a backfill that are handled; null before they were handed out. */
  rows: TrackedTransaction | null;
}

/** Grows; forgets nothing, so that all of it can come again. */
export class Wal {
  readonly entries: Entry[] = [];
  readonly #shapes = new Map<string, Shape>();
  readonly #start = placeOf(0).commit.endLsn;
  #confirmedLsn = this.#start;
  #transactions = 0;
  #grown: PromiseWithResolvers<void> = Promise.withResolvers();

  /** The end of the last transaction. */
  get endLsn(): Lsn {
    return placeOf(this.#transactions).commit.endLsn;
  }

  /** The slot's position. */
  get confirmedLsn(): Lsn {
    return this.#confirmedLsn;
  }

  /** Resolves when something is written. */
  get grown(): Promise<void> {
    return this.#grown.promise;
  }

  /**
   * Writes a transaction, what a backfill reads now, or a message that belongs to no transaction.
   *
   * @throws {PgStreamError} of kind `invalid-change`; nothing is written then.
   */
  write(items: readonly (Change | Written)[]): void {
    const lone = items.find(isLone) ?? null;
    if (lone !== null && items.length > 1) {
      throw new PgStreamError("A message that belongs to no transaction stands in one", {
        kind: "invalid-change",
        hint: "It comes between two transactions: commit it by a call of its own.",
      });
    }
    const backfill = items.some(isRead);
    if (backfill && !items.every(isRead)) {
      throw new PgStreamError("Rows of a backfill and changes stand in one transaction", {
        kind: "invalid-change",
        hint: "A backfill reads between two transactions: commit them by a call of their own.",
      });
    }
    const shapes = new Map(this.#shapes);
    const changes = items.map((item): Logged =>
      "prefix" in item ? { written: item } : { change: item, shape: shapeIn(shapes, item) }
    );
    for (const [table, shape] of shapes) this.#shapes.set(table, shape);
    if (!backfill) this.#transactions++;
    this.entries.push({ ...placeOf(this.#transactions), changes, lone, backfill, rows: null });
    this.#grown.resolve();
    this.#grown = Promise.withResolvers();
  }

  /** Moves the slot on. */
  confirm(lsn: Lsn): void {
    if (lsn > this.#confirmedLsn) this.#confirmedLsn = lsn;
  }

  /** Forgets what was confirmed. */
  rewind(): void {
    this.#confirmedLsn = this.#start;
    for (const entry of this.entries) entry.rows = null;
  }

  /** What a connection that starts at a position still has to hand out, from an index on; null: nothing. */
  next(index: number, startLsn: Lsn): { entry: Entry; index: number } | null {
    for (; index < this.entries.length; index++) {
      const entry = this.entries[index]!;
      const done = entry.backfill ? entry.rows?.pending === 0 : entry.commit.commitLsn < startLsn;
      if (!done) return { entry, index };
    }
    return null;
  }
}

function isLone(item: Change | Written): item is Written {
  return "prefix" in item && !item.transactional;
}

function isRead(item: Change | Written): boolean {
  return "backfill" in item && item.backfill;
}

/**
 * The table's shape when the change is written. Rows with other columns are what comes after an ALTER
 * TABLE; but an update that tells nothing of a column, not even that it is unchanged, does not exist.
 */
function shapeIn(shapes: Map<string, Shape>, change: Change): Shape {
  const table = formatTableName(change.table);
  const known = shapes.get(table);
  const columns = known?.relation.columns.map(({ name }) => name) ?? [];
  const missing = columns.filter((column) => !change.columns.includes(column));
  if (change.operation === "update" && missing.length > 0) {
    throw new PgStreamError(`An update of ${table} tells nothing of ${missing.join(", ")}`, {
      kind: "invalid-change",
      hint: "A server sends all columns that the table has: give them values, or name them in " +
        "`unchanged`, which only large values can be.",
    });
  }
  const fits = known !== undefined && change.columns.every((column) => columns.includes(column)) &&
    (change.operation === "truncate" ||
      `${known.primaryKey}` === `${change.primaryKey}` &&
        (change.operation === "delete" || missing.length === 0));
  if (fits) return known;
  const shape = shapeOf(change, known?.relation.oid ?? shapes.size + 1);
  shapes.set(table, shape);
  return shape;
}
