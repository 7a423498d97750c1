/** Tables of many shapes with a publication and a slot, and rows in them, by which streams are measured. */

import type { PostgresServer } from "../../tests/support/servers/postgres.ts";

/** A stream to be measured. */
export interface Shape {
  events: number;
  tables: number;
  columns: number;
  /** True where each table has other columns than all others. */
  unlike?: boolean;
}

/** Rows of a transaction. */
const TRANSACTION = 100;

/** Makes the tables of a shape, a publication and a slot of that name, and then the rows. */
export async function write(
  server: PostgresServer,
  name: string,
  { events, tables, columns, unlike = false }: Shape,
): Promise<void> {
  await server.query(`CREATE SCHEMA ${name}`);
  for (let table = 0; table < tables; table++) {
    const extra = Array.from(
      { length: columns - 1 },
      (_, column) => `c${column}${unlike ? `_${table}` : ""} text`,
    );
    await server.query(`CREATE TABLE ${name}.t${table} (id int PRIMARY KEY, ${extra.join()})`);
  }
  const all = tableNames(name, tables).join();
  await server.query(`CREATE PUBLICATION ${name} FOR TABLE ${all}`);
  await server.query(`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
  await server.query("SET synchronous_commit = off");
  const texts = Array.from({ length: columns - 1 }, (_, column) => `'value ${column} of ' || n`);
  const insert = (table: string, from: string) =>
    `INSERT INTO ${table} SELECT n, ${texts.join()} FROM ${from}`;
  const some = tables === 1
    ? insert(`${name}.t0`, `generate_series(head, head + ${TRANSACTION - 1}) n`)
    : `FOR n IN head .. head + ${TRANSACTION - 1} LOOP
        EXECUTE format($f$${insert(`${name}.t%s`, "(SELECT $1 AS n) s")}$f$, n % ${tables}) USING n;
      END LOOP`;
  await server.query(`DO $$ BEGIN FOR head IN 1 .. ${events} BY ${TRANSACTION} LOOP
    ${some}; COMMIT; END LOOP; END $$`);
}

/** The tables of a schema, each with its schema. */
export function tableNames(schema: string, tables: number): string[] {
  return Array.from({ length: tables }, (_, table) => `${schema}.t${table}`);
}

/** Removes all of it. */
export async function remove(server: PostgresServer, name: string): Promise<void> {
  await server.query(`SELECT pg_drop_replication_slot('${name}')`);
  await server.query(`DROP PUBLICATION ${name}`);
  // A table at a time: each takes a few locks.
  const tables = await server.query<{ table: string }>(
    `SELECT format('%I.%I', schemaname, tablename) AS table FROM pg_tables
      WHERE schemaname = '${name}'`,
  );
  for (const { table } of tables) await server.query(`DROP TABLE ${table}`);
  await server.query(`DROP SCHEMA ${name}`);
}
