/** A change as a line: for a person, whatever is in it, and as JSON. */

import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { eventJson, eventLine, type LineLayout } from "../../../src/cli/format_event.ts";
import { widthOf } from "../../../src/cli/text_width.ts";

const LAYOUT: LineLayout = {
  columns: 80,
  tableColumns: "public.documents".length,
  keyColumns: 3,
  only: null,
  keyNames: ["id"],
  tone: (_, text) => text,
};

/** An event of `public.documents`, at a quarter past one. */
function event(parts: object): ChangeEvent {
  return {
    operation: "insert",
    schema: "public",
    table: "documents",
    lsn: "0/1A3F28",
    ordinal: 0,
    commitTime: new Date(2026, 4, 1, 13, 15, 7, 42),
    xid: 700,
    row: { id: "1", title: "Bread" },
    oldRow: null,
    key: "1",
    oldKey: null,
    unchanged: [],
    backfill: false,
    ...parts,
  } as ChangeEvent;
}

/** The line, without what all of them begin with. */
function line(parts: object, layout: Partial<LineLayout> = {}): string {
  const text = eventLine(event(parts), { ...LAYOUT, ...layout });
  const time = "13:15:07.042 ";
  assert(text.startsWith(time), text);
  return text.slice(time.length);
}

describe("a change as a line", () => {
  test("has operation, table, key and columns, one under the other, and the key once", () => {
    assertEquals(line({}), "insert   public.documents 1    title Bread");
    assertEquals(
      line({ operation: "delete", key: "712", row: { id: "712" }, oldRow: { id: "712" } }),
      "delete   public.documents 712",
    );
    assertEquals(
      line({ operation: "truncate", key: null, row: {} }),
      "truncate public.documents",
    );
  });

  test("of an update shows what has changed, and that first, where the old row is known", () => {
    const update = { operation: "update", row: { id: "1", title: "Bread", price: "2" } };
    assertEquals(
      line({ ...update, oldRow: { id: "1", title: "Bread", price: null } }),
      "update   public.documents 1    price NULL → 2  title Bread",
    );
    assertEquals(line(update), "update   public.documents 1    title Bread  price 2");
    assertEquals(
      line({ ...update, key: "2", oldKey: "1", oldRow: { id: "1" } }),
      "update   public.documents 1 → 2  title Bread  price 2",
    );
    assertEquals(
      line({ ...update, row: { id: "1", title: "Bread" }, unchanged: ["body"] }),
      "update   public.documents 1    title Bread  body (unchanged)",
    );
  });

  test("never breaks, and never moves the cursor, whatever a value holds", () => {
    const bad = "a\nb\x1b[31m\x07\u202etxt\u2028";
    assertEquals(
      line({ row: { [bad]: bad } }, { columns: 200 }),
      "insert   public.documents 1    " +
        "a\\nb\\x1b[31m\\x07\\u202etxt\\u2028 a\\nb\\x1b[31m\\x07\\u202etxt\\u2028",
    );
    // A megabyte is not looked through.
    const began = performance.now();
    line({ row: { id: "1", body: "日".repeat(1_000_000) } });
    assert(performance.now() - began < 1000);
  });

  test("is no wider than the terminal, with Chinese and emoji, too", () => {
    for (let columns = 20; columns < 120; columns++) {
      const text = eventLine(event({ row: { id: "1", title: "日本語のパン 👩‍👩‍👧 🥖🥖".repeat(4) } }), {
        ...LAYOUT,
        columns,
      });
      assert(widthOf(text) <= columns, `${columns}: ${text}`);
    }
  });

  test("has the columns that were asked for, in their order", () => {
    const row = { id: "1", title: "Bread", price: "2" };
    const only = ["price", "id", "gone"];
    assertEquals(line({ row }, { only }), "insert   public.documents 1    price 2  id 1");
  });
});

describe("a change as JSON", () => {
  test("is the event, on one line", () => {
    const given = event({ row: { id: "1", title: "a\nb\u2028", "": null } });
    const text = eventJson(given, null);
    assert(!text.includes("\n"));
    assertEquals(JSON.parse(text), JSON.parse(JSON.stringify(given)));
  });

  test("has of rows only the columns that were asked for, and the key all the same", () => {
    const given = event({
      operation: "update",
      row: { id: "1", title: "Bread" },
      oldRow: { id: "1", title: "Bred" },
      unchanged: ["body", "notes"],
    });
    const { key, row, oldRow, unchanged } = JSON.parse(eventJson(given, ["title", "body"]));
    assertEquals({ key, row, oldRow, unchanged }, {
      key: "1",
      row: { title: "Bread" },
      oldRow: { title: "Bred" },
      unchanged: ["body"],
    });
  });
});
