/** Events for tests are those that the decoder and the stream make of the same change. */

import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent, PgStreamError } from "../../../mod.ts";
import { EventBuilder } from "../../../src/delivery/event_builder.ts";
import { RowEvents } from "../../../src/delivery/row_events.ts";
import { PgOutputDecoder } from "../../../src/pgoutput/mod.ts";
import { insert, remove, truncate, update } from "../../../src/testing/mod.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import { UNCHANGED } from "../../support/pgoutput_encoder.ts";

const TABLE: encode.TableSpec = {
  oid: 1,
  schema: "public",
  name: "documents",
  columns: [{ name: "id", key: true }, { name: "title" }, { name: "content" }],
};

/** What a stream makes of bytes, at the place of `like`. */
function decoded(like: ChangeEvent, bytes: Uint8Array, table = TABLE): ChangeEvent {
  const decoder = new PgOutputDecoder();
  const builder = new EventBuilder();
  const primaryKey = table.columns.filter((column) => column.key).map(({ name }) => name);
  const relation = decoder.decode(encode.relation(table));
  if (relation.type !== "relation") throw new Error("no relation");
  const name = { schema: table.schema!, table: table.name };
  builder.declare(relation, { name, primaryKey, keyed: true });
  const message = decoder.decode(bytes);
  const events: ChangeEvent[] = [];
  if (message.type !== "insert" && message.type !== "update" && message.type !== "delete") {
    if (message.type !== "truncate") throw new Error("no change");
  }
  builder.build(message, (event) => events.push(event));
  const { lsn, commitTime, xid } = like;
  return { ...events[0]!, lsn, commitTime, xid };
}

describe("an event for tests is what a stream makes of the same bytes:", () => {
  test("an insert, with a NULL", () => {
    const event = insert("documents", { id: 1, title: "a", content: null });
    assertEquals<ChangeEvent>(event, decoded(event, encode.insert(1, ["1", "a", null])));
  });

  test("an update that leaves the key and a large text alone", () => {
    const event = update("documents", { id: 1, title: "b" }, { unchanged: ["content"] });
    assertEquals<ChangeEvent>(event, decoded(event, encode.update(1, ["1", "b", UNCHANGED])));
    assertEquals(event.unchanged, ["content"]);
    assertEquals("content" in event.row, false);
  });

  test("an update of the key", () => {
    const row = { id: 2, title: "b", content: "c" };
    const event = update("documents", row, { oldRow: { id: 1 } });
    const bytes = encode.update(1, ["2", "b", "c"], { kind: "K", values: ["1", null, null] });
    assertEquals<ChangeEvent>(event, decoded(event, bytes));
    assertEquals([event.key, event.oldKey], ["2", "1"]);
  });

  test("an update with all of the old row, which has what the server left out", () => {
    const oldRow = { id: 1, title: "a", content: "c" };
    const event = update("documents", { id: 1, title: "b" }, { oldRow, unchanged: ["content"] });
    const old = { kind: "O" as const, values: ["1", "a", "c"] };
    const bytes = encode.update(1, ["1", "b", UNCHANGED], old);
    assertEquals<ChangeEvent>(event, decoded(event, bytes));
    assertEquals<unknown>({ ...event.row }, { id: "1", title: "b", content: "c" });
    assertEquals([event.oldKey, event.unchanged], [null, []]);
  });

  test("a delete that tells the key, and one that tells all", () => {
    const byKey = remove("documents", { id: 1 });
    assertEquals<ChangeEvent>(byKey, decoded(byKey, encode.delete_(1, "K", ["1", null, null])));
    const whole = remove("documents", { id: 1, title: "a", content: null });
    assertEquals<ChangeEvent>(whole, decoded(whole, encode.delete_(1, "O", ["1", "a", null])));
  });

  test("a truncate", () => {
    const event = truncate("documents");
    assertEquals<ChangeEvent>(event, decoded(event, encode.truncate([1])));
  });

  test("a table of another schema, with a key of several columns", () => {
    const tags = {
      oid: 1,
      schema: "blog",
      name: "tags",
      columns: [{ name: "article", key: true }, { name: "tag", key: true }],
    };
    const event = insert("blog.tags", { article: 7n, tag: "x" }, { key: ["article", "tag"] });
    assertEquals<ChangeEvent>(event, decoded(event, encode.insert(1, ["7", "x"]), tags));
    assertEquals(event.key, '["7","x"]');
  });
});

