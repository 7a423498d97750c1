import { assert, assertEquals, assertFalse, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { DeliveryError } from "../../../src/delivery/errors.ts";
import {
  type ChangeMessage,
  type Emit,
  EventBuilder,
  type EventTable,
  heldBytes,
} from "../../../src/delivery/event_builder.ts";
import {
  type OldKind,
  PgOutputDecoder,
  type Relation,
  type ReplicaIdentity,
  type Row,
} from "../../../src/pgoutput/mod.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import { UNCHANGED } from "../../support/pgoutput_encoder.ts";

/** Columns that are written with a `*` belong to the replica identity. */
function relationOf(
  columns: string,
  options: { oid?: number; schema?: string; name?: string; identity?: ReplicaIdentity } = {},
): Relation {
  return {
    type: "relation",
    xid: null,
    oid: options.oid ?? 1,
    schema: options.schema ?? "public",
    name: options.name ?? "documents",
    replicaIdentity: options.identity ?? "default",
    columns: columns.split(" ").map((column) => ({
      name: column.replace("*", ""),
      typeOid: 25,
      typeModifier: -1,
      key: column.endsWith("*"),
    })),
  };
}

function rowOf(values: Record<string, string | null>): Row {
  return Object.assign(Object.create(null), values);
}

function insertInto(relation: Relation, values: Record<string, string | null>): ChangeMessage {
  return { type: "insert", xid: null, relation, row: rowOf(values), unchanged: [] };
}

function updateOf(
  relation: Relation,
  values: Record<string, string | null>,
  oldValues: Record<string, string | null> | null = null,
  unchanged: string[] = [],
): ChangeMessage {
  const oldRow = oldValues === null ? null : rowOf(oldValues);
  const oldKind: OldKind | null = oldRow === null
    ? null
    : relation.replicaIdentity === "full"
    ? "full"
    : "key";
  return { type: "update", xid: null, relation, row: rowOf(values), unchanged, oldRow, oldKind };
}

function deleteFrom(relation: Relation, oldValues: Record<string, string | null>): ChangeMessage {
  const oldKind = relation.replicaIdentity === "full" ? "full" : "key";
  return { type: "delete", xid: null, relation, oldRow: rowOf(oldValues), oldKind };
}

function truncateOf(...relations: Relation[]): ChangeMessage {
  return { type: "truncate", xid: null, relations, cascade: false, restartIdentity: false };
}

function tableOf({ schema, name }: Relation, primaryKey: readonly string[]): EventTable {
  return { name: { schema, table: name }, primaryKey, keyed: true };
}

/** A builder in the middle of a transaction, and a table of which `primaryKey` is known. */
function watching(relation: Relation, primaryKey: readonly string[]): EventBuilder {
  const builder = new EventBuilder();
  builder.declare(relation, tableOf(relation, primaryKey));
  builder.begin({ type: "begin", finalLsn: 0x16_b374d848n, commitTimeUs: 1_500_500n, xid: 9 });
  return builder;
}

/** All events of a change. @param from the first ordinal that is wanted */
function build(builder: EventBuilder, message: ChangeMessage, from?: number): ChangeEvent[] {
  const events: ChangeEvent[] = [];
  builder.build(message, (event) => events.push(event), from);
  return events;
}

/** The one event of a change. */
function eventOf(builder: EventBuilder, message: ChangeMessage): ChangeEvent {
  const [event, ...others] = build(builder, message);
  assert(event !== undefined && others.length === 0, `${others.length + 1} events`);
  return event;
}

/** The keys of a change: what a sink is told. */
function keysOf(builder: EventBuilder, message: ChangeMessage): [string | null, string | null] {
  const { key, oldKey } = eventOf(builder, message);
  return [key, oldKey];
}

const COMMON = {
  schema: "public",
  table: "documents",
  lsn: "16/B374D848",
  commitTime: new Date("2000-01-01T00:00:01.500Z"),
  xid: 9,
  unchanged: [],
  backfill: false,
};

describe("each operation gives every field", () => {
  const relation = relationOf("id* body");
  const builder = watching(relation, ["id"]);

  test("insert", () => {
    const message = insertInto(relation, { id: "7", body: null });
    assertEquals(eventOf(builder, message), {
      ...COMMON,
      operation: "insert",
      ordinal: 0,
      row: rowOf({ id: "7", body: null }),
      oldRow: null,
      key: "7",
      oldKey: null,
    } as ChangeEvent);
  });

  test("update", () => {
    const message = updateOf(relation, { id: "7", body: "new" });
    assertEquals(eventOf(builder, message), {
      ...COMMON,
      operation: "update",
      ordinal: 1,
      row: rowOf({ id: "7", body: "new" }),
      oldRow: null,
      key: "7",
      oldKey: null,
    } as ChangeEvent);
  });

  test("update that changes the key", () => {
    const message = updateOf(relation, { id: "8", body: "new" }, { id: "7" });
    assertEquals(eventOf(builder, message), {
      ...COMMON,
      operation: "update",
      ordinal: 2,
      row: rowOf({ id: "8", body: "new" }),
      oldRow: rowOf({ id: "7" }),
      key: "8",
      oldKey: "7",
    } as ChangeEvent);
  });

  test("delete", () => {
    const event = eventOf(builder, deleteFrom(relation, { id: "8" }));
    assertEquals(event, {
      ...COMMON,
      operation: "delete",
      ordinal: 3,
      row: rowOf({ id: "8" }),
      oldRow: rowOf({ id: "8" }),
      key: "8",
      oldKey: null,
    } as ChangeEvent);
  });

  test("truncate", () => {
    assertEquals(eventOf(builder, truncateOf(relation)), {
      ...COMMON,
      operation: "truncate",
      ordinal: 4,
      row: rowOf({}) as Record<string, never>,
      oldRow: null,
      key: null,
      oldKey: null,
    } as ChangeEvent);
  });
});

describe("the key, by replica identity:", () => {
  test("default", () => {
    const relation = relationOf("id* body");
    const builder = watching(relation, ["id"]);
    assertEquals(keysOf(builder, insertInto(relation, { id: "1", body: "a" })), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, { id: "1", body: "b" })), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, { id: "2", body: "b" }, { id: "1" })), [
      "2",
      "1",
    ]);
    assertEquals(keysOf(builder, deleteFrom(relation, { id: "2" })), ["2", null]);
  });

  test("full, where it is the primary key alone and not the whole row", () => {
    const relation = relationOf("id* body*", { identity: "full" });
    const builder = watching(relation, ["id"]);
    const [a, b, moved] = [
      { id: "1", body: "a" },
      { id: "1", body: "b" },
      { id: "2", body: "b" },
    ];
    assertEquals(keysOf(builder, insertInto(relation, a)), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, b, a)), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, moved, b)), ["2", "1"]);
    assertEquals(keysOf(builder, deleteFrom(relation, moved)), ["2", null]);
  });

  test("an index that covers the primary key", () => {
    const relation = relationOf("id* tenant* body", { identity: "index" });
    const builder = watching(relation, ["id"]);
    const row = { id: "1", tenant: "x", body: "a" };
    const old = { id: "1", tenant: "x" };
    assertEquals(keysOf(builder, insertInto(relation, row)), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, row)), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, { ...row, tenant: "y" }, old)), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, { ...row, id: "2" }, old)), ["2", "1"]);
    assertEquals(keysOf(builder, deleteFrom(relation, old)), ["1", null]);
  });

  test("an index that lacks the primary key, which then only inserts and updates tell", () => {
    const relation = relationOf("id code* body", { identity: "index" });
    const builder = watching(relation, ["id"]);
    const row = { id: "1", code: "x", body: "a" };
    assertEquals(keysOf(builder, insertInto(relation, row)), ["1", null]);
    assertEquals(keysOf(builder, updateOf(relation, row)), ["1", null]);
    assertEquals(
      keysOf(builder, updateOf(relation, { ...row, code: "y" }, { code: "x" })),
      ["1", null],
      "the old code is no old primary key",
    );
    // Not "y": that may be another row's primary key, whose vector would be removed.
    assertEquals(keysOf(builder, deleteFrom(relation, { code: "y" })), ['{"code":"y"}', null]);
  });

  test("an index that has a part of the primary key", () => {
    const relation = relationOf("a* b c*", { identity: "index" });
    const builder = watching(relation, ["a", "b"]);
    const row = { a: "1", b: "2", c: "3" };
    assertEquals(keysOf(builder, insertInto(relation, row)), ['["1","2"]', null]);
    assertEquals(
      keysOf(builder, updateOf(relation, { ...row, c: "4" }, { a: "1", c: "3" })),
      ['["1","2"]', null],
    );
    assertEquals(keysOf(builder, deleteFrom(relation, { a: "1", c: "4" })), [
      '{"a":"1","c":"4"}',
      null,
    ]);
  });

  test("an index and no primary key", () => {
    const relation = relationOf("code* body", { identity: "index" });
    const builder = watching(relation, []);
    const row = { code: "x", body: "a" };
    assertEquals(keysOf(builder, insertInto(relation, row)), ["x", null]);
    assertEquals(keysOf(builder, updateOf(relation, row)), ["x", null]);
    assertEquals(
      keysOf(builder, updateOf(relation, { ...row, code: "y" }, { code: "x" })),
      ["y", "x"],
    );
    assertEquals(keysOf(builder, deleteFrom(relation, { code: "y" })), ["y", null]);
  });

  test("full and no primary key: the whole row", () => {
    const relation = relationOf("a* b*", { identity: "full" });
    const builder = watching(relation, []);
    const [one, two] = [{ a: "1", b: "x" }, { a: "1", b: "y" }];
    assertEquals(keysOf(builder, insertInto(relation, one)), ['["1","x"]', null]);
    assertEquals(keysOf(builder, updateOf(relation, two, one)), ['["1","y"]', '["1","x"]']);
    assertEquals(keysOf(builder, updateOf(relation, two, two)), ['["1","y"]', null]);
    assertEquals(keysOf(builder, deleteFrom(relation, two)), ['["1","y"]', null]);
  });

  test("full and no primary key, where a value becomes NULL or was: no orphan stays", () => {
    const relation = relationOf("a* b*", { identity: "full" });
    const builder = watching(relation, []);
    const [text, none] = [{ a: "1", b: "x" }, { a: "1", b: null }];
    const cleared = updateOf(relation, none, text);
    assertEquals(keysOf(builder, cleared), ['["1",null]', '["1","x"]']);
    assertEquals(keysOf(builder, updateOf(relation, text, none)), ['["1","x"]', '["1",null]']);
    assertEquals(keysOf(builder, deleteFrom(relation, none)), ['["1",null]', null]);
    const asText = insertInto(relation, { a: "1", b: "null" });
    assertEquals(keysOf(builder, asText), ['["1","null"]', null], "a text is not NULL");
  });
});

