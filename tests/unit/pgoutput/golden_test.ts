import { assert, assertEquals } from "@std/assert";
import { describe, test } from "node:test";
import {
  type Insert,
  PgOutputDecoder,
  type PgOutputMessage,
  type Relation,
  type Row,
  StreamAssembler,
  type Update,
} from "../../../src/pgoutput/mod.ts";
import {
  bytesOf,
  type Golden,
  GOLDEN_MAJORS,
  goldenOf,
  type GoldenSlot,
  readGolden,
  shortened,
} from "../../support/golden.ts";

function decodeAll(golden: Golden, slot: GoldenSlot): PgOutputMessage[] {
  const decoder = new PgOutputDecoder();
  return golden.messages.filter((line) => line.slot === slot)
    .map(({ hex }) => decoder.decode(bytesOf(hex)));
}

/** The tables that the messages describe, row by row, as someone who follows them would hold them. */
class Follower {
  readonly #tables = new Map<string, Map<string, Row>>();

  apply(message: PgOutputMessage): void {
    switch (message.type) {
      case "insert":
        this.#write(message.relation, {}, message);
        break;
      case "update": {
        const before = message.oldRow ?? message.row;
        this.#write(message.relation, this.#take(message.relation, before), message);
        break;
      }
      case "delete":
        this.#take(message.relation, message.oldRow);
        break;
      case "truncate":
        for (const relation of message.relations) this.#rows(relation).clear();
        break;
    }
  }

  rows(table: string): Row[] {
    return [...this.#tables.get(table)?.values() ?? []];
  }

  #write(relation: Relation, before: Row, { row, unchanged }: Insert | Update): void {
    const kept = unchanged.map((column) => [column, before[column]!]);
    const whole: Row = { ...Object.fromEntries(kept), ...row };
    this.#rows(relation).set(this.#identity(relation, whole), whole);
  }

  #take(relation: Relation, old: Row): Row {
    const identity = this.#identity(relation, old);
    const row = this.#rows(relation).get(identity);
    assert(row !== undefined, `${relation.name} has no row ${identity}`);
    this.#rows(relation).delete(identity);
    return row;
  }

  #rows(relation: Relation): Map<string, Row> {
    const table = `${relation.schema}.${relation.name}`;
    let rows = this.#tables.get(table);
    if (rows === undefined) this.#tables.set(table, rows = new Map());
    return rows;
  }

  /** Under FULL every column is of the key, and under NOTHING none; there, tables have an `id`. */
  #identity({ columns, replicaIdentity }: Relation, row: Row): string {
    const names = replicaIdentity === "full" || replicaIdentity === "nothing"
      ? ["id"]
      : columns.filter(({ key }) => key).map(({ name }) => name);
    return JSON.stringify(names.map((name) => row[name]));
  }
}

/** What the same transactions are by each protocol that a server has. */
const PARTS: { slot: GoldenSlot; since: number; types: readonly PgOutputMessage["type"][] }[] = [
  { slot: "plain", since: 14, types: ["begin", "commit"] },
  {
    slot: "streamed",
    since: 14,
    types: ["stream-start", "stream-stop", "stream-commit", "stream-abort"],
  },
  {
    slot: "prepared",
    since: 15,
    types: [
      "stream-start",
      "stream-prepare",
      "begin-prepare",
      "prepare",
      "commit-prepared",
      "rollback-prepared",
    ],
  },
  {
    slot: "parallel",
    since: 16,
    types: ["stream-start", "stream-stop", "stream-commit", "stream-abort"],
  },
];

/**
 * Messages without what differs from protocol to protocol: how often a table is told of, an origin's
 * LSN, and transactions of which nothing is left.
 */
function alike(messages: readonly PgOutputMessage[]): unknown[] {
  const told = messages.filter(({ type }) => type !== "relation" && type !== "type");
  const isEmpty = (at: number) => told[at]?.type === "begin" && told[at + 1]?.type === "commit";
  return told.filter((_, at) => !isEmpty(at) && !isEmpty(at - 1)).map((message) => {
    if (message.type === "origin") return { ...message, originLsn: 0n };
    if (message.type === "truncate") return goldenOf(message);
    if (!("relation" in message)) return message;
    const { schema, name, replicaIdentity, columns } = message.relation;
    return { ...message, relation: { schema, name, replicaIdentity, columns } };
  });
}

