import { assert, assertEquals, assertFalse, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  commitTimeToDate,
  DecodeError,
  type Delete,
  type Insert,
  PgOutputDecoder,
  type PgOutputMessage,
  type Relation,
  type Row,
  type Truncate,
  type Update,
} from "../../../src/pgoutput/mod.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import { UNCHANGED } from "../../support/pgoutput_encoder.ts";
import { seededRandom } from "../../support/random.ts";

const DOCS: encode.TableSpec = {
  oid: 16_385,
  name: "docs",
  columns: [{ name: "id", typeOid: 23, key: true }, { name: "title" }, { name: "body" }],
};

/** A decoder that knows the tables, and the relations as it gave them out. */
function decoderOf(
  table: encode.TableSpec,
  ...others: encode.TableSpec[]
): [PgOutputDecoder, Relation, ...Relation[]] {
  const decoder = new PgOutputDecoder();
  const relationOf = (spec: encode.TableSpec) => decoder.decode(encode.relation(spec)) as Relation;
  return [decoder, relationOf(table), ...others.map(relationOf)];
}

function decodeOne<M extends PgOutputMessage>(table: encode.TableSpec, bytes: Uint8Array): M {
  return decoderOf(table)[0].decode(bytes) as M;
}

/** As an object with a prototype, for `assertEquals`. */
function plain(row: Row | null): Record<string, unknown> {
  assert(row !== null);
  return { ...row };
}

describe("transactions", () => {
  test("Begin keeps an LSN above 2^57, a time before 2000 and an xid above 2^31 exact", () => {
    const bytes = encode.begin(0xfedc_ba98_7654_3210n, 4_294_967_295, -1n);
    assertEquals(new PgOutputDecoder().decode(bytes), {
      type: "begin",
      finalLsn: 0xfedc_ba98_7654_3210n,
      commitTimeUs: -1n,
      xid: 4_294_967_295,
    });
  });

  test("Commit tells the record's LSN and the end that is to be confirmed apart", () => {
    const bytes = encode.commit(0x200_0000_0000_0001n, 0x200_0000_0000_0031n, 123_456_789n);
    assertEquals(new PgOutputDecoder().decode(bytes), {
      type: "commit",
      flags: 0,
      commitLsn: 0x200_0000_0000_0001n,
      endLsn: 0x200_0000_0000_0031n,
      commitTimeUs: 123_456_789n,
    });
  });

  test("Origin names the server that the transaction came from", () => {
    assertEquals(new PgOutputDecoder().decode(encode.origin(97_500_059_720n, "élsewhere")), {
      type: "origin",
      originLsn: 97_500_059_720n,
      name: "élsewhere",
    });
  });

  test("an empty message behind Begin is an origin without a name, as 13 and before send it", () => {
    const decoder = new PgOutputDecoder();
    const empty = new Uint8Array(0);
    assertThrows(() => decoder.decode(empty), DecodeError);
    decoder.decode(encode.begin(1n, 2));
    assertEquals(decoder.decode(empty), { type: "origin", originLsn: 0n, name: "" });
    assertThrows(() => decoder.decode(empty), DecodeError);
    decoder.decode(encode.begin(1n, 2));
    decoder.reset();
    assertThrows(() => decoder.decode(empty), DecodeError);
  });

  test("a commit time becomes a Date to the millisecond, also before 1970", () => {
    assertEquals(commitTimeToDate(0n).toISOString(), "2000-01-01T00:00:00.000Z");
    assertEquals(
      commitTimeToDate(848_738_094_381_962n).getTime(),
      946_684_800_000 + 848_738_094_381,
    );
    assertEquals(
      commitTimeToDate(-1_000_000_000_000_000n).getTime(),
      946_684_800_000 - 1_000_000_000_000,
    );
  });
});

