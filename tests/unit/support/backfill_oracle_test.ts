/** The judge of backfills must see each defect, and find none where there is none. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { describe, test } from "node:test";
import { formatLsn } from "../../../mod.ts";
import type { BackfillEvent, LoggedRow, TableFacts } from "../../live/chaos/backfill_model.ts";
import { judge, type LifeLog, type Manner } from "../../live/chaos/backfill_oracle.ts";

const DOCS: TableFacts = {
  table: "docs",
  primaryKey: ["k"],
  tells: ["k"],
  columns: ["k", "v", "pad"],
};
/** Its index lacks the key. */
const INDEXED: TableFacts = { ...DOCS, tells: ["v"] };
const KEYLESS: TableFacts = { ...DOCS, primaryKey: [], tells: DOCS.columns };
const STRICT: Manner = { inOrder: true, chunkRows: 10 };

function row(k: string, v: number, pad: string | null = "P"): LoggedRow {
  return [["k", k], ["v", `${v}`], ["pad", pad]];
}

interface Told extends Partial<BackfillEvent> {
  k?: string;
}

/** @param at LSN of the commit */
function change(operation: BackfillEvent["operation"], at: number, told: Told): BackfillEvent {
  const { k = null, ...more } = told;
  const base = { table: "docs", operation, backfill: false, xid: 700, ordinal: 0, key: k };
  const empty = { oldKey: null, row: [], oldRow: null, unchanged: [] };
  return { ...base, ...empty, lsn: formatLsn(BigInt(at)), ...more };
}

const insert = (at: number, k: string, v: number, pad: string | null = "P", told: Told = {}) =>
  change("insert", at, { k, row: row(k, v, pad), ...told });
const update = (at: number, k: string, v: number, pad: string | null = "P", told: Told = {}) =>
  change("update", at, { k, row: row(k, v, pad), ...told });
/** What is stored out of line is not sent. */
const touch = (at: number, k: string, v: number, told: Told = {}) =>
  change("update", at, { k, row: [["k", k], ["v", `${v}`]], unchanged: ["pad"], ...told });
const move = (at: number, from: string, to: string, v: number, told: Told = {}) =>
  touch(at, to, v, { oldKey: from, oldRow: [["k", from]], ...told });
const remove = (at: number, k: string, told: Told = {}) =>
  change("delete", at, { k, row: [["k", k]], oldRow: [["k", k]], ...told });
const truncate = (at: number) => change("truncate", at, {});
/** A row that a backfill read. @param at its consistent point */
const read = (at: number, k: string, v: number, pad: string | null = "P", told: Told = {}) =>
  insert(at, k, v, pad, { backfill: true, ordinal: -1, xid: 0, ...told });

interface Case {
  tables?: TableFacts[];
  manner?: Partial<Manner>;
  /** What was confirmed before each life; default: nothing. */
  confirmed?: number[];
}

function complaints(
  lives: BackfillEvent[][],
  truth: LoggedRow[],
  { tables = [DOCS], manner = {}, confirmed = [] }: Case = {},
): string[] {
  const logs: LifeLog[] = lives.map((events, index) => {
    return { confirmed: BigInt(confirmed[index] ?? 0), events };
  });
  return judge(tables, logs, new Map([["docs", truth]]), { ...STRICT, ...manner }).complaints;
}

function right(lives: BackfillEvent[][], truth: LoggedRow[], how: Case = {}): void {
  assertEquals(complaints(lives, truth, how), []);
}

function wrong(text: string, lives: BackfillEvent[][], truth: LoggedRow[], how: Case = {}): void {
  const found = complaints(lives, truth, how);
  assertStringIncludes(found.join("\n") || "nothing", text);
}