for (const major of GOLDEN_MAJORS) {
  describe(`what a PostgreSQL ${major} sent`, () => {
    const golden = readGolden(major);
    const text = decodeAll(golden, "text");
    const binary = decodeAll(golden, "binary");

    test("decodes to what was recorded", () => {
      assert(golden.server.startsWith(`${major}.`));
      const decoded = [text, binary, ...PARTS.map(({ slot }) => decodeAll(golden, slot))].flat();
      assertEquals(decoded.map(goldenOf), golden.messages.map((line) => line.message));
    });

    test("has every message of protocol 1", () => {
      const types = new Set(text.map((message) => message.type));
      assertEquals([...types].sort(), [
        "begin",
        "commit",
        "delete",
        "insert",
        ...(major >= 14 ? ["message"] : []),
        "origin",
        "relation",
        ...(major >= 11 ? ["truncate"] : []),
        "type",
        "update",
      ]);
    });

    test("followed row by row, ends in the tables as the server had them", () => {
      const follower = new Follower();
      for (const message of text) follower.apply(message);
      assert(golden.tables.length >= 9);
      for (const { table, columns, rows } of golden.tables) {
        const followed = follower.rows(table)
          .map((row) => columns.map((column) => shortened(row[column] as string | null)))
          .sort((a, b) => Number(a[0]) - Number(b[0]));
        assertEquals(followed, rows, table);
      }
    });

    test("TOAST: unchanged under DEFAULT and INDEX, filled under FULL", () => {
      const unchangedOf = (table: string) =>
        text.flatMap((message) =>
          message.type === "update" && message.relation.name === table ? [message.unchanged] : []
        );
      assertEquals(unchangedOf("toast_default"), [["body"], ["body"], []]);
      assertEquals(unchangedOf("toast_index"), [["body"], ["body"], ["body"]]);
      assertEquals(unchangedOf("toast_full"), [[], []]);
      const full = text.find((message): message is Update =>
        message.type === "update" && message.relation.name === "toast_full"
      );
      assertEquals([full?.row.body, full?.oldRow?.body], ["e".repeat(5000), "e".repeat(5000)]);
    });

    if (major >= 14) {
      test("in binary: copies of the right bytes", () => {
        const insert = binary.find((message) => message.type === "insert") as Insert;
        assertEquals(insert.row.id, Uint8Array.of(0, 0, 0, 1));
        assertEquals(insert.row.big, Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 254));
        assertEquals(insert.row.bytes, Uint8Array.of(0, 255));
        assertEquals(insert.row.body, new Uint8Array(2500).fill("b".charCodeAt(0)));
      });
    }

    for (const { slot, since, types } of PARTS) {
      if (major < since) continue;
      const sent = decodeAll(golden, slot);
      const has = new Set(sent.map(({ type }) => type));

      test(`${slot}: has what its protocol adds`, () => {
        assertEquals(types.filter((type) => !has.has(type)), []);
      });

      test(`${slot}: an abort tells its LSN and time by protocol 4 alone`, () => {
        const aborts = sent.filter((message) => message.type === "stream-abort");
        assertEquals(aborts.length, slot === "plain" ? 0 : 2);
        for (const { abortLsn, abortTimeUs } of aborts) {
          assertEquals(abortLsn !== null, slot === "parallel");
          assertEquals(abortTimeUs !== null, slot === "parallel");
        }
      });

      // A prepared transaction is another one.
      if (slot === "prepared") continue;
      test(`${slot}: assembled, it is what protocol 1 sends`, () => {
        const assembler = new StreamAssembler();
        const plain = alike(decodeAll(golden, "plain"));
        assert(plain.length > 10);
        assertEquals(alike(sent.flatMap((message) => assembler.accept(message))), plain);
      });
    }

    if (major >= 18) {
      test("generated columns come where they are published", () => {
        const rows = text.flatMap((message) =>
          message.type === "insert" && message.relation.name === "generated" ? [message.row] : []
        );
        assertEquals(rows.map(({ id, twice }) => [id, twice]), [["1", "2"], ["2", "4"]]);
      });
    }

    if (major >= 15) {
      test("an update that a row filter made an insert lacks its unchanged column", () => {
        const inserts = text.flatMap((message) =>
          message.type === "insert" && message.relation.name === "filtered" ? [message] : []
        );
        assertEquals(inserts.map(({ row, unchanged }) => [row.id, "body" in row, unchanged]), [
          ["2", true, []],
          ["1", false, ["body"]],
        ]);
      });
    }
  });
}
