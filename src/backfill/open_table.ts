/** Transactions in which a table, found by its name, stays as it is while it is read. */
import type { LoadTypes, RowValues } from "../delivery/row_values.ts";
import { type CatalogRow, rowsOf } from "../replication/server.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connection } from "../wire/connection.ts";
import { PostgresError } from "../wire/postgres_error.ts";
import { quoteLiteral } from "../wire/quote.ts";
import { planValues } from "./plan_values.ts";
import { lockSql, type ReadPlan, readPlan } from "./read_plan.ts";

/** Tables that were altered while they were looked up, in a row. */
const MOST_PLANS = 5;

/** How a table is read. */
export interface Planned {
  plan: ReadPlan;
  /** Null: values stay text. */
  values: RowValues | null;
}

/** A transaction that is open, and what was asked in it first. */
export interface OpenTable extends Planned {
  answer: CatalogRow;
}

/** Opens one table after the other. */
export class TableOpener {
  readonly #publicationName: string;
  readonly #loadTypes: LoadTypes;
  /** By table, as it was when it was read last; they are checked each time. */
  readonly #plans = new Map<string, Planned>();

  /** Looks at nothing yet. */
  constructor(
    { publicationName, loadTypes }: {
      publicationName: string;
      loadTypes: LoadTypes;
    },
  ) {
    this.#publicationName = publicationName;
    this.#loadTypes = loadTypes;
  }

  /** How the table was read last, or is read now; null where it is not there. */
  async plan(
    connection: Connection,
    name: TableName,
    signal: AbortSignal,
  ): Promise<Planned | null> {
    return this.#plans.get(formatTableName(name)) ?? await this.#plan(connection, name, signal);
  }

  /**
   * Begins a transaction whose statements all see one snapshot, and keeps the table as it is until its end.
   *
   * @param select a query of one row for this plan, with its signature by this snapshot as `signature`
   * @returns null where the table is not there
   */
  async open(
    connection: Connection,
    name: TableName,
    select: (plan: ReadPlan) => string,
    signal: AbortSignal,
  ): Promise<OpenTable | null> {
    const table = formatTableName(name);
    for (let tries = 1;; tries++) {
      const planned = await this.plan(connection, name, signal);
      if (planned === null) return null;
      const { plan } = planned;
      try {
        const [answer] = rowsOf(
          await connection.query(
            // Locked before the snapshot is taken: one that is older than a rewritten table reads nothing.
            `BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; ${lockSql(plan)}; ${select(plan)}`,
            { signal },
          ),
        );
        if (answer?.signature === plan.signature) return { ...planned, answer };
      } catch (error) {
        if (!isGone(error) || tries === MOST_PLANS) throw error;
      }
      if (tries === MOST_PLANS) throw new RangeError(`${table} is altered all the time`);
      this.#plans.delete(table);
      await connection.query("ROLLBACK", { signal });
    }
  }

  async #plan(
    connection: Connection,
    { schema, table }: TableName,
    signal: AbortSignal,
  ): Promise<Planned | null> {
    const [row] = rowsOf(
      await connection.query(
        `SELECT c.oid FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = ${quoteLiteral(schema)} AND c.relname = ${quoteLiteral(table)}`,
        { signal },
      ),
    );
    if (row === undefined) return null;
    const plan = await readPlan(connection, Number(row.oid), this.#publicationName, signal);
    if (plan === null) return null;
    const planned = { plan, values: await planValues(plan, this.#loadTypes, connection, signal) };
    this.#plans.set(formatTableName({ schema, table }), planned);
    return planned;
  }
}

/** Undefined table, or schema: it was renamed or dropped since it was looked up. */
function isGone(error: unknown): boolean {
  return error instanceof PostgresError && (error.code === "42P01" || error.code === "3F000");
}

/** Class 22: a text that is no value of the type. */
export function isNoValue(error: unknown): boolean {
  return error instanceof PostgresError && error.code.startsWith("22");
}