describe("a key of several columns", () => {
  test("follows the key's order, not the table's, also where it is changed", () => {
    const relation = relationOf("a* b* c");
    const builder = watching(relation, ["b", "a"]);
    const row = { a: "1", b: "2", c: "3" };
    assertEquals(keysOf(builder, insertInto(relation, row)), ['["2","1"]', null]);
    const moved = updateOf(relation, { ...row, b: "5" }, { a: "1", b: "2" });
    assertEquals(keysOf(builder, moved), ['["5","1"]', '["2","1"]']);
    assertEquals(keysOf(builder, deleteFrom(relation, { a: "1", b: "5" })), ['["5","1"]', null]);
  });

  test("tells rows apart whose values hold quotes, commas and brackets", () => {
    const relation = relationOf("a* b*");
    const builder = watching(relation, ["a", "b"]);
    const pairs = [["x", "y,z"], ["x,y", "z"], ['x"', "y"], ["x", '"y'], ['x","y', ""], ["", ""]];
    const keys = pairs.map(([a, b]) => keysOf(builder, insertInto(relation, { a: a!, b: b! }))[0]);
    assertEquals(new Set(keys).size, pairs.length);
    keys.forEach((key, i) => assertEquals(JSON.parse(key!), pairs[i]));
  });

  test("and a row that lacks one of them is an error that names table and way out", () => {
    const relation = relationOf("a* b*", { schema: "S.x", name: "T" });
    const builder = watching(relation, ["a", "b"]);
    const error = assertThrows(
      () => build(builder, updateOf(relation, { a: "value-canary" }, null, ["b"])),
      DeliveryError,
      '"S.x".T',
    );
    assertEquals(error.kind, "key-missing");
    assert(error.hint!.includes('ALTER TABLE "S.x"."T" REPLICA IDENTITY FULL;'), error.hint);
    assertFalse(`${error} ${error.hint}`.includes("canary"));
  });
});

