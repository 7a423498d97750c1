/** Messages of pgoutput as a real server sent them, kept in memory. */

import { startPostgres } from "../../tests/support/servers/postgres.ts";

/** A table, and what happens to it. */
export interface Shape {
  name: string;
  /** Names and types, `id` first: what stands between the parentheses of CREATE TABLE. */
  columns: string;
  /** Expressions of the row number `n`, one a column. */
  values: string;
  /** The columns that an update sets, to what `n + 1` has in their place. */
  updated: string;
}

/** What a server sent for a shape. */
export interface Captured {
  /** In order, all views of one buffer: as they lie in what a socket gives. */
  messages: readonly Uint8Array[];
  /** Inserts, updates and deletes among them. */
  changes: number;
}

/**
 * Plays each shape on a server that is started for it: of so many rows a half in one transaction, a quarter as
 * transactions of one row, a quarter updated, an eighth deleted.
 */
export async function capture(
  shapes: readonly Shape[],
  rows: number,
): Promise<Map<string, Captured>> {
  const server = await startPostgres({ lifetimeMs: 120_000 });
  try {
    const captured = new Map<string, Captured>();
    for (const shape of shapes) {
      const { name, columns, values } = shape;
      const row = (from: string) => `INSERT INTO ${name} SELECT ${values} FROM ${from}`;
      const [half, quarter, eighth] = [2, 4, 8].map((part) => Math.floor(rows / part)) as [
        number,
        number,
        number,
      ];
      await server.query(
        `CREATE TABLE ${name} (${columns}, PRIMARY KEY (id)); CREATE PUBLICATION ${name} FOR TABLE ${name}`,
      );
      await server.query(`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
      await server.query(row(`generate_series(1, ${half}) n`));
      await server.query(
        `DO $$ BEGIN FOR i IN ${half + 1} .. ${half + quarter} LOOP
           ${row("generate_series(i, i) n")}; COMMIT; END LOOP; END $$`,
      );
      await server.query(
        `UPDATE ${name} SET ${shape.updated} WHERE ctid IN (SELECT ctid FROM ${name} LIMIT ${quarter})`,
      );
      await server.query(
        `DELETE FROM ${name} WHERE ctid IN (SELECT ctid FROM ${name} LIMIT ${eighth})`,
      );
      const sent = await server.query<{ data: Uint8Array }>(
        `SELECT data FROM pg_logical_slot_get_binary_changes('${name}', NULL, NULL,
           'proto_version', '1', 'publication_names', '${name}')`,
      );
      captured.set(name, {
        messages: inOneBuffer(sent.map(({ data }) => data)),
        changes: half + quarter + quarter + eighth,
      });
    }
    return captured;
  } finally {
    await server.stop();
  }
}

function inOneBuffer(messages: readonly Uint8Array[]): Uint8Array[] {
  const all = new Uint8Array(messages.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  return messages.map((message) => {
    all.set(message, at);
    at += message.length;
    return all.subarray(at - message.length, at);
  });
}
