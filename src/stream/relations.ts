/** Which of the server's relations are watched, under which name, and by what their rows are known. */
import { identityColumns } from "../delivery/event_builder.ts";
import type { LoadTypes, RowValues } from "../delivery/row_values.ts";
import type { Relation } from "../pgoutput/mod.ts";
import { withDeadline } from "../replication/deadline.ts";
import { ReplicationError } from "../replication/errors.ts";
import type { CatalogTable } from "../replication/tables.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";

/** How long the server may take to tell of a table. */
const ANSWER_MS = 30_000;

/** A relation that is watched. */
export interface WatchedRelation {
  /** As it was given to `watch()`, whatever the table was called when the change was written. */
  name: TableName;
  /** In the key's order; none where the table has none. */
  primaryKey: readonly string[];
  /** Makes JS values of its rows; null: they stay text. */
  values: RowValues | null;
}

/**
 * Follows tables through what is done to them. A relation tells how a table was when the change was
 * written, the catalogue how it is now: a slot that lags reads the one beside the other.
 */
export class WatchedRelations {
  readonly #connector: Connector;
  /** By schema and name. */
  readonly #names: ReadonlyMap<string, TableName>;
  /** By OID, as the catalogue last showed them. */
  readonly #tables: Map<number, CatalogTable>;
  readonly #seen = new Set<number>();
  readonly #loadTypes: LoadTypes;

  /**
   * @param tables the watched ones, as the catalogue shows them at the start
   * @param loadTypes the types of the run
   */
  constructor(
    connector: Connector,
    tables: readonly CatalogTable[],
    loadTypes: LoadTypes,
  ) {
    this.#connector = connector;
    this.#loadTypes = loadTypes;
    this.#names = new Map(tables.map((table) => [formatTableName(table), table]));
    this.#tables = new Map(tables.map((table) => [table.oid, table]));
  }

  /**
   * What a relation is from here on; null where it is not watched.
   *
   * @param xid of the transaction that it came in
   * @throws {ReplicationError} of kind `table-renamed` where a watched table has another name now: to
   * go on under the old one would be a guess, and to leave its changes out a loss.
   */
  async resolve(
    relation: Relation,
    xid: number,
    signal: AbortSignal,
  ): Promise<WatchedRelation | null> {
    const { oid, schema } = relation;
    const known = this.#tables.get(oid);
    const named = this.#names.get(formatTableName({ schema, table: relation.name }));
    const found = named ?? known;
    if (found === undefined) return null;
    const name = { schema: found.schema, table: found.table };

    const first = !this.#seen.has(oid);
    this.#seen.add(oid);
    // DEFAULT marks the key's columns in the relation itself. For the other identities a relation that
    // comes again may mean another primary key.
    const told = known !== undefined && named !== undefined && fits(known.primaryKey, relation) &&
      (first || relation.replicaIdentity === "default");
    const current = told ? known : await this.#read(oid, signal);
    if (
      named === undefined && current !== null && formatTableName(current) !== formatTableName(name)
    ) {
      throw renamed(name, current);
    }
    if (current !== null) this.#tables.set(oid, { ...current, ...name });
    return {
      name,
      primaryKey: (current && primaryKeyIn(current, relation)) ?? keyByIdentity(relation),
      values: await this.#values(name, relation, xid, signal),
    };
  }

  async #values(
    name: TableName,
    relation: Relation,
    xid: number,
    signal: AbortSignal,
  ): Promise<RowValues | null> {
    const types = await this.#loadTypes(name);
    if (types === null) return null;
    const { lookUpTypes } = await import("./type_look_up.ts");
    const lookUp = lookUpTypes(this.#connector, xid, signal);
    return await types.rowValues(name, relation.columns, lookUp);
  }

  async #read(oid: number, signal: AbortSignal): Promise<CatalogTable | null> {
    return await withDeadline("what became of a table", ANSWER_MS, signal, async (signal) => {
      const connection = await this.#connector.connect({ signal });
      try {
        const { readTable } = await import("../replication/tables.ts");
        return await readTable(connection, oid, signal);
      } finally {
        await connection.close();
      }
    });
  }
}

function renamed(from: TableName, to: TableName): ReplicationError {
  const [before, after] = [formatTableName(from), formatTableName(to)];
  return new ReplicationError(`Table "${before}" is now called "${after}"`, {
    kind: "table-renamed",
    hint: `Watch "${after}" and start again: its changes since then are kept, and come then. ` +
      `Where "${before}" is another table now, run setup() too.`,
  });
}

/** The key of a table that is gone since, or that was made over: what the relation itself tells. */
function keyByIdentity(relation: Relation): readonly string[] {
  return relation.replicaIdentity === "default" ? identityColumns(relation) : [];
}

/**
 * The primary key under the names that its columns had when the change was written, or null. Where no
 * column was ever dropped, a renamed one is known by its place: columns are only added at the end.
 */
function primaryKeyIn(table: CatalogTable, relation: Relation): readonly string[] | null {
  if (fits(table.primaryKey, relation)) return table.primaryKey;
  const names = relation.columns.map((column) => column.name);
  // A column list, or generated columns, leave out columns in the middle: then places tell nothing.
  const aligned = names.length <= table.columns.length && table.generated.length === 0 &&
    names.every((name, place) => !table.columns.includes(name) || table.columns[place] === name);
  if (!aligned) return null;
  const then = table.primaryKey.map((column) => names[table.columns.indexOf(column)]);
  if (then.some((name) => name === undefined)) return null;
  return fits(then as string[], relation) ? then as string[] : null;
}

/** True where this can have been the relation's primary key when the change was written. */
function fits(primaryKey: readonly string[], relation: Relation): boolean {
  const exact = relation.replicaIdentity === "default";
  const names = new Set(
    exact ? identityColumns(relation) : relation.columns.map((column) => column.name),
  );
  return primaryKey.every((column) => names.has(column)) &&
    (!exact || names.size === primaryKey.length);
}
