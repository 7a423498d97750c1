import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { ReplicationError } from "../../../src/replication/errors.ts";
import { checkReplicaIdentity } from "../../../src/replication/replica_identity.ts";
import type { CatalogTable } from "../../../src/replication/tables.ts";
import { catalogTable } from "../../support/catalog_table.ts";

function refusalOf(fields: Partial<CatalogTable>, publishesGenerated = true): ReplicationError {
  const error = assertThrows(
    () => checkReplicaIdentity([catalogTable(fields)], { publishesGenerated }),
    ReplicationError,
  );
  assertEquals(error.kind, "replica-identity");
  return error;
}

describe("publishing a table breaks nobody's UPDATE:", () => {
  const usable: Record<string, Partial<CatalogTable>> = {
    "default with a primary key": {},
    "default with a key of several columns": { primaryKey: ["a", "b"] },
    "full": { replicaIdentity: "full" },
    "full without a primary key": { replicaIdentity: "full", primaryKey: [] },
    "an index that is the primary key's": { replicaIdentity: "index", identityIndex: ["id"] },
    "an index that holds it": { replicaIdentity: "index", identityIndex: ["tenant", "id"] },
    "an index, no primary key": {
      replicaIdentity: "index",
      identityIndex: ["code"],
      primaryKey: [],
    },
  };
  for (const [which, fields] of Object.entries(usable)) {
    test(`${which} passes without a word`, () => {
      for (const publishesGenerated of [false, true]) {
        assertEquals(checkReplicaIdentity([catalogTable(fields)], { publishesGenerated }), []);
      }
    });
  }

  const broken: Record<string, [Partial<CatalogTable>, string]> = {
    "default without a primary key": [{ primaryKey: [] }, "REPLICA IDENTITY FULL;"],
    "default with a primary key that is deferrable": [
      { deferrableKey: true },
      "REPLICA IDENTITY FULL;",
    ],
    "nothing, with a primary key that is deferrable": [
      { replicaIdentity: "nothing", deferrableKey: true },
      "REPLICA IDENTITY FULL;",
    ],
    "nothing, with a primary key": [{ replicaIdentity: "nothing" }, "REPLICA IDENTITY DEFAULT;"],
    "default of a partition root without a primary key": [
      { partitioned: true, primaryKey: [] },
      "REPLICA IDENTITY FULL;",
    ],
    "nothing, without one": [
      { replicaIdentity: "nothing", primaryKey: [] },
      "REPLICA IDENTITY FULL;",
    ],
    "an index that was dropped": [{ replicaIdentity: "index" }, "REPLICA IDENTITY DEFAULT;"],
    "an index that was dropped, and no primary key": [
      { replicaIdentity: "index", primaryKey: [] },
      "REPLICA IDENTITY FULL;",
    ],
  };
  for (const [which, [fields, way]] of Object.entries(broken)) {
    test(`${which} is refused with the statement to run`, () => {
      const error = refusalOf({ ...fields, schema: 'We"ird', table: "Ta.ble" });
      assert(error.message.includes('"We""ird"."Ta.ble"'), error.message);
      assert(error.hint!.includes(`ALTER TABLE "We""ird"."Ta.ble" ${way}`), error.hint);
    });
  }

  test("full with generated columns that are not published is refused, and the columns are named", () => {
    const fields = { replicaIdentity: "full", generated: ["total", "Ä"] } as const;
    const error = refusalOf(fields, false);
    assert(error.message.includes("total, Ä"), error.message);
    assert(error.hint!.includes("REPLICA IDENTITY DEFAULT"), error.hint);
    assertFalse(refusalOf({ ...fields, primaryKey: [] }, false).hint!.startsWith("Run"));
    assertEquals(checkReplicaIdentity([catalogTable(fields)], { publishesGenerated: true }), []);
    assertEquals(
      checkReplicaIdentity([catalogTable({ generated: ["total"] })], { publishesGenerated: false }),
      [],
    );
  });

  test("a partition whose updates would fail is named, whatever the root has", () => {
    const partitionsWithoutIdentity = ["public.p1", '"a.b".p2'];
    for (const replicaIdentity of ["default", "full"] as const) {
      const error = refusalOf({ partitioned: true, replicaIdentity, partitionsWithoutIdentity });
      assert(error.message.includes('public.p1, "a.b".p2'), error.message);
    }
  });

  test("one bad table among good ones is the one that is named", () => {
    const bad = catalogTable({ table: "log", primaryKey: [] });
    assertThrows(
      () =>
        checkReplicaIdentity([catalogTable(), bad, catalogTable()], { publishesGenerated: true }),
      ReplicationError,
      '"public.log"',
    );
  });
});

test("an index that lacks a part of the primary key works, with a warning that names the part", () => {
  const fields = { replicaIdentity: "index", primaryKey: ["a", "b"], identityIndex: ["c", "a"] };
  const warnings = checkReplicaIdentity([catalogTable(fields as Partial<CatalogTable>)], {
    publishesGenerated: true,
  });
  assertEquals(warnings.length, 1);
  assert(warnings[0]!.includes("primary key's b:"), warnings[0]);
  assert(warnings[0]!.includes('ALTER TABLE "public"."documents" REPLICA IDENTITY DEFAULT;'));
});

test("a deferrable primary key works under FULL, with a warning that keys may be swapped", () => {
  const table = catalogTable({ replicaIdentity: "full", deferrableKey: true });
  const warnings = checkReplicaIdentity([table], { publishesGenerated: true });
  assertEquals(warnings.length, 1);
  assert(warnings[0]!.includes('"public.documents" has a DEFERRABLE primary key'), warnings[0]);
});
