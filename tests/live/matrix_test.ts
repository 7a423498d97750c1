/** A part of the matrix of `deno task test:matrix`: some servers on Deno, one on the other runtimes. */

import { assert, assertEquals, assertGreaterOrEqual } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { PgStream } from "../../mod.ts";
import { type Outcome, type Place, playTogether, serverSettings } from "../matrix/play.ts";
import type { Shape } from "../matrix/shape.ts";
import { SHAPES } from "../matrix/shapes.ts";
import { MOVED_LSN, MOVED_XID, startMovedPostgres } from "../support/servers/moved_postgres.ts";
import { type PostgresOptions, startPostgres } from "../support/servers/postgres.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";
import { started, until } from "../support/streams.ts";

const onDeno = process.versions.deno !== undefined;
const MAJORS = onDeno ? [10, 14, 17, 18] : [17];
/** Where what is heavy is played. */
const HEAVY = 17;
/** Of the moved server: what has numbers in it, and what compares them. */
const MOVED = ["several tables", "savepoints", "prepared", "two sessions", "rewritten"];

/** Plays the shapes when the first test needs it, and hands out what became of them. */
function playing(
  start: (options: PostgresOptions) => Promise<Place["server"]>,
  major: number,
  shapes: readonly Shape[],
) {
  const place = {} as Place;
  let outcomes: Promise<Outcome[]>;
  before(async () => {
    place.server = await start({ major, settings: serverSettings(major) });
    place.dsn = (await place.server.createDatabase()).dsn;
    outcomes = playTogether(shapes, place);
    await outcomes;
  });
  after(() => place.server?.stop("immediate"));
  const seenOf = async (shape: Shape) => {
    const outcome = (await outcomes)[shapes.indexOf(shape)]!;
    if ("error" in outcome) throw outcome.error;
    return outcome.seen;
  };
  return { place, seenOf };
}

/** Why a shape is not played; null where it is. */
function reasonAgainst(shape: Shape, major: number): string | null {
  const elsewhere = shape.heavy && !(onDeno && major === HEAVY);
  return shape.cannot?.(major) ?? (elsewhere ? `played on Deno and ${HEAVY} only` : null);
}

for (const major of MAJORS) {
  describe(`PostgreSQL ${major} (18) (19) (21) (24) (25) (26):`, { skip: needsOwnServer }, () => {
    const able = SHAPES.filter((shape) => reasonAgainst(shape, major) === null);
    const { seenOf } = playing(startPostgres, major, able);
    for (const shape of SHAPES) {
      const reason = reasonAgainst(shape, major);
      if (reason === null) test(shape.name, async () => void await seenOf(shape));
      else test(`${shape.name}: ${reason}`, { skip: true }, () => {});
    }
  });
}

describe("PostgreSQL 17 beyond 2^57 bytes of WAL and 2^31 transactions (23):", {
  skip: needsOwnServer,
}, () => {
  const shapes = SHAPES.filter(({ name }) => MOVED.some((part) => name.includes(part)));
  const { place, seenOf } = playing(startMovedPostgres, 17, shapes);
  for (const shape of shapes) {
    test(shape.name, async () => {
      const seen = await seenOf(shape);
      assert(seen.length > 1);
      for (const { lsn, xid } of seen) {
        assertGreaterOrEqual(lsn, MOVED_LSN);
        assertGreaterOrEqual(xid, MOVED_XID);
      }
    });
  }

  test("rows that are there already are handed over beside the changes", async () => {
    const { server, dsn } = place;
    const query = (sql: string) => server.query(sql, { database: new URL(dsn).pathname.slice(1) });
    await query("CREATE TABLE t (id int PRIMARY KEY, v text)");
    await query("INSERT INTO t SELECT n, 'before' FROM generate_series(1, 1000) n");
    const store = new Map<string, string>();
    const stream = new PgStream({
      dsn,
      slotName: "moved",
      logger: false,
      backfill: "initial",
      backfillChunk: { maxRows: 50 },
    });
    stream.watch("t").onChange((event) => {
      if (event.oldKey !== null) store.delete(event.oldKey);
      if (event.operation === "delete") store.delete(event.key);
      else if (event.operation !== "truncate") store.set(event.key, event.row.v);
    });
    await stream.setup();
    const running = await started(stream);
    for (let n = 1; n <= 40; n++) {
      await query(`UPDATE t SET v = 'after ${n}' WHERE id % 40 = ${n % 40};
        UPDATE t SET id = id + 5000 WHERE id = ${n * 20 + 1}; DELETE FROM t WHERE id = ${n * 20}`);
    }
    await query("INSERT INTO t VALUES (0, 'last')");
    await until(
      "the last row and all before",
      () => store.has("0") && stream.status().backfill === null,
    );
    await running.stop();
    await stream.teardown();
    const rows = await query("SELECT id::text, v FROM t ORDER BY t.id") as {
      id: string;
      v: string;
    }[];
    const kept = [...store].sort(([a], [b]) => Number(a) - Number(b));
    assertEquals(kept, rows.map(({ id, v }) => [id, v]));
  });
});