describe("tables and types", () => {
  test("Relation has every column's type, modifier and part in the key", () => {
    const [, relation] = decoderOf({
      oid: 4_000_000_000,
      schema: 'We"ird',
      name: "Ta.ble",
      identity: "i",
      columns: [
        { name: "id", typeOid: 20, key: true },
        { name: "naïve", typeOid: 3_000_000_000, typeModifier: 24 },
      ],
    });
    assertEquals(relation, {
      type: "relation",
      xid: null,
      oid: 4_000_000_000,
      schema: 'We"ird',
      name: "Ta.ble",
      replicaIdentity: "index",
      columns: [
        { name: "id", typeOid: 20, typeModifier: -1, key: true },
        { name: "naïve", typeOid: 3_000_000_000, typeModifier: 24, key: false },
      ],
    });
  });

  test("each replica identity has its name", () => {
    const names = (["d", "n", "f", "i"] as const).map((identity) =>
      decoderOf({ ...DOCS, identity })[1].replicaIdentity
    );
    assertEquals(names, ["default", "nothing", "full", "index"]);
  });

  test("the empty schema on the wire means pg_catalog", () => {
    assertEquals(decoderOf({ ...DOCS, schema: "" })[1].schema, "pg_catalog");
    assertEquals(new PgOutputDecoder().decode(encode.type(16_400, "", "mood")), {
      type: "type",
      xid: null,
      oid: 16_400,
      schema: "pg_catalog",
      name: "mood",
    });
  });

  test("a table of no columns and one of 1,600 columns come through", () => {
    const [decoder, none] = decoderOf({ ...DOCS, columns: [] });
    assertEquals(none.columns, []);
    assertEquals(plain((decoder.decode(encode.insert(DOCS.oid, [])) as Insert).row), {});

    const columns = Array.from({ length: 1600 }, (_, i) => ({ name: `c${i}` }));
    const insert: Insert = decodeOne(
      { ...DOCS, columns },
      encode.insert(DOCS.oid, columns.map((_, i) => i % 3 === 0 ? null : `v${i}`)),
    );
    assertEquals(Object.keys(insert.row).length, 1600);
    assertEquals([insert.row.c1598, insert.row.c1599], ["v1598", null]);
  });

  test("rows carry the very relation that came last, also where it changes between rows", () => {
    const [decoder, before] = decoderOf(DOCS);
    const first = decoder.decode(encode.insert(DOCS.oid, ["1", "a", "b"])) as Insert;
    const after = decoder.decode(
      encode.relation({ ...DOCS, columns: [{ name: "id", key: true }, { name: "renamed" }] }),
    );
    const second = decoder.decode(encode.insert(DOCS.oid, ["2", "c"])) as Insert;
    assertStrictEquals(first.relation, before);
    assertStrictEquals(second.relation, after);
    assertEquals(plain(first.row), { id: "1", title: "a", body: "b" });
    assertEquals(plain(second.row), { id: "2", renamed: "c" });
  });
});

