/** A row that a backfill read says the same, byte for byte, as the change that wrote the same row. */

import { assertEquals, assertGreater } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../mod.ts";
import { testMajors, testPostgres } from "../support/servers/test_postgres.ts";
import { prepareSamples } from "../support/type_samples.ts";
import { bothOf, compare, everyColumn, fill } from "../support/type_table.ts";

/** What prints values in another way; all of it a database may have for its defaults. */
const ODD_DEFAULTS: Record<string, string> = {
  DateStyle: "'German, DMY'",
  IntervalStyle: "sql_standard",
  TimeZone: "'Asia/Kolkata'",
  bytea_output: "escape",
  extra_float_digits: "-5",
  search_path: "public, pg_catalog",
};
/** The texts of all rows, as a change tells them, after those that were read were found to be the same. */
async function textsOf(major: number, defaults: Record<string, string>): Promise<ChangeEvent[]> {
  const db = await testPostgres({ major });
  try {
    for (const [name, value] of Object.entries(defaults)) {
      await db.query(`ALTER DATABASE ${db.database} SET ${name} = ${value}`);
    }
    await db.query(prepareSamples(db.major));
    const columns = await everyColumn(db, db.major);
    assertGreater(columns.length, 130);
    const rows = await fill(db, columns);
    return compare(await bothOf(db, columns, rows, { backfill: "initial" }), rows);
  } finally {
    await db.stop();
  }
}

for (const major of testMajors(18, 17, 14, 10)) {
  describe(`values of existing rows, PostgreSQL ${major}:`, () => {
    test("every type reads as it streams, whatever the database's defaults are", async () => {
      const plain = await textsOf(major, {});
      const odd = await textsOf(major, ODD_DEFAULTS);
      plain.forEach(({ row }, index) => assertEquals(odd[index]!.row, row, `row ${index + 1}`));
    });
  });
}
