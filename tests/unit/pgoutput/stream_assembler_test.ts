import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  AssemblyError,
  type Insert,
  PgOutputDecoder,
  type PgOutputMessage,
  StreamAssembler,
} from "../../../src/pgoutput/mod.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import { seededRandom } from "../../support/random.ts";

const DOCS: encode.TableSpec = { oid: 1, name: "docs", columns: [{ name: "id", key: true }] };
const RELATION = encode.relation(DOCS);
const PREPARED = { xid: 7, gid: "gid", prepareLsn: 1n, endLsn: 2n, prepareTimeUs: 3n };

const insert = (id: number | string) => encode.insert(DOCS.oid, [`${id}`]);

/** A decoder and an assembler of one connection. */
class Connection {
  readonly decoder = new PgOutputDecoder();
  readonly assembler: StreamAssembler;

  constructor(options: ConstructorParameters<typeof StreamAssembler>[0] = {}) {
    this.assembler = new StreamAssembler(options);
  }

  take(...messages: Uint8Array[]): PgOutputMessage[] {
    return messages.flatMap((bytes) => this.assembler.accept(this.decoder.decode(bytes)));
  }

  /** A part of transaction `xid`. */
  part(xid: number, first: boolean, ...messages: Uint8Array[]): PgOutputMessage[] {
    return this.take(encode.streamStart(xid, first), ...messages, encode.streamStop());
  }
}

/** Messages by type, inserts by their id. */
function shown(messages: readonly PgOutputMessage[]): string[] {
  return messages.map((message) => message.type === "insert" ? `${message.row.id}` : message.type);
}

describe("a transaction in parts", () => {
  test("comes whole at its commit, as protocol 1 would have sent it", () => {
    const plain = new Connection().take(
      encode.begin(100n, 7, 50n),
      encode.origin(0n, "o"),
      RELATION,
      insert(1),
      insert(2),
      encode.commit(100n, 150n, 50n),
    );
    const connection = new Connection();
    assertEquals(
      connection.part(
        7,
        true,
        encode.origin(0n, "o"),
        encode.streamed(7, RELATION),
        encode.streamed(7, insert(1)),
      ),
      [],
    );
    assertEquals(connection.part(7, false, encode.streamed(8, insert(2))), []);
    assertEquals(connection.assembler.messages, 4);
    const whole = connection.take(encode.streamCommit(7, 100n, 150n, 50n));
    assertEquals(whole, plain);
    assertStrictEquals((whole[3] as Insert).relation, whole[2]);
    assertEquals(connection.assembler.messages, 0);
  });

  test("that is prepared comes between Begin Prepare and Prepare", () => {
    const plain = new Connection().take(
      encode.beginPrepare(PREPARED),
      RELATION,
      insert(1),
      encode.prepare(PREPARED),
    );
    const connection = new Connection();
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(7, insert(1)));
    assertEquals(connection.take(encode.streamPrepare(PREPARED)), plain);
    const committed = encode.commitPrepared(7, "gid", 3n, 4n);
    assertEquals(shown(connection.take(committed)), ["commit-prepared"]);
  });

  test("that is rolled back never comes", () => {
    const connection = new Connection();
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(8, insert(1)));
    assertEquals(connection.take(encode.streamAbort(7, 7)), []);
    assertEquals(connection.assembler.messages, 0);
  });

  test("leaves what comes between its parts where it is", () => {
    const connection = new Connection();
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(7, insert(1)));
    connection.part(9, true, encode.streamed(9, RELATION), encode.streamed(9, insert(9)));
    const between = connection.take(
      encode.begin(1n, 3),
      RELATION,
      insert(3),
      encode.commit(1n, 2n),
      encode.message(1n, "p", "c"),
    );
    assertEquals(shown(between), ["begin", "relation", "3", "commit", "message"]);
    connection.part(7, false, encode.streamed(7, insert(2)));
    const second = connection.take(encode.streamCommit(9, 3n, 4n));
    assertEquals(shown(second), ["begin", "relation", "9", "commit"]);
    const first = connection.take(encode.streamCommit(7, 5n, 6n));
    assertEquals(shown(first), ["begin", "relation", "1", "2", "commit"]);
  });
});