describe("what is right passes:", () => {
  test("existing rows between changes; keys that move, swap, go and come back", () => {
    right([[
      insert(10, "a", 3),
      read(20, "a", 3),
      read(20, "b", 1, "Q"),
      touch(30, "b", 4),
      remove(40, "a"),
      read(45, "c", 2, "R"),
      insert(50, "a", 5),
      move(60, "b", "x", 6),
      move(60, "c", "b", 7, { ordinal: 1 }),
      move(60, "x", "c", 8, { ordinal: 2 }),
    ]], [row("a", 5), row("b", 7, "R"), row("c", 8, "Q")]);
  });

  test("a row whose version a change brought already, read once more", () => {
    right([[insert(10, "a", 3), read(20, "a", 3), read(30, "a", 3)]], [row("a", 3)]);
  });

  test("an unknown value that a row read later makes good", () => {
    right([[touch(10, "a", 3), read(20, "a", 3, "Q")]], [row("a", 3, "Q")]);
    right([[move(10, "z", "a", 3), read(20, "a", 3, "Q")]], [row("a", 3, "Q")]);
    right([[touch(10, "a", 3), remove(20, "a")]], []);
  });

  test("a TRUNCATE, and what comes after it", () => {
    right([[read(5, "a", 1), read(5, "b", 2), truncate(10), insert(20, "a", 3)]], [row("a", 3)]);
  });

  test("a life that ends in the middle, and the next one that repeats what was not confirmed", () => {
    const first = [read(5, "a", 1), update(10, "a", 3, "Q"), touch(20, "a", 4), remove(30, "a")];
    const next = [touch(20, "a", 4), remove(30, "a"), read(35, "b", 2), insert(40, "a", 5)];
    right([first, next], [row("a", 5), row("b", 2)], { confirmed: [0, 15] });
    right([[...first, insert(40, "a", 5)], next], [row("a", 5), row("b", 2)], {
      confirmed: [0, 15],
    });
  });

  test("keys that are swapped, and swapped again by a repetition", () => {
    const swap = [
      move(10, "a", "x", 3),
      move(10, "b", "a", 4, { ordinal: 1 }),
      move(10, "x", "b", 5, { ordinal: 2 }),
    ];
    const before = [read(5, "a", 1, "A"), read(5, "b", 2, "B")];
    right([[...before, ...swap], swap], [row("a", 4, "B"), row("b", 5, "A")]);
  });

  test("lanes: keys in any order among each other", () => {
    const events = [insert(20, "b", 4), insert(10, "a", 3), read(15, "c", 1)];
    right([events], [row("a", 3), row("b", 4), row("c", 1)], { manner: { inOrder: false } });
    wrong("misordered: stands before", [events], [row("a", 3), row("b", 4), row("c", 1)]);
  });

  test("rows without a key, some the same in all", () => {
    const old = (at: number, v: number) => {
      const event = remove(at, "a", { oldRow: row("a", v), row: row("a", v) });
      return { ...event, key: JSON.stringify(row("a", v)) };
    };
    const events = [read(5, "a", 1), read(5, "a", 1), insert(10, "a", 1), old(20, 1)];
    right([events], [row("a", 1), row("a", 1)], { tables: [KEYLESS] });
    wrong("orphan: docs 1 ×", [events], [row("a", 1)], { tables: [KEYLESS] });
    wrong("lost: docs 1 ×", [events], [row("a", 1), row("a", 1), row("a", 1)], {
      tables: [KEYLESS],
    });
  });

  test("rows that are known by an index alone", () => {
    const gone = change("delete", 20, { k: '{"v":"1"}', row: [["v", "1"]], oldRow: [["v", "1"]] });
    const how = { tables: [INDEXED] };
    right([[read(5, "a", 1), read(5, "b", 2), gone]], [row("b", 2)], how);
    wrong("orphan", [[gone, read(25, "a", 1)]], [], how);
    wrong("back in time", [[gone, read(25, "a", 1)]], [], how);
  });
});