test("a row of a backfill, and the truncate before it, are what a backfill makes", () => {
  const name = { schema: "public", table: "documents" };
  const rows = new RowEvents({ name, primaryKey: ["id"], keyed: true }, ["id", "title"], ["id"]);
  const event = insert("documents", { id: 1, title: "a" }, { backfill: true });
  const bytes = new TextEncoder().encode("1\ta\n");
  const at = { lsn: event.lsn, time: event.commitTime };
  assertEquals<ChangeEvent>(event, rows.insert(bytes, 0, bytes.length, at));
  const emptied = truncate("documents", { backfill: true });
  const then = { lsn: emptied.lsn, time: emptied.commitTime };
  assertEquals<ChangeEvent>(emptied, rows.truncate(then));
});

test("of a table without a primary key the whole row is the key", () => {
  const event = insert("logs", { line: "a", level: 3 }, { key: [] });
  assertEquals(event.key, '["a","3"]');
});

test("no two events have the same place, and each has a later one", () => {
  const [first, second] = [insert("t", { id: 1 }), insert("t", { id: 1 })];
  for (const field of ["lsn", "commitTime", "xid"] as const) {
    assertNotEquals(first[field], second[field]);
  }
  assertEquals(second.commitTime.getTime() - first.commitTime.getTime(), 1000);
});

test("values are the text that Postgres prints, and a row inherits nothing", () => {
  const { row } = insert("t", { id: 1, big: 2n ** 60n, yes: true, no: false, none: null });
  const [yes, no]: ["t" | "f", "t" | "f"] = [row.yes, row.no];
  assertEquals([row.id, row.big, yes, no, row.none], ["1", `${2n ** 60n}`, "t", "f", null]);
  assertEquals("constructor" in row, false);
});

const impossible: { name: string; make: () => unknown; says: RegExp }[] = [
  { name: "a row without its key", make: () => insert("t", { n: 1 }), says: /no value of "id"/ },
  { name: "a NULL in the key", make: () => insert("t", { id: null }), says: /no value of "id"/ },
  {
    name: "an old row without its key",
    make: () => update("t", { id: 1, a: 1 }, { oldRow: { a: 2 } }),
    says: /no value of "id"/,
  },
  {
    name: "an old row that is neither the key nor all of the row",
    make: () => update("t", { id: 1, a: 1, b: 1 }, { oldRow: { id: 1, a: 2 } }),
    says: /neither the key nor all of the row.*\{ id \}.*\{ id, a, b \}/,
  },
  {
    name: "an old row with a column of another name",
    make: () => update("t", { id: 1, a: 1 }, { oldRow: { id: 1, A: 2 } }),
    says: /neither the key nor all of the row/,
  },
  {
    name: "a column that is unchanged and has a value",
    make: () => update("t", { id: 1, content: null }, { unchanged: ["content"] }),
    says: /"content" is unchanged and has a value/,
  },
  {
    name: "undefined",
    // @ts-expect-error a column has a value, or is NULL
    make: () => insert("t", { id: 1, a: undefined }),
    says: /"a" is undefined/,
  },
  {
    name: "what no column holds",
    // @ts-expect-error it is neither a value nor NULL
    make: () => insert("t", { id: 1, secret: Symbol("hush") }),
    says: /"secret" has a value that no type of Postgres has/,
  },
  {
    name: "a Date that is none: a text, infinity, is",
    make: () => insert("t", { id: 1, secret: new Date(NaN) }),
    says: /"secret" has a value that no type of Postgres has/,
  },
];
for (const { name, make, says } of impossible) {
  test(`what no server tells is refused: ${name}`, () => {
    const error = assertThrows(make) as PgStreamError;
    assertEquals([error.kind, says.test(error.message)], ["invalid-change", true], error.message);
    assertEquals(error.message.includes("hush"), false);
  });
}

test("a name that is no table's is refused as by watch()", () => {
  assertEquals((assertThrows(() => insert("a.", { id: 1 })) as PgStreamError).kind, "table-name");
});