describe("a subtransaction that is rolled back", () => {
  test("takes its own rows with it, and no other's", () => {
    const connection = new Connection();
    connection.part(
      7,
      true,
      encode.streamed(7, RELATION),
      encode.streamed(7, insert("top")),
      encode.streamed(8, insert("kept")),
      encode.streamed(9, insert("nested")),
      encode.streamed(8, insert("kept too")),
    );
    connection.part(7, false, encode.streamed(9, insert("nested too")));
    connection.part(3, true, encode.streamed(3, RELATION), encode.streamed(3, insert("other's")));
    connection.take(encode.streamAbort(7, 9), encode.streamAbort(7, 99));
    connection.part(7, false, encode.streamed(10, insert("later")));
    assertEquals(connection.assembler.messages, 7);
    assertEquals(shown(connection.take(encode.streamCommit(7, 1n, 2n))), [
      "begin",
      "relation",
      "top",
      "kept",
      "kept too",
      "later",
      "commit",
    ]);
    assertEquals(connection.assembler.messages, 2);
  });

  test("takes no row that comes after it", () => {
    const connection = new Connection();
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(8, insert("gone")));
    connection.take(encode.streamAbort(7, 8));
    connection.part(7, false, encode.streamed(8, insert("after")));
    const whole = connection.take(encode.streamCommit(7, 1n, 2n));
    assertEquals(shown(whole), ["begin", "relation", "after", "commit"]);
  });

  test("leaves the tables and types that it was the first to touch", () => {
    const connection = new Connection();
    connection.part(
      7,
      true,
      encode.streamed(8, encode.type(2, "public", "mood")),
      encode.streamed(8, RELATION),
      encode.streamed(8, insert("gone")),
      encode.streamed(8, encode.truncate([1])),
      encode.streamed(8, encode.message(1n, "p", "c", { transactional: true })),
    );
    connection.take(encode.streamAbort(7, 8));
    connection.part(7, false, encode.streamed(7, insert("of that table")));
    const whole = connection.take(encode.streamCommit(7, 1n, 2n));
    assertEquals(shown(whole), ["begin", "type", "relation", "of that table", "commit"]);
    assertStrictEquals((whole[3] as Insert).relation, whole[2]);
  });

  test("in any nesting: what comes is what a list with the rolled back rows left out has", () => {
    const seed = Date.now() % 1_000_000;
    const random = seededRandom(seed);
    const below = (limit: number) => Math.floor(random() * limit);
    for (let round = 0; round < 200; round++) {
      const connection = new Connection();
      connection.part(100, true, encode.streamed(100, RELATION));
      let rows: { xid: number; id: string }[] = [];
      const open = [100];
      for (let step = 0, xid = 100; step < 100; step++) {
        const choice = random();
        if (choice < 0.15) open.push(++xid);
        else if (choice < 0.25 && open.length > 1) {
          // As the server does: with it everything that was begun in it and not ended before.
          for (const aborted of open.splice(1 + below(open.length - 1))) {
            connection.take(encode.streamAbort(100, aborted));
            rows = rows.filter((row) => row.xid !== aborted);
          }
        } else {
          const xid = open.at(-1)!;
          const ids = Array.from({ length: 1 + below(3) }, (_, i) => `${step}.${i}`);
          connection.part(100, false, ...ids.map((id) => encode.streamed(xid, insert(id))));
          rows.push(...ids.map((id) => ({ xid, id })));
        }
        assertEquals(connection.assembler.messages, rows.length + 1, `seed ${seed}`);
      }
      assertEquals(
        shown(connection.take(encode.streamCommit(100, 1n, 2n))).slice(2, -1),
        rows.map(({ id }) => id),
        `seed ${seed}, round ${round}`,
      );
    }
  });
});

describe("limits", () => {
  test("a limit that is none is refused, and does not stand for no limit", () => {
    for (const maxMessages of [NaN, 0, -1, "100" as unknown as number]) {
      const error = assertThrows(() => new StreamAssembler({ maxMessages }), AssemblyError);
      assertEquals(error.kind, "invalid-option", String(maxMessages));
    }
  });

  test("more than maxMessages, of all transactions together, is an error that stays", () => {
    const connection = new Connection({ maxMessages: 3 });
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(7, insert(1)));
    connection.part(8, true, encode.streamed(8, RELATION));
    connection.take(encode.streamStart(8, false));
    const tooMuch = connection.decoder.decode(encode.streamed(8, insert(2)));
    const error = assertThrows(() => connection.assembler.accept(tooMuch), AssemblyError);
    assertEquals([error.kind, error.retryable], ["stream-too-large", false]);
    assertEquals(error.hint?.includes("maxMessages"), true);
    // Rows are missing now: to go on would be to lose them.
    const abort = connection.decoder.decode(encode.streamStop());
    assertThrows(() => connection.assembler.accept(abort), AssemblyError);
    connection.assembler.reset();
    connection.decoder.reset();
    assertEquals(connection.assembler.messages, 0);
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(7, insert(1)));
    assertEquals(shown(connection.take(encode.streamCommit(7, 1n, 2n))).length, 4);
  });

  test("what was rolled back counts no more", () => {
    const connection = new Connection({ maxMessages: 3 });
    connection.part(7, true, encode.streamed(7, RELATION));
    for (let xid = 8; xid < 1000; xid++) {
      connection.part(7, false, encode.streamed(xid, insert(1)), encode.streamed(xid, insert(2)));
      connection.take(encode.streamAbort(7, xid));
    }
    assertEquals(connection.assembler.messages, 1);
  });

  test("a commit or a later part of a transaction that it never saw is an error", () => {
    for (
      const message of [
        { type: "stream-start", xid: 7, firstSegment: false },
        { type: "stream-commit", xid: 7, flags: 0, commitLsn: 1n, endLsn: 2n, commitTimeUs: 3n },
        { type: "stream-prepare", flags: 0, ...PREPARED },
      ] as const
    ) {
      const accept = () => new StreamAssembler().accept(message);
      assertEquals(assertThrows(accept, AssemblyError).kind, "stream-order");
    }
  });

  test("a transaction that begins anew begins with nothing", () => {
    const connection = new Connection();
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(7, insert("old")));
    connection.part(7, true, encode.streamed(7, RELATION), encode.streamed(7, insert("new")));
    const whole = connection.take(encode.streamCommit(7, 1n, 2n));
    assertEquals(shown(whole), ["begin", "relation", "new", "commit"]);
  });
});
