import { assert, assertEquals, assertGreater, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { DeliveryError } from "../../../src/delivery/errors.ts";
import type { EventTable } from "../../../src/delivery/event_builder.ts";
import {
  type LaneKey,
  LanePlan,
  type Place,
  tellsPrimaryKey,
} from "../../../src/delivery/lane_plan.ts";
import type { Relation, ReplicaIdentity } from "../../../src/pgoutput/mod.ts";
import { deleteOf, DOCUMENTS, insertOf, truncateOf, updateOf } from "./harness.ts";

const KEYLESS: EventTable = { ...DOCUMENTS, primaryKey: [], keyed: false };
const KEYS = Array.from({ length: 200 }, (_, i) => `${i}`);

/** Columns of the replica identity are written with a `*`. */
function relationOf(identity: ReplicaIdentity, columns: string): Relation {
  return {
    type: "relation",
    xid: null,
    oid: 1,
    schema: "public",
    name: "documents",
    replicaIdentity: identity,
    columns: columns.split(" ").map((column) => ({
      name: column.replace("*", ""),
      typeOid: 25,
      typeModifier: -1,
      key: column.endsWith("*"),
    })),
  };
}

/** Two keys in lanes of their own. */
function twoKeys(plan: LanePlan): [string, string] {
  const first = plan.place(insertOf("0"), DOCUMENTS);
  return ["0", KEYS.find((key) => plan.place(insertOf(key), DOCUMENTS) !== first)!];
}

describe("with one lane", () => {
  const plan = new LanePlan(1, () => {
    throw new Error("not asked");
  });

  test("everything is in it, and no key is asked for", () => {
    for (const event of [insertOf("1"), updateOf("2", "1"), deleteOf("1"), truncateOf()]) {
      assertEquals(plan.place(event, DOCUMENTS), 0);
    }
  });
});

describe("by primary key", () => {
  const plan = new LanePlan(8);

  test("all changes of a key share its lane, whatever they carry (43)", () => {
    for (const key of KEYS) {
      const lane = plan.place(insertOf(key), DOCUMENTS);
      const row = { id: key, body: "FULL sends the whole row" };
      assertEquals(plan.place(insertOf(key, { row }), DOCUMENTS), lane);
      assertEquals(plan.place(updateOf(key, null, { row, oldRow: row }), DOCUMENTS), lane);
      assertEquals(plan.place(deleteOf(key, { row, oldRow: row }), DOCUMENTS), lane);
    }
  });

  test("keys spread over all lanes, evenly enough", () => {
    const counts = new Array(8).fill(0);
    for (let i = 0; i < 8000; i++) counts[plan.place(insertOf(`${i}`), DOCUMENTS) as number]++;
    for (const count of counts) assert(count > 600 && count < 1600, `${counts}`);
  });

  test("a key change stands in both lanes, once where they are the same one", () => {
    const [a, b] = twoKeys(plan);
    const [laneA, laneB] = [a, b].map((key) => plan.place(insertOf(key), DOCUMENTS));
    assertEquals(
      new Set(plan.place(updateOf(a, b), DOCUMENTS) as readonly number[]),
      new Set([laneA, laneB]) as Set<number>,
    );
    const same = KEYS.find((key) => key !== a && plan.place(insertOf(key), DOCUMENTS) === laneA)!;
    assertEquals(plan.place(updateOf(a, same), DOCUMENTS), laneA);
  });

  test("TRUNCATE stands in all", () => {
    assertEquals(plan.place(truncateOf(), DOCUMENTS), null);
    assertEquals(plan.place(truncateOf(), KEYLESS), null);
  });

  test("a table whose changes do not all tell the key is one lane (43)", () => {
    const lanes = new Set<Place>();
    for (const key of KEYS) {
      lanes.add(plan.place(insertOf(key), KEYLESS));
      lanes.add(plan.place(updateOf(key, "other"), KEYLESS));
      lanes.add(plan.place(deleteOf(`{"code":"${key}"}`), KEYLESS));
    }
    assertEquals(lanes.size, 1);
  });

  test("the same key of two tables is two keys", () => {
    const other = { ...DOCUMENTS, name: { schema: "archive", table: "documents" } };
    const lanesIn = (table: EventTable) => KEYS.map((key) => plan.place(insertOf(key), table));
    const [here, there] = [lanesIn(DOCUMENTS), lanesIn(other)];
    assertGreater(here.filter((lane, i) => lane !== there[i]).length, 100);
  });

  test("the watched table's name counts, not the one in the event", () => {
    for (const key of KEYS) {
      const leaf = insertOf(key, { table: "documents_2024" });
      assertEquals(plan.place(leaf, DOCUMENTS), plan.place(insertOf(key), DOCUMENTS));
    }
  });
});

describe("by a function of one's own", () => {
  const laneOf = (key: LaneKey) => new LanePlan(8, key).place(insertOf("1"), DOCUMENTS);

  test("events with the same text share a lane, of any table", () => {
    const plan = new LanePlan(8, (event) => `${event.row.tenant}`);
    for (const tenant of KEYS) {
      const lane = plan.place(insertOf("1", { row: { tenant } }), DOCUMENTS);
      assertEquals(plan.place(deleteOf("2", { row: { tenant } }), KEYLESS), lane);
    }
  });

  test("several texts are several lanes, each once, in no need of an order", () => {
    const [a, b] = [laneOf(() => "a"), laneOf(() => "b")] as [number, number];
    assert(a !== b, "choose other letters");
    assertEquals(laneOf(() => ["a", "b"]), [a, b]);
    assertEquals(laneOf(() => ["b", "a", "b"]), [b, a]);
    assertEquals(laneOf(() => ["a", "a"]), a);
    assertEquals(laneOf(() => [""]), laneOf(() => ""));
  });

  test("is not asked for a TRUNCATE, which stands in all lanes", () => {
    const plan = new LanePlan(8, () => {
      throw new Error("not asked");
    });
    assertEquals(plan.place(truncateOf(), DOCUMENTS), null);
  });

  test("that gives no key, or throws, is an error that names the event and no value of it", () => {
    const bad: unknown[] = [undefined, null, 7, 7n, {}, [], [1], ["a", null], new Set(["a"])];
    for (const key of bad) {
      const plan = new LanePlan(2, () => key as string);
      const event = insertOf("canary", { row: { body: "canary" }, schema: "S.x", ordinal: 4 });
      const error = assertThrows(
        () => plan.place(event, DOCUMENTS),
        DeliveryError,
        '"S.x".documents',
      );
      assertEquals([error.kind, error.cause], ["lane-key", undefined], `${typeof key}`);
      assert(error.message.includes("event 4"), error.message);
      assert(!`${error} ${error.hint}`.includes("canary"));
    }
    const cause = new Error("no such tenant");
    const plan = new LanePlan(2, () => {
      throw cause;
    });
    const error = assertThrows(() => plan.place(insertOf("1"), DOCUMENTS), DeliveryError);
    assertEquals([error.kind, error.cause], ["lane-key", cause]);
  });
});

describe("whether every change tells the primary key, by replica identity (43):", () => {
  const cases: [ReplicaIdentity, columns: string, primaryKey: string[], tells: boolean][] = [
    ["default", "id* body", ["id"], true],
    ["default", "a* b* c", ["b", "a"], true],
    ["default", "body", [], false],
    ["full", "id* body*", ["id"], true],
    ["full", "a* b*", [], false],
    ["index", "id* tenant* body", ["id"], true],
    ["index", "id code* body", ["id"], false],
    ["index", "a* b c*", ["a", "b"], false],
    ["index", "code* body", [], false],
    ["nothing", "id body", ["id"], false],
    ["nothing", "id body", [], false],
    // A column list can leave the key out.
    ["default", "body", ["id"], false],
    ["full", "body*", ["id"], false],
  ];
  for (const [identity, columns, primaryKey, tells] of cases) {
    test(`${identity}, columns ${columns}, key (${primaryKey}): ${tells}`, () => {
      assertEquals(tellsPrimaryKey(relationOf(identity, columns), primaryKey), tells);
    });
  }
});
