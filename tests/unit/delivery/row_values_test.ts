import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { DeliveryError } from "../../../src/delivery/errors.ts";
import { type LookUpTypes, ValueTypes } from "../../../src/delivery/row_values.ts";
import { newEmptyRow } from "../../../src/pgoutput/row_maker.ts";
import type { Row } from "../../../src/pgoutput/mod.ts";
import type { ParseText } from "../../../src/values/types.ts";

const TABLE = { schema: "public", table: "documents" };
const noLookUp: LookUpTypes = () => Promise.reject(new Error("nothing is to be looked up"));

function rowOf(values: Record<string, string | null>): Row {
  return Object.assign(new (newEmptyRow())(), values);
}

/** Columns by name, each with its type's OID. */
function columnsOf(oids: Record<string, number>): { name: string; typeOid: number }[] {
  return Object.entries(oids).map(([name, typeOid]) => ({ name, typeOid }));
}

describe("values of rows:", () => {
  test("what is not text is read in its place; NULL stays NULL, what is absent absent", async () => {
    const types = new ValueTypes({});
    const columns = columnsOf({ id: 20, title: 25, at: 1184, flags: 1000, gone: 23 });
    const values = await types.rowValues(TABLE, columns, noLookUp);
    const row = rowOf({ id: "7", title: "7", at: null, flags: "{t,NULL}" });
    values!.read(row);
    assertEquals({ ...row }, { id: 7n, title: "7", at: null, flags: [true, null] });
    assertEquals(Object.keys(row), ["id", "title", "at", "flags"]);
    assertEquals(Object.getPrototypeOf(Object.getPrototypeOf(row)), null);
  });

  test("a table of nothing but text costs nothing", async () => {
    const types = new ValueTypes({});
    const columns = columnsOf({ id: 25, title: 1043, uid: 2950, price: 1700 });
    assertEquals(await types.rowValues(TABLE, columns, noLookUp), null);
  });

  test("a column of any name, bytes of the binary format as they are", async () => {
    const types = new ValueTypes({});
    const values = await types.rowValues(TABLE, columnsOf({ ["__proto__"]: 23, b: 20 }), noLookUp);
    const row = rowOf({});
    Object.defineProperty(row, "__proto__", { value: "1", writable: true, enumerable: true });
    row.b = Uint8Array.of(1);
    values!.read(row);
    assertEquals<[string, unknown][]>(Object.entries(row), [["__proto__", 1], [
      "b",
      Uint8Array.of(1),
    ]]);
  });

  test("types are looked up once for all tables, those that are gone too", async () => {
    const types = new ValueTypes({});
    const asked: number[][] = [];
    const lookUp: LookUpTypes = (oids) => {
      asked.push([...oids]);
      const vector = { oid: 17000, name: "vector", kind: "b", element: null, delimiter: "," };
      return Promise.resolve(oids.includes(17000) ? [vector] : []);
    };
    const columns = columnsOf({ a: 17000, b: 17000, c: 17001 });
    const values = await types.rowValues(TABLE, columns, lookUp);
    await types.rowValues({ schema: "public", table: "other" }, columns, lookUp);
    await types.rowValues(TABLE, columnsOf({ c: 17001, d: 17002 }), lookUp);
    assertEquals(asked, [[17000, 17001], [17002]]);
    const row = rowOf({ a: "[1]", b: "[2]", c: "[3]" });
    values!.read(row);
    assertEquals({ ...row }, { a: Float32Array.of(1), b: Float32Array.of(2), c: "[3]" });
  });

  test("a look-up that fails is tried again by the next one", async () => {
    const types = new ValueTypes({});
    let asked = 0;
    for (let round = 0; round < 2; round++) {
      await types.rowValues(TABLE, columnsOf({ a: 17000 }), () => {
        asked++;
        return Promise.reject(new Error("lost"));
      }).catch(() => {});
    }
    assertEquals(asked, 2);
  });

  const refusals: [string, string, Record<string, ParseText>][] = [
    ["malformed-value", "a value that does not read as int4", {}],
    ["parser-failed", "type int4", {
      int4: (text) => {
        throw new Error(`no number: ${text}`);
      },
    }],
    ["parser-failed", "Your parser gave a promise", {
      int4: (text) => Promise.reject(new Error(`no number: ${text}`)),
    }],
  ];
  for (const [kind, words, parsers] of refusals) {
    test(`${words}: an error that names table, column and type, and no value`, async () => {
      const types = new ValueTypes(parsers);
      const values = await types.rowValues(TABLE, columnsOf({ count: 23 }), noLookUp);
      const read = () => values!.read(rowOf({ count: "secret" }));
      const error = assertThrows(read, DeliveryError, words);
      assertEquals([error.kind, error.retryable, error.cause], [kind, false, undefined]);
      assert(error.message.includes('"count" of public.documents'));
      assert(!`${error.message}${error.hint}${error.stack}`.includes("secret"));
    });
  }
});
