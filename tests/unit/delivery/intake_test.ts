import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStrictEquals,
  assertThrows,
} from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent, LogicalMessage } from "../../../src/change.ts";
import { DeliveryError } from "../../../src/delivery/errors.ts";
import type { EventTable } from "../../../src/delivery/event_builder.ts";
import type { EventQueue } from "../../../src/delivery/event_queue.ts";
import { Frontier, type TrackedTransaction } from "../../../src/delivery/frontier.ts";
import { Intake } from "../../../src/delivery/intake.ts";
import {
  type SchemaChange,
  SchemaWatch,
  type TableShape,
} from "../../../src/delivery/schema_changes.ts";
import type {
  Begin,
  Commit,
  Delete,
  Insert,
  Message,
  PgOutputMessage,
  Relation,
  ReplicaIdentity,
} from "../../../src/pgoutput/mod.ts";

const NAME = { schema: "public", table: "documents" };
const SIZE = 100;

/** Columns of the replica identity are written with a `*`. */
function relationOf(columns: string, identity: ReplicaIdentity = "default", oid = 1): Relation {
  return {
    type: "relation",
    xid: null,
    oid,
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

const DOCUMENTS = relationOf("id* body");
const OTHER = relationOf("id*", "default", 2);

function begin(finalLsn: bigint, commitTimeUs = 0n): Begin {
  return { type: "begin", finalLsn, commitTimeUs, xid: 7 };
}

function insert(id: string, relation = DOCUMENTS): Insert {
  return { type: "insert", xid: null, relation, row: { id, body: id }, unchanged: [] };
}

function commit(commitLsn: bigint, endLsn = commitLsn + 8n): Commit {
  return { type: "commit", flags: 0, commitLsn, endLsn, commitTimeUs: 0n };
}

/** Notes what it is told, and handles nothing by itself. */
class Recorder implements Partial<EventQueue> {
  readonly log: string[] = [];
  readonly bytes: number[] = [];
  readonly calls: (() => Promise<unknown>)[] = [];
  readonly tables: EventTable[] = [];
  readonly transactions: TrackedTransaction[] = [];
  readonly frontier: Frontier;

  constructor(frontier: Frontier) {
    this.frontier = frontier;
  }

  offer(event: ChangeEvent, bytes: number, transaction: TrackedTransaction, table: EventTable) {
    this.log.push(`${event.key ?? event.operation} ${event.lsn}/${event.ordinal}`);
    this.bytes.push(bytes);
    this.tables.push(table);
    this.transactions.push(transaction);
    this.frontier.expect(transaction);
  }

  commit(transaction: TrackedTransaction): void {
    this.log.push(`commit ${transaction.endLsn}`);
  }

  offerMessage(message: LogicalMessage, bytes: number, transaction: TrackedTransaction) {
    const { prefix, lsn, ordinal, transactional } = message;
    this.log.push(`${prefix}${transactional ? "" : "!"} ${lsn}/${ordinal}`);
    this.bytes.push(bytes);
    this.transactions.push(transaction);
    this.frontier.expect(transaction);
  }

  barrier(call?: () => Promise<unknown>): void {
    this.log.push(call === undefined ? "barrier" : "call");
    if (call !== undefined) this.calls.push(call);
  }
}

function setUp(
  ...prefixes: string[]
): { intake: Intake; frontier: Frontier; queue: Recorder; log: string[] } {
  const frontier = new Frontier(0n);
  const queue = new Recorder(frontier);
  const intake = new Intake(queue as unknown as EventQueue, frontier, null, new Set(prefixes));
  connect(intake);
  return { intake, frontier, queue, log: queue.log };
}

function message(prefix: string, messageLsn = 1n, transactional = true): Message {
  return {
    type: "message",
    xid: null,
    prefix,
    messageLsn,
    transactional,
    content: new Uint8Array(3),
  };
}

function connect(intake: Intake): void {
  intake.connected();
  intake.declare(DOCUMENTS, { name: NAME, primaryKey: ["id"] });
  intake.declare(OTHER, null);
}

function accept(intake: Intake, ...messages: PgOutputMessage[]): void {
  for (const message of messages) intake.accept(message, SIZE);
}

describe("a transaction", () => {
  test("is offered event by event and ends where its commit record does (1)", () => {
    const { intake, frontier, queue, log } = setUp();
    accept(
      intake,
      begin(0x10n),
      insert("a"),
      insert("x", OTHER),
      insert("b"),
      commit(0x10n, 0x18n),
    );
    assertEquals(log, ["a 0/10/0", "b 0/10/2", "commit 24"]);
    assertEquals(frontier.confirmed, 0n);
    for (const transaction of queue.transactions) frontier.handled(transaction);
    assertEquals(
      frontier.confirmed,
      0x18n,
      "neither a row's position nor the commit record's begin",
    );
  });

  test("of which nothing is watched moves the position on", () => {
    const { intake, frontier, log } = setUp();
    accept(intake, begin(0x10n), insert("x", OTHER), commit(0x10n, 0x18n));
    accept(intake, begin(0x20n), commit(0x20n, 0x28n));
    assertEquals(frontier.confirmed, 0x28n);
    assertEquals(log, ["commit 24", "commit 40"]);
  });

  test("is told when it was committed, for as long as something of it is left to do", () => {
    const { intake, frontier, queue } = setUp();
    assertEquals(frontier.oldestCommitTimeMs, null);
    accept(intake, begin(0x10n, 5_000_000n), insert("a"), commit(0x10n));
    accept(intake, begin(0x20n, 9_000_000n), insert("b"));
    const epoch = Date.UTC(2000, 0, 1);
    assertEquals(frontier.oldestCommitTimeMs, epoch + 5000);
    frontier.handled(queue.transactions[0]!);
    assertEquals(frontier.oldestCommitTimeMs, epoch + 9000);
    frontier.handled(queue.transactions[1]!);
    assertEquals(frontier.oldestCommitTimeMs, epoch + 9000, "its end is not here yet");
    accept(intake, commit(0x20n));
    assertEquals(frontier.oldestCommitTimeMs, null);
  });

  test("has events that count for what they hold in memory, beside their message's length", () => {
    const { intake, queue } = setUp();
    const truncate = {
      type: "truncate",
      xid: null,
      relations: [DOCUMENTS],
      cascade: false,
      restartIdentity: false,
    } as const;
    accept(intake, begin(0x10n), insert("a"), truncate);
    assert(queue.bytes[0]! > SIZE && queue.bytes[1]! === SIZE, `${queue.bytes}`);
  });

  test("may hold messages that are nothing to a handler", () => {
    const { intake, log } = setUp();
    accept(
      intake,
      { type: "type", xid: null, oid: 9, schema: "public", name: "mood" },
      begin(0x10n),
      { type: "origin", originLsn: 1n, name: "elsewhere" },
      insert("a"),
      commit(0x10n),
    );
    assertEquals(log, ["a 0/10/0", "commit 24"]);
  });

  test("has messages in their place, and counts those that nobody asked for", () => {
    const { intake, frontier, queue, log } = setUp("outbox", "mail");
    accept(
      intake,
      begin(0x10n),
      message("outbox"),
      insert("a"),
      message("Outbox"),
      message("mail"),
      insert("b"),
      commit(0x10n),
    );
    assertEquals(log, [
      "outbox 0/10/0",
      "a 0/10/1",
      "mail 0/10/3",
      "b 0/10/4",
      "commit 24",
    ]);
    assertEquals(queue.bytes[0], SIZE);
    for (const transaction of queue.transactions.slice(1)) frontier.handled(transaction);
    assertEquals(frontier.confirmed, 0n, "a message is not handled yet");
    frontier.handled(queue.transactions[0]!);
    assertEquals(frontier.confirmed, 0x18n);
  });

  test("that comes again, its messages too, is left out up to the last that was queued (44)", () => {
    const { intake, log } = setUp("outbox");
    accept(intake, begin(0x10n), insert("a"), message("outbox"), message("others"));
    connect(intake);
    accept(intake, begin(0x10n), insert("a"), message("outbox"), message("others"));
    accept(intake, message("outbox"), insert("b"), commit(0x10n));
    connect(intake);
    accept(intake, begin(0x10n), insert("a"), message("outbox"), commit(0x10n));
    assertEquals(log, ["a 0/10/0", "outbox 0/10/1", "outbox 0/10/3", "b 0/10/4", "commit 24"]);
  });

  test("that does not hold together is an error, not a guess", () => {
    const cases: PgOutputMessage[][] = [
      [insert("a")],
      [commit(0x10n)],
      [begin(0x10n), begin(0x20n)],
      [begin(0x10n), commit(0x10n), commit(0x10n)],
      [begin(0x10n), commit(0x10n), insert("a")],
    ];
    for (const messages of cases) {
      const { intake } = setUp();
      const error = assertThrows(() => accept(intake, ...messages), DeliveryError);
      assertEquals(error.kind, "transaction-order");
      assert(error.hint !== undefined);
    }
  });

  test("with a row whose key is nowhere is an error, also where it comes again", () => {
    const { intake, log } = setUp();
    const keyless = relationOf("a", "nothing");
    const table = { name: NAME, primaryKey: [] };
    const message: Delete = {
      type: "delete",
      xid: null,
      relation: keyless,
      oldRow: {},
      oldKind: "key",
    };
    for (let connection = 0; connection < 2; connection++) {
      intake.connected();
      intake.declare(keyless, table);
      accept(intake, begin(0x10n));
      const error = assertThrows(() => accept(intake, message), DeliveryError);
      assertEquals(error.kind, "key-missing");
    }
    assertEquals(log.filter((entry) => entry !== "barrier"), []);
  });
});

describe("where the connection stands", () => {
  test("it is inside a transaction between Begin and Commit, and in none on a new connection", () => {
    const { intake } = setUp();
    assertEquals(intake.insideTransaction, false);
    accept(intake, begin(0x10n));
    assertEquals(intake.insideTransaction, true);
    intake.connected();
    assertEquals(intake.insideTransaction, false);
    connect(intake);
    accept(intake, begin(0x10n), insert("a"), commit(0x10n));
    assertEquals(intake.insideTransaction, false);
  });

  test("the last transaction is known by its commit record", () => {
    const { intake } = setUp();
    assertEquals(intake.commitLsn, 0n);
    accept(intake, begin(0x10n));
    assertEquals(intake.commitLsn, 0x10n);
    accept(intake, commit(0x10n), begin(0x20n));
    assertEquals(intake.commitLsn, 0x20n);
    connect(intake);
    accept(intake, begin(0x10n));
    assertEquals(intake.commitLsn, 0x20n, "one that comes again is not the last");
    intake.restart(5n);
    assertEquals(intake.commitLsn, 0n);
  });

  test("the Commit is waited for where all that came of its transaction is handled, and only there", () => {
    const { intake, frontier, queue } = setUp();
    const waits: boolean[] = [];
    const look = () => waits.push(intake.waitsForCommit);
    look();
    accept(intake, begin(0x10n));
    look();
    accept(intake, insert("a"));
    look();
    frontier.handled(queue.transactions[0]!);
    look();
    accept(intake, commit(0x10n));
    look();
    assertEquals(waits, [false, false, false, true, false]);

    waits.length = 0;
    accept(intake, begin(0x20n), insert("b"));
    frontier.handled(queue.transactions[1]!);
    connect(intake);
    look();
    accept(intake, begin(0x10n));
    look();
    accept(intake, insert("a"), commit(0x10n), begin(0x20n));
    look();
    accept(intake, insert("b"));
    look();
    accept(intake, commit(0x20n));
    look();
    assertEquals(waits, [false, false, true, true, false]);
    assertEquals(frontier.confirmed, 0x28n);
  });
});

describe("what comes again", () => {
  test("is left out of a transaction that was cut: its events go on where they ended (44)", () => {
    const { intake, frontier, queue, log } = setUp();
    accept(intake, begin(0x10n), insert("a"), insert("x", OTHER));
    connect(intake);
    accept(intake, begin(0x10n), insert("a"), insert("x", OTHER), insert("b"), commit(0x10n));
    assertEquals(log, ["a 0/10/0", "b 0/10/2", "commit 24"]);
    assertStrictEquals(queue.transactions[0], queue.transactions[1], "it is one transaction");
    frontier.handled(queue.transactions[0]!, 2);
    assertEquals(frontier.confirmed, 0x18n);
  });

  test("is left out of a TRUNCATE of several tables, which was taken as a whole (44)", () => {
    const { intake, log } = setUp();
    const truncate = {
      type: "truncate",
      xid: null,
      relations: [DOCUMENTS, OTHER, DOCUMENTS],
      cascade: false,
      restartIdentity: false,
    } as const;
    accept(intake, begin(0x10n), truncate);
    connect(intake);
    accept(intake, begin(0x10n), truncate, insert("a"), commit(0x10n));
    assertEquals(log, ["truncate 0/10/0", "truncate 0/10/2", "a 0/10/3", "commit 24"]);
  });

  test("commits nothing a second time, nor anything that is not handled", () => {
    const { intake, frontier, log } = setUp();
    accept(intake, begin(0x10n), insert("a"), commit(0x10n));
    connect(intake);
    accept(intake, begin(0x10n), insert("a"), commit(0x10n));
    intake.keepalive(0x100n);
    assertEquals(log, ["a 0/10/0", "commit 24"]);
    assertEquals(frontier.confirmed, 0n);
    assertEquals(frontier.unfinished, 2);
  });

  test("is all taken after a restart, even at the very same position (47)", () => {
    const { intake, frontier, queue, log } = setUp();
    accept(intake, begin(0x10n), insert("a"), commit(0x10n), begin(0x20n), insert("b"));
    intake.restart(3n);
    assertEquals([frontier.confirmed, frontier.unfinished], [3n, 0]);
    connect(intake);
    accept(intake, begin(0x10n), insert("c"), commit(0x10n));
    assertEquals(log.at(-2), "c 0/10/0");
    for (const transaction of queue.transactions.slice(0, 2)) frontier.handled(transaction);
    assertEquals(frontier.confirmed, 3n, "what was handled of the old one counts for nothing");
    frontier.handled(queue.transactions[2]!);
    assertEquals(frontier.confirmed, 0x18n);
  });
});

describe("a table's shape", () => {
  const same: [string, Relation, string[]][] = [
    ["the same again", relationOf("id* body"), ["id"]],
    ["under another OID", relationOf("id* body", "default", 77), ["id"]],
  ];
  for (const [what, relation, primaryKey] of same) {
    test(`that is ${what} holds up nobody`, () => {
      const { intake, log } = setUp();
      intake.declare(relation, { name: NAME, primaryKey });
      connect(intake);
      assertEquals(log, []);
    });
  }

  const changed: [string, Relation, string[]][] = [
    ["has another column", relationOf("id* body more"), ["id"]],
    ["has a column under another name", relationOf("id* text"), ["id"]],
    ["has another replica identity", relationOf("id* body*", "full"), ["id"]],
    ["has an index of the same columns for it", relationOf("id* body", "index"), ["id"]],
    ["has another primary key", relationOf("id* body"), ["body"]],
    ["has no primary key any more", relationOf("id* body"), []],
  ];
  for (const [what, relation, primaryKey] of changed) {
    test(`that ${what} has all before it done first (20)`, () => {
      const { intake, log } = setUp();
      accept(intake, begin(0x10n), insert("a"));
      intake.declare(relation, { name: NAME, primaryKey });
      accept(intake, insert("b", relation));
      assertEquals(log, ["a 0/10/0", "barrier", "b 0/10/1"]);
    });
  }

  test("is remembered from one connection to the next", () => {
    const { intake, log } = setUp();
    intake.connected();
    intake.declare(relationOf("id* body more"), { name: NAME, primaryKey: ["id"] });
    assertEquals(log, ["barrier"]);
  });

  test("of a type that is another one now has all before it done first", () => {
    const { intake, log } = setUp();
    const columns = DOCUMENTS.columns.map((column) => ({ ...column, typeOid: 20 }));
    intake.declare({ ...DOCUMENTS, columns }, { name: NAME, primaryKey: ["id"] });
    assertEquals(log, ["barrier"]);
  });

  test("is nobody's concern where it is not watched", () => {
    const { intake, log } = setUp();
    intake.declare(relationOf("id* body more", "full", 2), null);
    assertEquals(log, []);
  });

  test("tells whether every change tells its key (43)", () => {
    const keyedOf = (relation: Relation, primaryKey: string[]) => {
      const { intake, queue } = setUp();
      intake.declare(relation, { name: NAME, primaryKey });
      accept(intake, begin(0x10n), insert("a", relation));
      assertInstanceOf(queue.tables[0], Object);
      assertEquals(queue.tables[0]!.name, NAME);
      return queue.tables[0]!.keyed;
    };
    assertEquals(keyedOf(DOCUMENTS, ["id"]), true);
    assertEquals(keyedOf(relationOf("id* body*", "full"), ["id"]), true);
    assertEquals(keyedOf(relationOf("id* body*", "full"), []), false);
    assertEquals(keyedOf(relationOf("id body*", "index"), ["id"]), false);
  });
});

describe("a message that belongs to no transaction", () => {
  test("is confirmed where it ends, once it and all before it are handled", () => {
    const { intake, frontier, queue, log } = setUp("beat");
    accept(intake, begin(0x10n), insert("a"), commit(0x10n), message("beat", 0x20n, false));
    assertEquals(log, ["a 0/10/0", "commit 24", "beat! 0/20/0", "commit 32"]);
    frontier.handled(queue.transactions[1]!);
    assertEquals(frontier.confirmed, 0n);
    frontier.handled(queue.transactions[0]!);
    assertEquals(frontier.confirmed, 0x20n);
  });

  test("may end where the commit record of the next transaction begins: both come, and come once", () => {
    const { intake, log } = setUp("beat");
    for (let connection = 0; connection < 2; connection++) {
      connect(intake);
      accept(intake, message("beat", 0x20n, false), begin(0x20n), insert("a"), commit(0x20n));
    }
    assertEquals(log, ["beat! 0/20/0", "commit 32", "a 0/20/0", "commit 40"]);
  });

  test("of a prefix that nobody asked for moves the position on", () => {
    const { intake, frontier, log } = setUp("beat");
    accept(intake, message("others", 0x20n, false));
    assertEquals([frontier.confirmed, log], [0x20n, ["commit 32"]]);
  });

  test("is left out where it comes again, as are transactions before it (44)", () => {
    const { intake, log } = setUp("beat");
    accept(intake, begin(0x10n), insert("a"), commit(0x10n), message("beat", 0x20n, false));
    connect(intake);
    accept(intake, begin(0x10n), insert("a"), commit(0x10n), message("beat", 0x20n, false));
    accept(intake, message("beat", 0x30n, false), begin(0x40n), insert("b"));
    connect(intake);
    accept(intake, message("beat", 0x30n, false), begin(0x40n), insert("b"), commit(0x40n));
    assertEquals(log, [
      "a 0/10/0",
      "commit 24",
      "beat! 0/20/0",
      "commit 32",
      "beat! 0/30/0",
      "commit 48",
      "b 0/40/0",
      "commit 72",
    ]);
  });

  test("is an error inside of one, and one that belongs to a transaction outside of it", () => {
    const { intake } = setUp("beat");
    assertThrows(() => accept(intake, message("beat")), DeliveryError, "outside");
    accept(intake, begin(0x10n));
    assertThrows(() => accept(intake, message("beat", 1n, false)), DeliveryError, "inside");
  });
});

describe("a table that gets another shape", () => {
  const TABLE = { name: NAME, primaryKey: ["id"] };

  /** Runs of one stream: what they tell, and what was told before. */
  class Shapes {
    readonly told = new Map<string, TableShape>();
    readonly changes: SchemaChange[] = [];

    run(): { intake: Intake; log: string[]; tell: () => Promise<void> } {
      const frontier = new Frontier(0n);
      const queue = new Recorder(frontier);
      const intake = new Intake(queue as unknown as EventQueue, frontier);
      intake.schemas = new SchemaWatch(this.told, (change) => {
        this.changes.push(change);
        return Promise.resolve();
      });
      intake.connected();
      const tell = async () => {
        for (const call of queue.calls.splice(0)) await call();
      };
      return { intake, log: queue.log, tell };
    }

    /** Names of columns: those that were added, removed, changed. */
    get columns(): string[] {
      return this.changes.splice(0).map(({ added, removed, changed }) =>
        [added, removed, changed].map((columns) => columns.map(({ name }) => name).join()).join("|")
      );
    }
  }

  test("is told before its first event of that shape, not for its first shape, and not for the same", async () => {
    const shapes = new Shapes();
    const { intake, log, tell } = shapes.run();
    intake.declare(DOCUMENTS, TABLE);
    accept(intake, begin(0x10n), insert("a"), insert("b"));
    intake.declare({ ...DOCUMENTS }, TABLE);
    accept(intake, insert("c"));
    const other = relationOf("id* title body");
    intake.declare(other, TABLE);
    accept(intake, insert("d", other), insert("e", other), commit(0x10n));
    const calls = log.filter((line) => line !== "barrier");
    assertEquals(calls, [
      "a 0/10/0",
      "b 0/10/1",
      "c 0/10/2",
      "call",
      "d 0/10/3",
      "e 0/10/4",
      "commit 24",
    ]);
    assertEquals(shapes.changes, [], "not before its turn");
    await tell();
    const text = { typeOid: 25, typeModifier: -1 };
    const identity = { kind: "default", columns: ["id"] } as const;
    assertEquals(shapes.changes, [{
      schema: "public",
      table: "documents",
      lsn: "0/10",
      added: [{ name: "title", ...text }],
      removed: [],
      changed: [],
      replicaIdentity: { before: identity, after: identity },
      primaryKey: { before: ["id"], after: ["id"] },
    }]);
  });

  test("is told what of it: columns, types, lengths, keys and the replica identity", async () => {
    const shapes = new Shapes();
    const { intake, tell } = shapes.run();
    let lsn = 0x10n;
    const become = async (relation: Relation, primaryKey = ["id"]) => {
      intake.declare(relation, { name: NAME, primaryKey });
      accept(intake, begin(lsn), insert("a", relation), commit(lsn));
      lsn += 0x10n;
      await tell();
    };
    const typed = (typeOid: number, typeModifier: number): Relation => ({
      ...DOCUMENTS,
      columns: [DOCUMENTS.columns[0]!, { name: "body", typeOid, typeModifier, key: false }],
    });
    await become(DOCUMENTS);
    await become(relationOf("id* content"));
    await become(DOCUMENTS);
    await become(typed(1043, 14));
    await become(typed(1043, 24));
    assertEquals(shapes.columns, ["content|body|", "body|content|", "||body", "||body"]);
    await become(relationOf("id* body*", "full"));
    await become(relationOf("id body*", "index"), ["id", "body"]);
    assertEquals(shapes.changes.map(({ replicaIdentity }) => replicaIdentity.after), [
      { kind: "full", columns: ["id", "body"] },
      { kind: "index", columns: ["body"] },
    ]);
    assertEquals(shapes.changes[1]!.primaryKey, { before: ["id"], after: ["id", "body"] });
    assertEquals(shapes.changes[1]!.replicaIdentity.before.kind, "full");
  });

  test("and comes again on another connection is told once, by the events that are queued", async () => {
    const shapes = new Shapes();
    const { intake, tell } = shapes.run();
    const other = relationOf("id* title");
    for (let connection = 0; connection < 3; connection++) {
      intake.connected();
      intake.declare(DOCUMENTS, TABLE);
      accept(intake, begin(0x10n), insert("a"));
      intake.declare(other, TABLE);
      accept(intake, insert("b", other));
      if (connection > 0) accept(intake, insert(`${connection}`, other));
    }
    accept(intake, commit(0x10n));
    await tell();
    assertEquals(shapes.columns, ["title|body|"]);

    // Nor where the connection is lost between the relation and the event.
    intake.connected();
    intake.declare(DOCUMENTS, TABLE);
    intake.connected();
    intake.declare(other, TABLE);
    accept(intake, begin(0x20n), insert("c", other), commit(0x20n));
    await tell();
    assertEquals(shapes.columns, []);
  });

  test("while no stream runs is told by the next run; one that was not told yet is, too", async () => {
    const shapes = new Shapes();
    const first = shapes.run();
    first.intake.declare(DOCUMENTS, TABLE);
    accept(first.intake, begin(0x10n), insert("a"), commit(0x10n));
    const other = relationOf("id* title");
    first.intake.declare(other, TABLE);
    accept(first.intake, begin(0x20n), insert("b", other), commit(0x20n));
    assertEquals(shapes.columns, [], "it was stopped before that");
    for (const expected of [["title|body|"], []]) {
      const next = shapes.run();
      next.intake.declare(other, TABLE);
      accept(next.intake, begin(0x20n), insert("b", other), commit(0x20n));
      await next.tell();
      assertEquals(shapes.columns, expected);
    }
  });

  test("is nobody's business where it is not watched", () => {
    const { intake, log } = new Shapes().run();
    intake.declare(OTHER, null);
    accept(intake, begin(0x10n), insert("a", OTHER));
    intake.declare(relationOf("id* x", "default", 2), null);
    accept(intake, insert("a", relationOf("id* x", "default", 2)), commit(0x10n));
    assertEquals(log, ["commit 24"]);
  });
});