describe("each defect is found:", () => {
  test("a row that never came", () => {
    wrong('lost: docs ["b"]', [[read(5, "a", 1)]], [row("a", 1), row("b", 2)]);
    wrong('lost: docs ["a"]', [[insert(5, "a", 1), remove(10, "a")]], [row("a", 3)]);
  });

  test("a row that is gone and still there", () => {
    wrong('orphan: docs ["a"]', [[read(5, "a", 1)]], []);
    wrong('orphan: docs ["a"]', [[read(5, "a", 1), insert(10, "b", 3)]], [row("b", 3)]);
  });

  test("an old row after a newer one, though later all is right again", () => {
    const events = [insert(10, "a", 3), update(20, "a", 4), read(30, "a", 3)];
    wrong("misordered: takes its key back", [events], [row("a", 4)]);
    wrong("stale: docs", [events], [row("a", 4)]);
    wrong("misordered: takes its key back", [[...events, update(40, "a", 5)]], [row("a", 5)]);
    const existing = [update(20, "a", 4), read(30, "a", 1), update(40, "a", 5)];
    wrong("misordered: takes its key back", [existing], [row("a", 5)]);
  });

  test("an old row after its key was deleted, moved away, or truncated", () => {
    wrong("back in time", [[remove(10, "a"), read(20, "a", 1), remove(30, "a")]], []);
    const moved = [move(10, "a", "b", 3), read(20, "a", 1), read(20, "b", 3), remove(30, "a")];
    wrong("back in time", [moved], [row("b", 3)]);
    wrong("back in time", [[truncate(10), read(20, "a", 1), truncate(30)]], []);
  });

  test("an old row after a change that an earlier life confirmed", () => {
    const lives = [[update(10, "a", 4)], [read(20, "a", 1), update(40, "a", 5)]];
    wrong("back in time", lives, [row("a", 5)], { confirmed: [0, 15] });
    // Not confirmed, it comes again, and puts it right.
    const again = [[update(10, "a", 4)], [update(10, "a", 4), read(20, "a", 4)]];
    right(again, [row("a", 4)]);
  });

  test("a row read too early: a change that it holds comes after it", () => {
    const events = [read(30, "a", 5), update(20, "a", 4), update(25, "a", 5)];
    wrong("misordered: takes its key back", [events], [row("a", 5)]);
    wrong("misordered: stands before", [events], [row("a", 5)]);
    wrong("misordered: takes its key back", [events], [row("a", 5)], {
      manner: { inOrder: false },
    });
  });

  test("a consistent point that is not where it stands", () => {
    wrong("misordered: stands before", [[insert(20, "b", 2), read(10, "a", 1)]], [
      row("a", 1),
      row("b", 2),
    ]);
  });

  test("a value that nobody told", () => {
    wrong("unknown value: docs", [[touch(10, "a", 3)]], [row("a", 3, "Q")]);
    wrong("unknown value: docs", [[move(10, "z", "a", 3)]], [row("a", 3, "Q")]);
    wrong("unknown value: docs", [[read(5, "b", 1), move(10, "a", "c", 3)]], [
      row("b", 1),
      row("c", 3, "Q"),
    ]);
    // Repetitions excuse what is applied to rows that went on, not what was never known.
    const life = [touch(10, "a", 3)];
    wrong("unknown value: docs", [life, life], [row("a", 3, "Q")]);
  });

  test("a value that is another one", () => {
    wrong("stale: docs", [[read(5, "a", 1, "Q")]], [row("a", 1, "P")]);
    wrong("stale: docs", [[read(5, "a", 1, null)]], [row("a", 1, "P")]);
    wrong("wrong: is not the row of", [[insert(10, "a", 3, "P"), read(20, "a", 3, "Q")]], [
      row("a", 3, "Q"),
    ]);
  });

  test("a change that comes twice in one process, or after it was confirmed", () => {
    wrong("unexplained: twice", [[insert(10, "a", 3), insert(10, "a", 3)]], [row("a", 3)]);
    const lives = [[insert(10, "a", 3)], [insert(10, "a", 3)]];
    wrong("unexplained: was confirmed", lives, [row("a", 3)], { confirmed: [0, 15] });
    right(lives, [row("a", 3)]);
  });

  test("a repetition that says something else", () => {
    const lives = [[insert(10, "a", 3)], [insert(10, "a", 3, "Q")]];
    wrong("said something else", lives, [row("a", 3, "Q")]);
  });

  test("a repetition that ends before the newest", () => {
    const lives = [[update(10, "a", 3), update(20, "a", 4)], [update(10, "a", 3)]];
    wrong("(when all is applied again)", lives, [row("a", 4)]);
  });

  test("more than a chunk that is read again after a kill", () => {
    const rows = ["a", "b", "c"].map((k, index) => read(10, k, index + 1));
    const truth = [row("a", 1), row("b", 2), row("c", 3)];
    right([rows, rows], truth);
    wrong("3 rows were read again", [rows, rows], truth, { manner: { chunkRows: 1 } });
    right([rows, rows], truth, { manner: { chunkRows: null } });
  });

  test("an event that does not fit together", () => {
    const cases: [string, BackfillEvent][] = [
      ["is no row of a backfill", read(10, "a", 1, "P", { ordinal: 0 })],
      ["is no row of a backfill", read(10, "a", 1, "P", { xid: 7 })],
      ["is no row of a backfill", { ...read(10, "a", 1), unchanged: ["pad"] }],
      ["has no place", insert(10, "a", 1, "P", { xid: 0 })],
      ["has other columns", read(10, "a", 1, "P", { row: row("a", 1).slice(0, 2) })],
      ["has other columns", insert(10, "a", 1, "P", { row: [...row("a", 1), ["gen", "2"]] })],
      ["has not the key", read(10, "a", 1, "P", { key: "b" })],
      ["has not the old key", move(10, "z", "a", 1, { oldKey: null })],
      ["of a table that nobody watches", read(10, "a", 1, "P", { table: "others" })],
    ];
    for (const [text, event] of cases) wrong(`wrong: ${text}`, [[event]], [row("a", 1)]);
  });
});
