/** What every sink does that `sync` keeps rows in: one suite for all of them. Vectors have three dimensions. */

import { after, before, describe, test } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { parseTableName } from "../../src/table_name.ts";
import type { RowSink } from "../../src/sinks/rows.ts";
import { describeDeleteTable, describeOrder } from "./row_sink/order.ts";
import { describePositions } from "./row_sink/positions.ts";
import { describeRandom } from "./row_sink/random.ts";
import {
  describeFilled,
  describeOtherModel,
  describeScan,
  describeSearch,
  describeVectors,
} from "./row_sink/reads.ts";
import type { RowSinkUnderTest } from "./row_sink/rows.ts";
import { describeWrites } from "./row_sink/writes.ts";

export type { RowSinkUnderTest } from "./row_sink/rows.ts";

/** What a sink can have beyond `upsert` and `delete`. */
export type RowMember = keyof RowSink | "search";

const MEMBERS: Record<RowMember, true> = {
  prepareRows: true,
  apply: true,
  position: true,
  fingerprints: true,
  vectors: true,
  scan: true,
  deleteTable: true,
  otherModel: true,
  filled: true,
  location: true,
  search: true,
};

export interface RowSinkContractOptions {
  /** All that the sink has, so that nothing is left out unseen. `apply` and `fingerprints` are a must. */
  members: readonly RowMember[];
  /** True where a call of `apply` that fails leaves nothing, neither rows nor position. */
  atomic: boolean;
}

/** `make` gives a sink to a store that has nothing but plain points, if anything. */
export function rowSinkContract(
  name: string,
  make: () => Promise<RowSinkUnderTest>,
  { members, atomic }: RowSinkContractOptions,
): void {
  describe(`row sink contract: ${name}`, () => {
    let subject: RowSinkUnderTest;
    const made = () => subject;
    const has = (member: RowMember) => members.includes(member);
    before(async () => {
      subject = await make();
      await subject.sink.prepareRows?.();
      await subject.sink.prepareRows?.();
    });
    after(() => subject.release());

    test("the sink has the members that it is said to have, and no others", () => {
      const present = (Object.keys(MEMBERS) as RowMember[]).filter((member) =>
        typeof subject.sink[member] === "function"
      );
      assertEquals(present.sort(), [...members].sort());
      assert(has("apply") && has("fingerprints"));
    });

    describeWrites(made);
    describeOrder(made);
    describeRandom(made, has("deleteTable"));
    if (has("deleteTable")) describeDeleteTable(made);
    if (has("vectors")) describeVectors(made);
    if (has("scan")) describeScan(made);
    if (has("otherModel")) describeOtherModel(made);
    if (has("search")) describeSearch(made);
    if (has("filled")) describeFilled(made);
    if (has("position")) describePositions(made, atomic);

    if (has("location")) {
      test("the store says where it is, with names that can be read", async () => {
        const location = await subject.sink.location!();
        assert(location !== null && location.database !== "" && location.tables.length > 0);
        for (const table of location.tables) parseTableName(table);
      });
    }
  });
}
