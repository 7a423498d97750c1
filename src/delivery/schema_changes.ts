/** Tells what became of a table's shape, in its place between the events. */
import { type EventTable, identityColumns } from "./event_builder.ts";
import type { Relation, ReplicaIdentity } from "../pgoutput/mod.ts";
import { formatTableName } from "../table_name.ts";

/** A column, as the server tells of it. */
export interface TableColumn {
  /** Its name. */
  name: string;
  /** `pg_type.oid` of its type. */
  typeOid: number;
  /** `pg_attribute.atttypmod`: a length or a precision; −1 where there is none. */
  typeModifier: number;
}

/** What the server tells of an old row, and which columns are its key. */
export interface TableIdentity {
  /** `REPLICA IDENTITY` */
  kind: ReplicaIdentity;
  /** All columns where it is `full`; none where it is `nothing`. */
  columns: readonly string[];
}

/** A watched table has another shape than the one that was known of it. */
export interface SchemaChange {
  /** The table's schema, literally. */
  schema: string;
  /** The table's name, literally. */
  table: string;
  /** LSN of the commit record of the transaction whose event is the first of the new shape. */
  lsn: string;
  /** Columns that are new, in the table's order. One that was renamed is one removed and one added. */
  added: readonly TableColumn[];
  /** Columns that are gone. */
  removed: readonly TableColumn[];
  /** Columns of the same name whose type is another one. */
  changed: readonly { name: string; before: TableColumn; after: TableColumn }[];
  /** The same twice where it did not change. */
  replicaIdentity: { before: TableIdentity; after: TableIdentity };
  /** In the key's order; the same twice where it did not change. */
  primaryKey: { before: readonly string[]; after: readonly string[] };
}

/** A table as its rows were known to be. */
export interface TableShape {
  columns: readonly TableColumn[];
  identity: TableIdentity;
  primaryKey: readonly string[];
}

/** Called where the shape's first event is next, when all before it is handled. Is waited for, and never fails. */
type Tell = (change: SchemaChange) => Promise<unknown>;

/**
 * One for each run of a stream. A relation that is told again, or of which no event comes, since all of them
 * came before, is no change: shapes are compared where an event is queued.
 */
export class SchemaWatch {
  readonly #told: Map<string, TableShape>;
  readonly #tell: Tell;
  /** As the last event was that is queued. */
  readonly #queued = new Map<string, TableShape>();
  /** Shapes that differ from that, until an event comes. */
  readonly #next = new Map<EventTable, TableShape>();

  /** @param told as `tell` was called last, by table: outlives runs */
  constructor(told: Map<string, TableShape>, tell: Tell) {
    this.#told = told;
    this.#tell = tell;
  }

  /** True where the next event of some table may be the first of another shape. */
  get expecting(): boolean {
    return this.#next.size > 0;
  }

  /** A new connection tells its relations anew. */
  connected(): void {
    this.#next.clear();
  }

  /** A relation as it is from here on. */
  declare(relation: Relation, table: EventTable): void {
    const name = formatTableName(table.name);
    for (const other of this.#next.keys()) {
      if (formatTableName(other.name) === name) this.#next.delete(other);
    }
    const shape = shapeOf(relation, table.primaryKey);
    const known = this.#known(name);
    if (known === undefined || !sameShape(known, shape)) this.#next.set(table, shape);
  }

  /** An event of the table is about to be queued. @returns what to call before it is handed out */
  before(table: EventTable, lsn: string): (() => Promise<unknown>) | null {
    const shape = this.#next.get(table);
    if (shape === undefined) return null;
    this.#next.delete(table);
    const name = formatTableName(table.name);
    const known = this.#known(name);
    this.#queued.set(name, shape);
    if (known === undefined) {
      this.#told.set(name, shape);
      return null;
    }
    return () => {
      this.#told.set(name, shape);
      return this.#tell({ ...table.name, lsn, ...differences(known, shape) });
    };
  }

  #known(name: string): TableShape | undefined {
    return this.#queued.get(name) ?? this.#told.get(name);
  }
}

function shapeOf(relation: Relation, primaryKey: readonly string[]): TableShape {
  return {
    columns: relation.columns.map(({ name, typeOid, typeModifier }) => ({
      name,
      typeOid,
      typeModifier,
    })),
    identity: {
      kind: relation.replicaIdentity,
      columns: identityColumns(relation),
    },
    primaryKey,
  };
}

function sameShape(a: TableShape, b: TableShape): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

function differences(
  before: TableShape,
  after: TableShape,
): Omit<SchemaChange, "schema" | "table" | "lsn"> {
  const named = ({ columns }: TableShape) =>
    new Map(columns.map((column) => [column.name, column]));
  const [old, now] = [named(before), named(after)];
  return {
    added: after.columns.filter(({ name }) => !old.has(name)),
    removed: before.columns.filter(({ name }) => !now.has(name)),
    changed: after.columns.flatMap((column) => {
      const { name, typeOid, typeModifier } = column;
      const was = old.get(name);
      const same = was === undefined ||
        (was.typeOid === typeOid && was.typeModifier === typeModifier);
      return same ? [] : [{ name, before: was, after: column }];
    }),
    replicaIdentity: { before: before.identity, after: after.identity },
    primaryKey: { before: before.primaryKey, after: after.primaryKey },
  };
}