describe("rows", () => {
  test("NULL, the empty string and an unchanged column are three different things", () => {
    const update: Update = decodeOne(DOCS, encode.update(DOCS.oid, [null, "", UNCHANGED]));
    assertEquals(plain(update.row), { id: null, title: "" });
    assertFalse("body" in update.row);
    assertEquals(update.unchanged, ["body"]);
    assertEquals([update.oldRow, update.oldKind], [null, null]);
  });

  test("one row's unchanged columns are not told of the next", () => {
    const [decoder] = decoderOf(DOCS);
    decoder.decode(encode.update(DOCS.oid, ["1", UNCHANGED, UNCHANGED]));
    const next = decoder.decode(encode.update(DOCS.oid, ["1", "a", "b"])) as Update;
    assertEquals(next.unchanged, []);
  });

  test("an insert that a row filter made of an update names its unchanged columns", () => {
    const insert: Insert = decodeOne(DOCS, encode.insert(DOCS.oid, ["1", "a", UNCHANGED]));
    assertEquals(plain(insert.row), { id: "1", title: "a" });
    assertEquals(insert.unchanged, ["body"]);
  });

  test("columns called __proto__, constructor and 1 are columns", () => {
    const columns = [
      { name: "I d", key: true },
      { name: "__proto__" },
      { name: "constructor" },
      { name: "toString" },
      { name: "1" },
    ];
    const [decoder, relation] = decoderOf({ ...DOCS, columns });
    const { row } = decoder.decode(
      encode.insert(DOCS.oid, ["7", "p", "c", null, "one"]),
    ) as Insert;
    assertEquals(relation.columns.map(({ name }) => row[name]), ["7", "p", "c", null, "one"]);
    assertEquals(Object.keys(row).sort(), columns.map(({ name }) => name).sort());
    assert(Object.hasOwn(row, "__proto__"));
  });

  test("a row inherits nothing, and one row cannot reach another", () => {
    const { row }: Insert = decodeOne(DOCS, encode.insert(DOCS.oid, ["1", "a", "b"]));
    for (const name of ["__proto__", "constructor", "toString", "hasOwnProperty"]) {
      assertFalse(name in row);
      assertStrictEquals(row[name], undefined);
    }
    const prototype = Object.getPrototypeOf(row);
    assertStrictEquals(Object.getPrototypeOf(prototype), null);
    assertEquals(Reflect.ownKeys(prototype), []);
    assert(Object.isFrozen(prototype));
  });

  test("texts are kept to the character, whatever their length and script", () => {
    const texts = [
      "\ufeffbyte order mark",
      "\ufeff",
      "Grüße, 世界 🐘",
      "é",
      "\u0000 is not for Postgres, but it is UTF-8",
      ..."abcdefghijklmnopqrstuvwxyz".split("").map((_, length) =>
        "x1 ~".repeat(9).slice(0, length)
      ),
      ...Array.from({ length: 20 }, (_, at) => "a".repeat(at) + "ü" + "b".repeat(19 - at)),
      "long ".repeat(10_000),
    ];
    const columns = texts.map((_, i) => ({ name: `c${i}` }));
    const { row }: Insert = decodeOne({ ...DOCS, columns }, encode.insert(DOCS.oid, texts));
    assertEquals(Object.values(row), texts);
  });

  test("values of any kind and script beside each other, in any order, are each its own", () => {
    const random = seededRandom(8);
    const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)]!;
    const text = () =>
      pick(["a", "ü", "世", "🐘", "\ufffd", "\ufeff"]).repeat(pick([0, 1, 7, 30, 90]));
    const value = () =>
      pick<encode.Value>([null, UNCHANGED, Uint8Array.of(0x74, 0xc3, 0xff), "", "plain", text()]);
    const columns = Array.from({ length: 12 }, (_, column) => ({ name: `c${column}` }));
    const [decoder] = decoderOf({ ...DOCS, columns });
    for (let round = 0; round < 2_000; round++) {
      const values = columns.map(value);
      const { row, unchanged } = decoder.decode(encode.insert(DOCS.oid, values)) as Insert;
      assertEquals(
        columns.map(({ name }) => row[name] ?? null),
        values.map((value) => value === UNCHANGED ? null : value),
      );
      assertEquals(
        unchanged,
        columns.map(({ name }) => name).filter((_, column) => values[column] === UNCHANGED),
      );
    }
  });

  test("a character that is cut at the end of a value is not made up of what comes next", () => {
    const [decoder] = decoderOf(DOCS);
    for (const half of ["1", "an é"]) {
      const bytes = encode.insert(DOCS.oid, [half, "é", "é"]);
      const at = bytes.lastIndexOf(0xc3);
      bytes[at + 1] = 0x41;
      assertThrows(() => decoder.decode(bytes), DecodeError, "cannot be read as UTF-8");
    }
  });

  test("names that look like code stay names, however many rows there are", () => {
    const names = [
      '"]; throw new Error("run"); //',
      "\\",
      "\u2028",
      "`${x}`",
      "__proto__",
      "2",
      "this",
    ];
    const columns = names.map((name) => ({ name }));
    const [decoder] = decoderOf({ ...DOCS, columns });
    for (let round = 0; round < 300; round++) {
      const values = names.map((_, column) => `${round} ${column}`);
      const { row } = decoder.decode(encode.insert(DOCS.oid, values)) as Insert;
      assertEquals(names.map((name) => row[name]), values);
      assertEquals(Reflect.ownKeys(row).sort(), names.toSorted());
      assertEquals(Reflect.ownKeys(Object.getPrototypeOf(row)), []);
      assertStrictEquals(Object.getPrototypeOf(Object.getPrototypeOf(row)), null);
    }
  });

  test("rows of tables that are alike, or nearly, each come with their own table and columns", () => {
    const columnsOf = (...names: string[]) => names.map((name) => ({ name }));
    const tables: encode.TableSpec[] = [
      { ...DOCS, oid: 1, name: "one", columns: columnsOf("a", "b") },
      { ...DOCS, oid: 2, name: "alike", columns: columnsOf("a", "b") },
      { ...DOCS, oid: 3, name: "swapped", columns: columnsOf("b", "a") },
      { ...DOCS, oid: 4, name: "joined", columns: columnsOf('a","b') },
      { ...DOCS, oid: 6, name: "joined otherwise", columns: columnsOf("a,b") },
      { ...DOCS, oid: 5, name: "more", columns: columnsOf("a", "b", "c") },
    ];
    const [decoder] = decoderOf(tables[0]!, ...tables.slice(1));
    for (let round = 0; round < 300; round++) {
      for (const { oid, name, columns } of tables) {
        const values = columns.map((column) => `${name} ${column.name} ${round}`);
        const { row, relation } = decoder.decode(encode.insert(oid, values)) as Insert;
        assertEquals(relation.name, name);
        assertEquals(Object.keys(row), columns.map((column) => column.name));
        assertEquals(Object.values(row), values);
      }
    }
  });

  test("a value of 100 MB comes through whole", () => {
    const body = "pgstream! ".repeat(10_000_000);
    const { row }: Insert = decodeOne(DOCS, encode.insert(DOCS.oid, ["1", "t", body]));
    assert(row.body === body, "another text came out");
  });

  test("binary values are copies that outlive their chunk, also where it is a Buffer", () => {
    const [decoder] = decoderOf(DOCS);
    const encoded = encode.insert(DOCS.oid, [Uint8Array.of(0, 0, 0, 7), "t", new Uint8Array()]);
    // A subclass whose `slice` shares memory, as that of Node's Buffer does.
    class Sharing extends Uint8Array {
      override slice(start?: number, end?: number): Sharing {
        return this.subarray(start, end) as Sharing;
      }
    }
    const chunk = new Sharing(encoded);
    const { row } = decoder.decode(chunk) as Insert;
    chunk.fill(0xff);
    assertEquals(row.id, Uint8Array.of(0, 0, 0, 7));
    assertEquals(row.body, new Uint8Array());
    assertStrictEquals(Object.getPrototypeOf(row.id), Uint8Array.prototype);
  });
});

