/**
 * How a table's existing rows are read: which columns, which rows, in which order. All of it as the
 * publication has it, so that a row that is read is the row that a change would have carried.
 * https://www.postgresql.org/docs/current/sql-copy.html
 */
import { onlyRow } from "../replication/server.ts";
import { formatTableName, quoteTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { quoteIdentifier, quoteLiteral } from "../wire/quote.ts";
import { BackfillError } from "./errors.ts";
import { partitionTreeSql } from "./partitions.ts";
import {
  type KeyColumn,
  type Operator,
  type PlanFacts,
  planFactsSql,
  planSignature,
} from "./plan_facts.ts";

/** How one table is read. */
export interface ReadPlan {
  /** `pg_class.oid` */
  oid: number;
  /** As the table was called when the plan was made. */
  name: TableName;
  /** Those that are published, in the order in which events carry them. */
  columns: readonly string[];
  /** `pg_type.oid` of each of them. */
  typeOids: readonly number[];
  /** In the key's order; none where the table has no primary key, or not all of it is published. */
  primaryKey: readonly string[];
  /** Where in `columns` the primary key's columns are, in the key's order. */
  keyPlaces: readonly number[];
  /**
   * Where there is no primary key to go by: what an event's key is made of, in the order of `columns`;
   * all of them under REPLICA IDENTITY FULL, else those of its index. May be none.
   */
  identity: readonly string[];
  /** True where every change tells the primary key, the old one too: see `tellsPrimaryKey`. */
  keyed: boolean;
  /** True for the root of partitions. */
  partitioned: boolean;
  /** What the planner believes, of all partitions; null where it has not looked yet. */
  estimatedRows: number | null;
  /** Changes whenever anything else here does, but for `estimatedRows`, or a column's type. */
  signature: string;
  /** The publication's row filter, as SQL (15+). */
  rowFilter: string | null;
  /** How to compare the columns of `primaryKey`. */
  key: readonly KeyColumn[];
}

/**
 * Looks up how a table is read.
 *
 * @param connection with the empty search_path that all connections have
 * @returns null where the table is gone.
 * @throws {BackfillError} of kind `table-not-published`: there is no such publication, or the table
 * is not in it under its own name.
 */
export async function readPlan(
  connection: Connection,
  oid: number,
  publicationName: string,
  signal?: AbortSignal,
): Promise<ReadPlan | null> {
  const version = connection.serverVersion;
  const result = await connection.query(
    `${partitionTreeSql(oid)}
    SELECT f.facts, ${planSignature(oid, publicationName, version)},
      -- Up to 13, 0 rows on 0 pages is what nobody has looked at; since 14 it is -1 rows.
      (SELECT pg_catalog.sum(c.reltuples::pg_catalog.float8) FROM tree t
        JOIN pg_catalog.pg_class c ON c.oid = t.oid
        WHERE c.relkind = 'r' AND c.reltuples >= 0
          ${version >= 140000 ? "" : "AND (c.reltuples > 0 OR c.relpages > 0)"})
    FROM (SELECT ${planFactsSql(oid, publicationName, version)} AS facts) AS f`,
    { signal },
  );
  const [text, signature, estimate] = onlyRow(result, 3);
  if (text === null || text === undefined) return null;
  const facts = JSON.parse(text) as PlanFacts;
  const name: TableName = { schema: facts.schema, table: facts.table };
  if (facts.published === null) {
    throw new BackfillError(
      `Publication "${publicationName}" does not carry table "${formatTableName(name)}"`,
      { kind: "table-not-published", hint: "Run setup(), which adds it." },
    );
  }
  const columns = (facts.columns ?? []).map((column) => column.name);
  const allKey = facts.key ?? [];
  const key = allKey.every((column) => columns.includes(column.name)) ? allKey : [];
  const identity = identityOf(facts, columns);
  return {
    oid,
    name,
    columns,
    typeOids: (facts.columns ?? []).map((column) => Number(column.type)),
    primaryKey: key.map((column) => column.name),
    keyPlaces: key.map((column) => columns.indexOf(column.name)),
    identity: key.length > 0 ? [] : identity,
    keyed: key.length > 0 && facts.replicaIdentity !== "n" &&
      (facts.replicaIdentity !== "i" || key.every((column) => identity.includes(column.name))),
    partitioned: facts.kind === "p",
    estimatedRows: estimate === null || estimate === undefined ? null : Number(estimate),
    signature: signature!,
    rowFilter: facts.published.filter,
    key,
  };
}

/** The published columns that the server marks as the key of the relation. */
function identityOf(facts: PlanFacts, columns: readonly string[]): readonly string[] {
  switch (facts.replicaIdentity) {
    case "f":
      return columns;
    case "i":
      return columns.filter((column) => facts.identityIndex?.includes(column));
    case "d":
      return columns.filter((column) => facts.key?.some((key) => key.name === column));
    default:
      return [];
  }
}

/**
 * The next rows in the key's order: COPY (SELECT …) TO STDOUT, with the columns of the plan.
 *
 * @param after the last row's key, as text; null to begin
 * @param where a condition on the table's columns; other names in it must be qualified
 * @throws {RangeError} where the plan has no primary key, or `after` or `limit` are not what they say.
 */
export function chunkSql(
  plan: ReadPlan,
  { after, where, limit }: { after: readonly string[] | null; where?: string; limit: number },
): string {
  if (!Number.isSafeInteger(limit) || limit < 1) throw new RangeError(`No limit: ${limit}`);
  if (plan.key.length === 0) throw new RangeError("A table without a primary key has no order");
  const order = plan.key.map((column) => qualified(plan, column.name)).join(", ");
  const conditions = after === null ? [] : [beyond(plan, keyValues(plan, after))];
  return copySql(plan, conditions, where, ` ORDER BY ${order} LIMIT ${limit}`);
}

/**
 * The rows that have one of the keys, in no order: COPY (SELECT …) TO STDOUT. A key that no row has
 * gives none, two texts of one key give one.
 *
 * @throws {RangeError} where the plan has no primary key, `keys` is empty or one is of another length.
 */
export function keysSql(
  plan: ReadPlan,
  keys: readonly (readonly string[])[],
  where?: string,
): string {
  if (plan.key.length === 0 || keys.length === 0) throw new RangeError("No keys to read by");
  const [column] = plan.key;
  let condition: string;
  if (plan.key.length === 1 && !column!.array) {
    const values = keys.map((key) => keyValues(plan, key)[0]!);
    condition = `${operand(plan, column!)} ${operatorSql(column!.equal)} ` +
      `ANY (ARRAY[${values.join(", ")}])`;
  } else {
    const rows = keys.map((key) => {
      const values = keyValues(plan, key);
      const pairs = plan.key.map((column, index) =>
        compare(plan, column, column.equal, values[index]!)
      );
      return `(${pairs.join(" AND ")})`;
    });
    condition = rows.join(" OR ");
  }
  return copySql(plan, [condition], where);
}

/** An event's key as the values of the key's columns. */
export function keyParts({ primaryKey }: ReadPlan, key: string): readonly string[] {
  return primaryKey.length === 1 ? [key] : JSON.parse(key);
}

/** All rows, in no order: COPY (SELECT …) TO STDOUT. For a table without a primary key. */
export function tableSql(plan: ReadPlan, where?: string): string {
  return copySql(plan, [], where);
}

/**
 * Keeps the table as it is for as long as the transaction lasts: a rewriting ALTER, or a TRUNCATE,
 * would make a snapshot that is older than it read no rows.
 */
export function lockSql(plan: ReadPlan): string {
  return `LOCK TABLE ${only(plan)}${quoteTableName(plan.name)} IN ACCESS SHARE MODE`;
}

function copySql(
  plan: ReadPlan,
  conditions: readonly string[],
  where: string | undefined,
  end = "",
): string {
  const columns = plan.columns.map((column) => qualified(plan, column)).join(", ");
  const all = [...conditions];
  if (plan.rowFilter !== null) all.push(plan.rowFilter);
  if (where !== undefined) all.push(where);
  // The line ends in case that somebody's condition does with a comment.
  const filter = all.length === 0 ? "" : ` WHERE ${all.map((one) => `(${one}\n)`).join(" AND ")}`;
  const from = `${only(plan)}${quoteTableName(plan.name)}`;
  return `COPY (SELECT ${columns} FROM ${from}${filter}${end}) TO STDOUT`;
}

/** Children by inheritance are tables of their own; those of a root are its rows. */
function only({ partitioned }: ReadPlan): string {
  return partitioned ? "" : "ONLY ";
}

/** Qualified: after ORDER BY, a bare name could be that of an output column. */
function qualified({ name }: ReadPlan, column: string): string {
  return `${quoteIdentifier(name.table)}.${quoteIdentifier(column)}`;
}

function keyValues({ key }: ReadPlan, values: readonly string[]): string[] {
  if (values.length !== key.length) {
    throw new RangeError(`A key of ${key.length} columns was given ${values.length} values`);
  }
  return values.map((value, index) => `${quoteLiteral(value)}::${key[index]!.type}`);
}

/** The rows after a key, by the operators of the key's index: another `>` may order otherwise. */
function beyond(plan: ReadPlan, values: readonly string[]): string {
  const { key } = plan;
  const [first] = key;
  if (key.length === 1) return compare(plan, first!, first!.greater, values[0]!);
  const { schema, name } = first!.greater;
  if (key.every(({ greater }) => greater.schema === schema && greater.name === name)) {
    const columns = key.map((column) => operand(plan, column)).join(", ");
    return `ROW(${columns}) ${operatorSql(first!.greater)} ROW(${values.join(", ")})`;
  }
  // One operator has to serve a whole row: spelled out, a >= x AND (a > x OR (a = x AND …)).
  let condition = "";
  for (let index = key.length - 1; index >= 0; index--) {
    const column = key[index]!;
    const value = values[index]!;
    const greater = compare(plan, column, column.greater, value);
    condition = condition === ""
      ? greater
      : `${compare(plan, column, column.greaterOrEqual, value)} AND (${greater} OR (` +
        `${compare(plan, column, column.equal, value)} AND ${condition}))`;
  }
  return condition;
}

function compare(plan: ReadPlan, column: KeyColumn, operator: Operator, value: string): string {
  return `${operand(plan, column)} ${operatorSql(operator)} ${value}`;
}

/** Operators for any enum or any array take no domain over one. */
function operand(plan: ReadPlan, { name, type, domain }: KeyColumn): string {
  const column = qualified(plan, name);
  return domain ? `(${column})::${type}` : column;
}

function operatorSql({ schema, name }: Operator): string {
  return `OPERATOR(${quoteIdentifier(schema)}.${name})`;
}
