import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { test } from "node:test";
import type { AnyRow, ChangeEvent } from "../../../src/change.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { rowChanges, type TableChanges } from "../../../src/sync/row_changes.ts";
import { deleteOf, insertOf, truncateOf, updateOf } from "../delivery/harness.ts";

/** Events in order, each at the place of its index. */
function changesOf(...events: ChangeEvent[]): TableChanges {
  const placed = events.map((event, ordinal) => ({ ...event, ordinal }) as ChangeEvent);
  return rowChanges(placed).get("public.documents")!;
}

/** `key: body@place`, by key; a `-` where it is gone. */
function said({ rows }: TableChanges): string {
  return [...rows.values()]
    .map(({ key, row, ordinal }) => `${key}: ${row === null ? "-" : row.body}@${ordinal}`)
    .sort().join(", ");
}

const insert = (key: string, body: string) => insertOf(key, { row: { id: key, body } });
/** Under REPLICA IDENTITY FULL where the old body is told. */
const update = (key: string, body: string, old: string | null = null, oldBody?: string) =>
  updateOf(key, old, {
    row: { id: key, body },
    oldRow: old === null && oldBody === undefined
      ? null
      : { id: old ?? key, ...(oldBody === undefined ? {} : { body: oldBody }) },
  });
const remove = (key: string, body?: string) => {
  const row: AnyRow = body === undefined ? { id: key } : { id: key, body };
  return deleteOf(key, { row, oldRow: row });
};

test("the last state of each row counts, at the place of its last event", () => {
  const changes = changesOf(insert("1", "a"), insert("2", "b"), update("1", "c"), remove("2"));
  assertEquals(said(changes), "1: c@2, 2: -@3");
  assertEquals(changes.truncated, null);
});

test("a row that takes another key leaves the old one, and a swap by way of a third key ends right", () => {
  assertEquals(said(changesOf(update("2", "a", "1"))), "1: -@0, 2: a@0");
  assertEquals(
    said(changesOf(update("3", "a", "1"), update("1", "b", "2"), update("2", "a", "3"))),
    "1: b@1, 2: a@2, 3: -@2",
  );
});

test("what was there before a TRUNCATE needs no doing, what comes after it does", () => {
  const changes = changesOf(insert("1", "a"), truncateOf(), insert("2", "b"), remove("3"));
  assertEquals(said(changes), "2: b@2, 3: -@3");
  assertEquals(changes.truncated, { lsn: "0/1A3F28", ordinal: 1 });
});

test("a TRUNCATE empties its own table, and a name with a dot is not another schema's", () => {
  const events = [
    insertOf("1", { table: "b.c", schema: "a" }),
    insertOf("1", { table: "c", schema: "a.b" }),
    truncateOf({ table: "c", schema: "a.b" }),
  ];
  const changes = rowChanges(events);
  assertEquals([...changes.keys()], ['a."b.c"', '"a.b".c']);
  assertEquals(changes.get('a."b.c"')!.rows.size, 1);
});

test("nothing is taken for granted of rows of a backfill, and of rows that were gone between", () => {
  const anew = (...events: ChangeEvent[]) =>
    [...changesOf(...events).rows.values()].map(({ key, anew }) => `${key} ${anew}`).join();
  assertEquals(anew(insert("1", "a"), update("1", "b")), "1 false");
  assertEquals(anew(insertOf("1", { backfill: true }), update("1", "b")), "1 true");
  assertEquals(anew(remove("1"), insert("1", "b")), "1 true");
  assertEquals(anew(update("2", "a", "1"), insert("1", "b")), "1 true,2 false");
});

test("a row of several events is told from a row of one: what they made of it between is not known", () => {
  const alone = (...events: ChangeEvent[]) =>
    [...changesOf(...events).rows.values()].map(({ key, alone }) => `${key} ${alone}`).join();
  assertEquals(alone(update("1", "a"), update("2", "b"), update("2", "c")), "1 true,2 false");
  assertEquals(
    alone(remove("1"), insert("1", "a"), update("3", "b", "2")),
    "1 false,2 true,3 true",
  );
});

test("columns that were not sent are taken from the old row; the event itself stays as it is", () => {
  const event = updateOf("1", null, {
    row: { id: "1" },
    oldRow: { id: "1", body: "old" },
    unchanged: ["body"],
  });
  assertEquals(said(changesOf(event)), "1: old@0");
  assertEquals(event.row, { id: "1" });
});

test("a row that lacks columns all the same is left to the event that says why", () => {
  const lacking = (oldKey: string | null) =>
    updateOf("2", oldKey, { row: { id: "2" }, unchanged: ["body"] });
  assertEquals(said(changesOf(lacking(null))), "");
  // What is known of it from before is not forgotten.
  assertEquals(said(changesOf(insert("2", "a"), lacking(null))), "2: a@0");
  assertEquals(said(changesOf(lacking("1"))), "1: -@0");
  assertEquals(said(changesOf(lacking(null), remove("2"))), "2: -@1");
});

test("rows that move up one key each, as a DEFERRABLE primary key allows, are not taken for one another", () => {
  // UPDATE documents SET id = id + 1, of 1: a and 2: b. All of it is in one transaction.
  assertEquals(
    said(changesOf(update("2", "a", "1", "a"), update("3", "b", "2", "b"))),
    "1: -@0, 2: a@0, 3: b@1",
  );
  // One row that moves twice.
  assertEquals(
    said(changesOf(update("2", "a", "1", "a"), update("3", "a", "2", "a"))),
    "1: -@0, 2: -@1, 3: a@1",
  );
  // A row comes before the one with its key is deleted.
  assertEquals(said(changesOf(insert("1", "new"), remove("1", "old"))), "1: new@0");
  assertEquals(said(changesOf(insert("1", "new"), remove("1", "new"))), "1: -@1");
  // Later, it is a row that was changed meanwhile.
  const later = { ...remove("1", "old"), lsn: "0/1A4000" };
  assertEquals(said(changesOf(insert("1", "new"), later)), "1: -@1");
});

test("the row that left is told where it may not be the one that the store has, and only there", () => {
  const left = (...events: ChangeEvent[]) => changesOf(...events).rows.get("1")!.left;
  assertEquals(left(update("2", "a", "1", "a")), { id: "1", body: "a" });
  assertEquals(left(update("2", "a", "1")), null);
  assertEquals(left(update("1", "b"), update("2", "b", "1", "b")), null);
  assertEquals(left(remove("1", "a")), null);
});

test("a delete that does not tell the primary key is refused: its points could not be found", () => {
  // REPLICA IDENTITY USING INDEX of (slug), which lacks the primary key.
  const row = { slug: "x" };
  const error = assertThrows(
    () => changesOf(deleteOf('{"slug":"x"}', { row, oldRow: row })),
    PgStreamError,
    "Cannot sync public.documents",
  );
  assertEquals(error.kind, "sync-key");
  assertStringIncludes(error.hint!, 'ALTER TABLE "public"."documents" REPLICA IDENTITY DEFAULT');
});

test("keys that look like an index' are keys", () => {
  for (
    const [key, id] of [
      ['{"slug":"x"}', '{"slug":"x"}'],
      ['{"id": 1}', { id: 1 }],
      ['{"a","b"}', ["a", "b"]],
      ['{"a b"}', ["a b"]],
      ["{}", {}],
      ['["1","2"]', "1"],
    ] as const
  ) {
    for (const row of [{ id }, { slug: id }]) {
      assertEquals(said(changesOf(deleteOf(key, { row, oldRow: row }))), `${key}: -@0`);
    }
  }
});
