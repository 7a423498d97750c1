/** All rows of the matrix. */

import type { Shape } from "./shape.ts";
import { IDENTITIES } from "./shapes/identities.ts";
import { TRANSACTIONS } from "./shapes/transactions.ts";
import { TRUNCATES } from "./shapes/truncates.ts";

/** In the order in which they are played. */
export const SHAPES: readonly Shape[] = [
  ...IDENTITIES,
  ...TRANSACTIONS,
  ...TRUNCATES,
];
