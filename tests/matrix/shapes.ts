/** All rows of the matrix. */

import type { Shape } from "./shape.ts";
import { CHANGES_OF_TABLES } from "./shapes/changes_of_tables.ts";
import { ENCODINGS } from "./shapes/encodings.ts";
import { FILTERS } from "./shapes/filters.ts";
import { IDENTITIES } from "./shapes/identities.ts";
import { NAMES } from "./shapes/names.ts";
import { PARTITIONS } from "./shapes/partitions.ts";
import { REFUSALS } from "./shapes/refusals.ts";
import { SIZES } from "./shapes/sizes.ts";
import { STATEMENTS } from "./shapes/statements.ts";
import { TRANSACTIONS } from "./shapes/transactions.ts";
import { TRUNCATES } from "./shapes/truncates.ts";
import { VALUES } from "./shapes/values.ts";

/** In the order in which they are played. */
export const SHAPES: readonly Shape[] = [
  ...VALUES,
  ...IDENTITIES,
  ...NAMES,
  ...SIZES,
  ...STATEMENTS,
  ...TRANSACTIONS,
  ...TRUNCATES,
  ...CHANGES_OF_TABLES,
  ...PARTITIONS,
  ...FILTERS,
  ...ENCODINGS,
  ...REFUSALS,
];