test("a table without any identity is an error, not a row without a key", () => {
  const relation = relationOf("a b", { identity: "nothing" });
  const builder = watching(relation, []);
  assertThrows(
    () => build(builder, insertInto(relation, { a: "1", b: "2" })),
    DeliveryError,
    "public.documents",
  );
});

test("keys are text as it came: an empty one, spaces, and 007 stay what they are", () => {
  const relation = relationOf("id*");
  const builder = watching(relation, ["id"]);
  for (const id of ["", " 7 ", "007", "9223372036854775807", "null", "ключ"]) {
    assertEquals(keysOf(builder, insertInto(relation, { id })), [id, null]);
  }
});

describe("columns stored out of line", () => {
  /** Through the real decoder: who fills in what is settled between the two. */
  function decoded(table: encode.TableSpec, bytes: Uint8Array): [Relation, ChangeMessage] {
    const decoder = new PgOutputDecoder();
    const relation = decoder.decode(encode.relation(table)) as Relation;
    return [relation, decoder.decode(bytes) as ChangeMessage];
  }
  const plain = {
    oid: 5,
    name: "documents",
    columns: [{ name: "id", key: true }, { name: "big" }],
  };

  test("that did not change are named and absent, never null", () => {
    const [relation, message] = decoded(plain, encode.update(5, ["1", UNCHANGED]));
    const event = eventOf(watching(relation, ["id"]), message);
    assertEquals(event.unchanged, ["big"]);
    assertEquals({ ...event.row }, { id: "1" });
    assertFalse("big" in event.row);
  });

  test("are absent beside a changed key too", () => {
    const old = { kind: "K", values: ["1", null] } as const;
    const [relation, message] = decoded(plain, encode.update(5, ["2", UNCHANGED], old));
    const event = eventOf(watching(relation, ["id"]), message);
    assertEquals(event.unchanged, ["big"]);
    assertEquals([event.key, event.oldKey], ["2", "1"]);
    assertEquals({ ...event.oldRow }, { id: "1" }, "NULL in a key tuple is no value");
  });

  test("are filled from the old row under REPLICA IDENTITY FULL", () => {
    const full = {
      ...plain,
      identity: "f",
      columns: plain.columns.map((column) => ({ ...column, key: true })),
    } as const;
    const old = { kind: "O", values: ["1", "long"] } as const;
    const [relation, message] = decoded(full, encode.update(5, ["2", UNCHANGED], old));
    const event = eventOf(watching(relation, ["id"]), message);
    assertEquals(event.unchanged, []);
    assertEquals({ ...event.row }, { id: "2", big: "long" });
    assertEquals([event.key, event.oldKey], ["2", "1"]);
  });

  test("give the key where the key itself is one", () => {
    const keyed = { ...plain, columns: [{ name: "id", key: true }, { name: "n" }] };
    const long = "k".repeat(2500);
    const old = { kind: "K", values: [long, null] } as const;
    const [relation, message] = decoded(keyed, encode.update(5, [UNCHANGED, "2"], old));
    const event = eventOf(watching(relation, ["id"]), message);
    assertEquals([event.key, event.oldKey], [long, null]);
    assertEquals(event.unchanged, []);
  });

  test("give one of two key columns, where the other changes", () => {
    const columns = [{ name: "a", key: true }, { name: "b", key: true }];
    const old = { kind: "K", values: ["long", "1"] } as const;
    const [relation, message] = decoded(
      { ...plain, columns },
      encode.update(5, [UNCHANGED, "2"], old),
    );
    assertEquals(keysOf(watching(relation, ["a", "b"]), message), ['["long","2"]', '["long","1"]']);
  });

  test("are an error where they are the key and nothing tells it", () => {
    const [relation, message] = decoded(plain, encode.update(5, [UNCHANGED, "2"]));
    assertThrows(() => build(watching(relation, ["id"]), message), DeliveryError, "key");
  });
});