describe("old rows", () => {
  test("a changed key comes with the old key and nothing else of the old row", () => {
    const update: Update = decodeOne(
      DOCS,
      encode.update(DOCS.oid, ["2", "a", "b"], { kind: "K", values: ["1", null, null] }),
    );
    assertEquals(update.oldKind, "key");
    assertEquals(plain(update.oldRow), { id: "1" });
    assertEquals(plain(update.row), { id: "2", title: "a", body: "b" });
  });

  test("a changed key beside an unchanged column: the column stays unknown, not NULL", () => {
    const update: Update = decodeOne(
      DOCS,
      encode.update(DOCS.oid, ["2", "a", UNCHANGED], { kind: "K", values: ["1", null, null] }),
    );
    assertEquals(update.unchanged, ["body"]);
    assertFalse("body" in update.row);
  });

  test("under FULL an unchanged column is filled from the old row", () => {
    const update: Update = decodeOne(
      { ...DOCS, identity: "f" },
      encode.update(DOCS.oid, ["1", "new", UNCHANGED], { kind: "O", values: ["1", null, "big"] }),
    );
    assertEquals(update.oldKind, "full");
    assertEquals(plain(update.oldRow), { id: "1", title: null, body: "big" });
    assertEquals(plain(update.row), { id: "1", title: "new", body: "big" });
    assertEquals(update.unchanged, []);
  });

  test("a delete has the key, or the whole old row with its NULLs under FULL", () => {
    const byKey: Delete = decodeOne(DOCS, encode.delete_(DOCS.oid, "K", ["1", null, null]));
    assertEquals([byKey.oldKind, plain(byKey.oldRow)], ["key", { id: "1" }]);
    const full: Delete = decodeOne(DOCS, encode.delete_(DOCS.oid, "O", ["1", null, ""]));
    assertEquals([full.oldKind, plain(full.oldRow)], ["full", { id: "1", title: null, body: "" }]);
  });
});

describe("statements without rows", () => {
  test("TRUNCATE tells every table, CASCADE and RESTART IDENTITY apart", () => {
    const other = { ...DOCS, oid: 4_294_967_295, name: "other" };
    const [decoder, docs, others] = decoderOf(DOCS, other);
    for (
      const options of [
        { cascade: false, restartIdentity: false },
        { cascade: true, restartIdentity: false },
        { cascade: false, restartIdentity: true },
        { cascade: true, restartIdentity: true },
      ]
    ) {
      const { type, xid: _, relations, ...flags } = decoder.decode(
        encode.truncate([DOCS.oid, other.oid], options),
      ) as Truncate;
      assertEquals(type, "truncate");
      assertEquals(flags, options);
      assertEquals(relations.length, 2);
      assertStrictEquals(relations[0], docs);
      assertStrictEquals(relations[1], others);
    }
  });

  test("a logical message has its prefix and its own bytes", () => {
    const bytes = encode.message(0x200_0000_0000_0001n, "outbox", "Grüße", { transactional: true });
    const message = new PgOutputDecoder().decode(bytes);
    bytes.fill(0);
    assertEquals(message, {
      type: "message",
      xid: null,
      transactional: true,
      messageLsn: 0x200_0000_0000_0001n,
      prefix: "outbox",
      content: new TextEncoder().encode("Grüße"),
    });
    const ping = new PgOutputDecoder().decode(encode.message(1n, "", new Uint8Array()));
    assertEquals(ping, {
      type: "message",
      xid: null,
      transactional: false,
      messageLsn: 1n,
      prefix: "",
      content: new Uint8Array(),
    });
  });
});
