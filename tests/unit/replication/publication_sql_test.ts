import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { checkListsCoverIdentity } from "../../../src/replication/identity_cover.ts";
import {
  changeTablesSql,
  createPublicationSql,
  optionsSql,
  ownerIn,
  ownershipComment,
  publishSql,
  type WantedTable,
} from "../../../src/replication/publication_sql.ts";
import { differenceWarning } from "../../../src/replication/published_differences.ts";
import { inParentheses, sameFilterSql } from "../../../src/replication/row_filter.ts";
import { parseWatched } from "../../../src/replication/watched_table.ts";
import { catalogTable } from "../../support/catalog_table.ts";

function tableOf(
  publish: { columns?: string[]; where?: string } = {},
  fields: Partial<WantedTable> = {},
): WantedTable {
  const { columns = null, where = null } = publish;
  return { ...catalogTable(fields), publish: { columns, where } };
}

test("what is advised of a table that is published otherwise is one transaction: nothing is missed between", () => {
  const table = tableOf({ where: "id > 1" });
  const published = { columns: null, filter: "(id > 7)" };
  const warning = differenceWarning("p", { table, published, known: true, listed: true }, {});
  const documents = '"public"."documents"';
  assertStringIncludes(
    warning,
    `Run: BEGIN; ALTER PUBLICATION "p" DROP TABLE ${documents}; ` +
      `ALTER PUBLICATION "p" ADD TABLE ${documents} WHERE (id > 1); COMMIT;`,
  );
});

describe("statements", () => {
  test("of a table in full are what every version takes", () => {
    assertEquals(
      createPublicationSql({ publicationName: "p", slotName: "s" }, [tableOf()], 100000),
      'CREATE PUBLICATION "p" FOR TABLE "public"."documents"; ' +
        `COMMENT ON PUBLICATION "p" IS 'pgstream: owned by slot s'`,
    );
  });

  test("quote whatever is in a name", () => {
    const table = tableOf({ columns: ['a"b', "c, d"], where: `"a""b" > 1` }, {
      schema: 's"',
      table: "t.; --",
    });
    assertEquals(publishSql([table]), `"s"""."t.; --" ("a""b", "c, d") WHERE ("a""b" > 1)`);
  });

  test("end a condition's line where a comment would take the parenthesis with it", () => {
    assertEquals(inParentheses("a > 1"), "(a > 1)");
    assertEquals(inParentheses("a > 1 -- all"), "(a > 1 -- all\n)");
    assertEquals(
      sameFilterSql(tableOf(), "a --", "b"),
      "EXPLAIN (VERBOSE, COSTS OFF, FORMAT JSON) SELECT (a --\n) IS TRUE, (b) IS TRUE " +
        'FROM ONLY "public"."documents"',
    );
  });

  test("change a table in its publication, and touch no other one", () => {
    assertEquals(
      changeTablesSql("p", [tableOf({ columns: ["id"] })]),
      'ALTER PUBLICATION "p" DROP TABLE "public"."documents"; ' +
        'ALTER PUBLICATION "p" ADD TABLE "public"."documents" ("id")',
    );
  });

  test("name options only where they are wanted, and there are such", () => {
    const root = tableOf({}, { partitioned: true });
    const use = { publicationName: "p", slotName: "s", generatedColumns: true };
    assertMatch(
      createPublicationSql(use, [root], 180000),
      / WITH \(publish_via_partition_root = true, publish_generated_columns = stored\); /,
    );
    assertMatch(
      createPublicationSql(use, [root], 170000),
      / WITH \(publish_via_partition_root = true\); /,
    );
    assertEquals(optionsSql({ viaPartitionRoot: false, generatedColumns: undefined }), null);
    assertEquals(
      optionsSql({ viaPartitionRoot: false, generatedColumns: false }),
      "(publish_generated_columns = none)",
    );
  });

  test("of a comment that says who owns it: only that slot", () => {
    assertEquals(ownerIn(ownershipComment("docs")), "docs");
    for (const comment of [null, "", "docs", "pgstream: shared by several slots"]) {
      assertEquals(ownerIn(comment), null);
    }
  });
});

describe("what is watched of a table", () => {
  const kindOf = (work: () => unknown) => assertThrows(work, PgStreamError).kind;

  test("is all of it, unless it is said", () => {
    const all = { schema: "blog", table: "articles", columns: null, where: null };
    assertEquals(parseWatched("blog.articles"), all);
    assertEquals(parseWatched("blog.articles", {}), all);
    assertEquals(parseWatched("a", { columns: ["b", "a", "b"], where: " x > 1 " }), {
      schema: "public",
      table: "a",
      columns: ["b", "a"],
      where: " x > 1 ",
    });
  });

  test("is refused where it can be nothing", () => {
    for (const columns of [[], [""], ["a\0b"], [1], "id", {}]) {
      assertEquals(
        kindOf(() => parseWatched("a", { columns: columns as string[] })),
        "invalid-option",
      );
    }
    for (const where of ["", "  ", "a > 1\0", 1, ["a > 1"]]) {
      assertEquals(kindOf(() => parseWatched("a", { where: where as string })), "invalid-option");
    }
  });
});

describe("a list of columns", () => {
  const refused = (table: WantedTable) => {
    const error = assertThrows(() => checkListsCoverIdentity([table]), PgStreamError);
    assertEquals(error.kind, "identity-not-covered");
    return error;
  };

  test("has the columns of the identity, whichever that is", () => {
    const index = { replicaIdentity: "index", identityIndex: ["code", "lang"] } as const;
    const pair = { primaryKey: ["id", "lang"] };
    assertEquals(checkListsCoverIdentity([tableOf(), tableOf({ columns: ["a", "id"] })]), []);
    assertMatch(refused(tableOf({ columns: ["a", "id"] }, pair)).message, /lack lang of/);
    assertMatch(refused(tableOf({ columns: ["id", "code"] }, index)).hint!, /Add lang to/);
    // The key is not told then, which works, though not as one might think.
    const [warning, ...others] = checkListsCoverIdentity([
      tableOf({ columns: ["code", "lang"] }, index),
    ]);
    assertMatch(warning!, /lack id of its primary key/);
    assertEquals(others, []);
  });

  test("goes not with REPLICA IDENTITY FULL, and the way out is said", () => {
    const full = { replicaIdentity: "full" } as const;
    assertMatch(
      refused(tableOf({ columns: ["id"] }, full)).hint!,
      /ALTER TABLE "public"\."documents" REPLICA IDENTITY DEFAULT;/,
    );
    assertEquals(
      refused(tableOf({ columns: ["id"] }, { ...full, primaryKey: [] })).hint,
      "Watch all of its columns.",
    );
    assertEquals(checkListsCoverIdentity([tableOf({ where: "a > 1" }, full)]), []);
  });

  test("of a root is left to its partitions' identities", () => {
    const root = { partitioned: true, primaryKey: [] } as const;
    assertEquals(checkListsCoverIdentity([tableOf({ columns: ["a"] }, root)]), []);
  });
});