describe("columns with the names of what objects inherit", () => {
  const NAMES = ["__proto__", "constructor", "toString", "hasOwnProperty"];

  test("are keys like any other", () => {
    for (const name of NAMES) {
      const relation = relationOf(`${name}* body`);
      const builder = watching(relation, [name]);
      const [row, old] = [rowOf({}), rowOf({})];
      row[name] = "2";
      old[name] = "1";
      const message = updateOf(relation, {}, {});
      assert(message.type === "update");
      assertEquals(keysOf(builder, { ...message, row, oldRow: old }), ["2", "1"], name);
      assertEquals(keysOf(builder, { ...message, row, oldRow: null }), ["2", null], name);
    }
  });

  test("are missing where the row lacks them", () => {
    for (const name of NAMES) {
      const relation = relationOf(`${name}* body`);
      const builder = watching(relation, [name]);
      assertThrows(() => build(builder, insertInto(relation, { body: "b" })), DeliveryError);
    }
  });

  test("the row of a truncate inherits nothing either", () => {
    const relation = relationOf("id*");
    const { row } = eventOf(watching(relation, ["id"]), truncateOf(relation));
    assertStrictEquals(Object.getPrototypeOf(row), null);
  });
});

describe("what is not watched", () => {
  const docs = relationOf("id*", { oid: 1 });
  const other = relationOf("id*", { oid: 2, name: "other" });
  const twin = relationOf("id*", { oid: 3, schema: "archive" });

  function builderOfThree(): EventBuilder {
    const builder = watching(docs, ["id"]);
    builder.declare(other, null);
    builder.declare(twin, null);
    return builder;
  }
  const ordinals = (events: ChangeEvent[]) => events.map((event) => event.ordinal);

  test("gives no event, the same table name in another schema included", () => {
    const builder = builderOfThree();
    for (const relation of [other, twin]) {
      assertEquals(build(builder, insertInto(relation, { id: "1" })), []);
      assertEquals(build(builder, updateOf(relation, { id: "1" })), []);
      assertEquals(build(builder, deleteFrom(relation, { id: "1" })), []);
      assertEquals(build(builder, truncateOf(relation)), []);
    }
    assertEquals(eventOf(builder, insertInto(docs, { id: "1" })).schema, "public");
  });

  test("counts in the ordinals, which then mean the same to every consumer", () => {
    const builder = builderOfThree();
    const messages = [
      insertInto(docs, { id: "1" }),
      insertInto(other, { id: "1" }),
      truncateOf(other, docs, twin),
      truncateOf(other),
      updateOf(docs, { id: "1" }),
      deleteFrom(twin, { id: "1" }),
      deleteFrom(docs, { id: "1" }),
    ];
    const all = messages.flatMap((message) => build(builder, message));
    assertEquals(ordinals(all), [0, 3, 6, 8]);
  });

  test("does not need a key", () => {
    const builder = builderOfThree();
    const keyless = relationOf("a", { oid: 9, identity: "nothing" });
    builder.declare(keyless, null);
    assertEquals(build(builder, insertInto(keyless, { a: "1" })), []);
  });

  test("ordinals begin anew with each transaction", () => {
    const builder = builderOfThree();
    build(builder, insertInto(docs, { id: "1" }));
    builder.begin({ type: "begin", finalLsn: 2n, commitTimeUs: 0n, xid: 4_294_967_295 });
    const event = eventOf(builder, insertInto(docs, { id: "2" }));
    assertEquals([event.ordinal, event.lsn, event.xid], [0, "0/2", 4_294_967_295]);
    assertEquals(event.commitTime, new Date("2000-01-01T00:00:00Z"));
  });
});

