/** What a run reads values by: most streams leave them text, so it is loaded with the first table. */
import type { LoadTypes, ValueTypes } from "../delivery/row_values.ts";
import type { TableName } from "../table_name.ts";
import type { Parsers } from "../values/types.ts";

/**
 * For one run.
 *
 * @param parsers null: values stay text
 * @param isTyped the tables that have JS values all the same
 */
export function typeLoader(
  parsers: Parsers | null,
  isTyped: (table: TableName) => boolean,
): LoadTypes {
  let types: Promise<ValueTypes> | undefined;
  const load = () =>
    types ??= import("../delivery/row_values.ts")
      .then(({ ValueTypes }) => new ValueTypes(parsers ?? {}));
  return (table) => parsers !== null || isTyped(table) ? load() : null;
}
