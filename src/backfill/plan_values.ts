/** Values of the rows that a plan reads: as a change would have them. */
import type { LoadTypes, RowValues } from "../delivery/row_values.ts";
import type { Connection } from "../wire/connection.ts";
import type { ReadPlan } from "./read_plan.ts";

/**
 * What reads the rows of a plan; null where they stay text.
 *
 * @param loadTypes the types of the run
 * @param connection is asked for types that Postgres does not ship
 */
export async function planValues(
  { name, columns, typeOids }: ReadPlan,
  loadTypes: LoadTypes,
  connection: Connection,
  signal: AbortSignal,
): Promise<RowValues | null> {
  const types = await loadTypes(name);
  if (types === null) return null;
  return await types.rowValues(
    name,
    columns.map((name, place) => ({ name, typeOid: typeOids[place]! })),
    async (oids) => {
      const { readTypes } = await import("../replication/types.ts");
      return await readTypes(connection, oids, signal);
    },
  );
}