test("TRUNCATE of several tables gives an event for each that is watched, in their order", () => {
  const [a, b, c] = [1, 2, 3].map((oid) => relationOf("id*", { oid, name: `t${oid}` }));
  const builder = watching(a!, ["id"]);
  builder.declare(b!, null);
  builder.declare(c!, tableOf(c!, ["id"]));
  const events = build(builder, truncateOf(c!, b!, a!));
  assertEquals(
    events.map((event) => [event.operation, event.table, event.ordinal, event.key]),
    [["truncate", "t3", 0, null], ["truncate", "t1", 2, null]],
  );
});

describe("a table that is altered in the middle of a transaction", () => {
  test("is read by its new shape from there on", () => {
    const before = relationOf("id* body");
    const builder = watching(before, ["id"]);
    assertEquals(keysOf(builder, insertInto(before, { id: "1", body: "a" })), ["1", null]);

    const after = relationOf("uid* body extra", { schema: "moved", name: "renamed" });
    builder.declare(after, tableOf(after, ["uid"]));
    const event = eventOf(builder, insertInto(after, { uid: "u1", body: "a", extra: null }));
    assertEquals([event.key, event.schema, event.table], ["u1", "moved", "renamed"]);
    assertEquals(event.ordinal, 1);
  });

  test("gives no more events once it is renamed to what nobody watches", () => {
    const before = relationOf("id*");
    const builder = watching(before, ["id"]);
    build(builder, insertInto(before, { id: "1" }));
    const after = relationOf("id*", { name: "old_documents" });
    builder.declare(after, null);
    assertEquals(build(builder, insertInto(after, { id: "2" })), []);
  });
});

