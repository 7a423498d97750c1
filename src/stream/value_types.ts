/** What a run reads values by: most streams leave them text, so it is loaded with the first table. */
import type { ValueTypes } from "../delivery/row_values.ts";
import type { Parsers } from "../values/types.ts";

/** For one run. @param parsers null: values stay text. @returns null then */
export function typeLoader(parsers: Parsers | null): (() => Promise<ValueTypes>) | null {
  if (parsers === null) return null;
  let types: Promise<ValueTypes> | undefined;
  return () =>
    types ??= import("../delivery/row_values.ts").then(({ ValueTypes }) => new ValueTypes(parsers));
}
