import { describe, test } from "node:test";
import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import {
  chunkSql,
  keysSql,
  lockSql,
  type ReadPlan,
  tableSql,
} from "../../../src/backfill/read_plan.ts";

const operators = {
  greater: { schema: "pg_catalog", name: ">" },
  greaterOrEqual: { schema: "pg_catalog", name: ">=" },
  equal: { schema: "pg_catalog", name: "=" },
};

const keyed: ReadPlan = {
  oid: 1,
  name: { schema: "s", table: 'T"x' },
  columns: ["v", "b", "a"],
  typeOids: [25, 25, 23],
  primaryKey: ["a", "b"],
  keyPlaces: [2, 1],
  identity: [],
  keyed: true,
  partitioned: false,
  estimatedRows: null,
  signature: "",
  rowFilter: "(v <> 'x'::text)",
  key: [
    { name: "a", type: "integer", domain: false, array: false, ...operators },
    { name: "b", type: "text", domain: true, array: false, ...operators },
  ],
};
const keyless: ReadPlan = {
  ...keyed,
  primaryKey: [],
  keyPlaces: [],
  key: [],
  identity: ["v", "a"],
};

describe("the SQL that reads a table", () => {
  test("quotes what it is given, and joins the publication's condition with the caller's", () => {
    assertEquals(
      chunkSql(keyed, { after: ["1", "o'\\"], limit: 5, where: "a > 0 -- all" }),
      `COPY (SELECT "T""x"."v", "T""x"."b", "T""x"."a" FROM ONLY "s"."T""x" WHERE ` +
        `(ROW("T""x"."a", ("T""x"."b")::text) OPERATOR("pg_catalog".>) ` +
        `ROW('1'::integer,  E'o''\\\\'::text)\n) AND ((v <> 'x'::text)\n) AND (a > 0 -- all\n) ` +
        `ORDER BY "T""x"."a", "T""x"."b" LIMIT 5) TO STDOUT`,
    );
    assertEquals(lockSql(keyed), `LOCK TABLE ONLY "s"."T""x" IN ACCESS SHARE MODE`);
    const root = { ...keyed, partitioned: true };
    assertEquals(lockSql(root), `LOCK TABLE "s"."T""x" IN ACCESS SHARE MODE`);
    assertStringIncludes(tableSql(root), ` FROM "s"."T""x" WHERE `);
  });

  test("is refused where it would read something else than was meant", () => {
    for (const limit of [0, -1, 1.5, NaN, 2 ** 60]) {
      assertThrows(() => chunkSql(keyed, { after: null, limit }), RangeError);
    }
    assertThrows(() => chunkSql(keyed, { after: ["1"], limit: 1 }), RangeError);
    assertThrows(() => chunkSql(keyed, { after: ["1", "\0"], limit: 1 }), RangeError);
    assertThrows(() => chunkSql(keyless, { after: null, limit: 1 }), RangeError);
    assertThrows(() => keysSql(keyless, [["1"]]), RangeError);
    assertThrows(() => keysSql(keyed, []), RangeError);
    assertThrows(() => keysSql(keyed, [["1", "2", "3"]]), RangeError);
  });
});
