/** Values of the rows that a plan reads: as a change would have them. */
import type { RowValues, ValueTypes } from "../delivery/row_values.ts";
import type { Connection } from "../wire/connection.ts";
import type { ReadPlan } from "./read_plan.ts";

/**
 * What reads the rows of a plan; null where they stay text.
 *
 * @param loadTypes the types of the run; null: values stay text
 * @param connection is asked for types that Postgres does not ship
 */
export async function planValues(
  { name, columns, typeOids }: ReadPlan,
  loadTypes: (() => Promise<ValueTypes>) | null,
  connection: Connection,
  signal: AbortSignal,
): Promise<RowValues | null> {
  if (loadTypes === null) return null;
  const types = await loadTypes();
  return await types.rowValues(
    name,
    columns.map((name, place) => ({ name, typeOid: typeOids[place]! })),
    async (oids) => {
      const { readTypes } = await import("../replication/types.ts");
      return await readTypes(connection, oids, signal);
    },
  );
}