describe("what was taken before is left out:", () => {
  const docs = relationOf("id*", { oid: 1 });
  const other = relationOf("id*", { oid: 2, name: "other" });
  const ordinals = (events: ChangeEvent[]) => events.map((event) => event.ordinal);

  test("changes up to the first ordinal that is wanted, and those of a TRUNCATE that it divides", () => {
    const messages = [
      insertInto(docs, { id: "1" }),
      insertInto(other, { id: "1" }),
      truncateOf(docs, other, docs, docs),
      deleteFrom(docs, { id: "1" }),
    ];
    for (let from = 0; from <= 8; from++) {
      const builder = watching(docs, ["id"]);
      builder.declare(other, null);
      const events = messages.flatMap((message) => build(builder, message, from));
      assertEquals(ordinals(events), [0, 2, 4, 5, 6].filter((ordinal) => ordinal >= from));
      assertEquals(builder.ordinal, 7, "all are counted");
    }
  });

  test("they need no key", () => {
    const keyless = relationOf("a", { identity: "nothing" });
    const builder = watching(keyless, []);
    assertEquals(build(builder, insertInto(keyless, { a: "1" }), 1), []);
  });
});

test("an event is emitted with the table that it belongs to, as it was declared last", () => {
  const relation = relationOf("id*");
  const builder = watching(relation, ["id"]);
  const tables: EventTable[] = [];
  const emit: Emit = (_event, table) => tables.push(table);
  builder.build(insertInto(relation, { id: "1" }), emit);
  const keyless = { ...tableOf(relation, []), keyed: false };
  builder.declare(relation, keyless);
  builder.build(truncateOf(relation, relation), emit);
  assertEquals(tables, [tableOf(relation, ["id"]), keyless, keyless]);
  assertStrictEquals(tables[1], keyless);
});

describe("what a queued change holds in memory", () => {
  const relation = relationOf("a* b c");
  const row = { a: "1", b: "2", c: "3" };

  test("is its bytes and something for each value, also where many are tiny", () => {
    for (const bytes of [0, 100, 1_000_000]) {
      const insert = heldBytes(insertInto(relation, row), bytes);
      assert(insert >= bytes + 3 * 16, `${insert}`);
      assertEquals(heldBytes(updateOf(relation, row), bytes), insert);
      assertEquals(heldBytes(deleteFrom(relation, row), bytes), insert);
      assert(heldBytes(updateOf(relation, row, row), bytes) > insert, "two rows");
      assertEquals(heldBytes(truncateOf(relation), bytes), bytes);
    }
  });
});

test("a table without columns has rows under FULL, each like the other; without FULL it is an error", () => {
  const relation: Relation = { ...relationOf("a", { identity: "full" }), columns: [] };
  assertEquals(keysOf(watching(relation, []), insertInto(relation, {})), ["[]", null]);
  const other: Relation = { ...relation, replicaIdentity: "nothing" };
  assertThrows(() => build(watching(other, []), insertInto(other, {})), DeliveryError);
});
