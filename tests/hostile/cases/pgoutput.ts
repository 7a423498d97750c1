/** What the output plugin never sends, through a whole stream: each is to end `start()`, and no row is handled. */
import type { HostileCase } from "../../support/hostile_server.ts";
import {
  DOCUMENTS,
  end,
  keepalive,
  type Lie,
  postgres,
  type Question,
  rows,
  TABLE,
  transactionOf,
  xLogData,
} from "../../support/hostile_postgres.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import { UNCHANGED } from "../../support/pgoutput_encoder.ts";
import { concat, int16, int32, type Peer, say } from "../../support/scripted_server.ts";

const DECODE = ["decode"];
const ORDER = ["transaction-order"];
const { oid } = DOCUMENTS;
const BEGIN = encode.begin(0x200n, 1);
const RELATION = encode.relation(DOCUMENTS);
const INSERT = encode.insert(oid, ["1", "text"]);
/** 15 bytes to the end of the old row. */
const UPDATE = encode.update(oid, ["1", "text"], { kind: "K", values: ["1", null] });
const COMMIT = encode.commit(0x200n, 0x210n);

function streaming(
  name: string,
  kinds: readonly string[],
  script: (peer: Peer) => Promise<void>,
  lies: Partial<Record<Question, Lie>> = {},
): HostileCase {
  return {
    name,
    operation: "start()",
    kinds,
    script: postgres(lies, async (peer) => {
      await peer.send(say.copyBoth);
      await script(peer);
    }),
  };
}

/** Messages of pgoutput, each in an XLogData; then the server waits, and answers the client's good-bye. */
function sends(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return streaming(name, kinds, async (peer) => {
    await peer.send(...messages.map((message) => xLogData(message)));
    await end(peer);
  });
}

/** The same, in a transaction and behind the Relation. */
function inside(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return sends(name, kinds, BEGIN, RELATION, ...messages);
}

/** Then a row comes that stops the stream. */
function goesOn(name: string, ...messages: Uint8Array[]): HostileCase {
  return streaming(name, ["works"], async (peer) => {
    await peer.send(...messages.map((message) => xLogData(message)), ...transactionOf("9", 0x900n));
    await end(peer);
  });
}

function tagged(tag: string): Uint8Array {
  return concat([new TextEncoder().encode(tag), new Uint8Array(20)]);
}

/** `bytes` with `values` put over what is at `offset`. */
function overwritten(bytes: Uint8Array, offset: number, ...values: number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(values, offset);
  return copy;
}

const cut = (bytes: Uint8Array) => bytes.subarray(0, -1);
const longer = (bytes: Uint8Array) => concat([bytes, Uint8Array.of(0)]);

/** A Relation of as many columns as an Int16 can count. */
const WIDE = concat([
  overwritten(encode.relation({ oid: 1, name: "wide", columns: [] }), 18, 0x7f, 0xff),
  concat(new Array(32_767).fill(Uint8Array.of(0, 0x63, 0, ...int32(25), ...int32(-1)))),
]);

const TAGS: HostileCase[] = [
  sends("streams a message of no bytes", DECODE, new Uint8Array(0)),
  sends("streams a message that begins with a zero byte", DECODE, new Uint8Array(20)),
  sends("streams a message that pgoutput does not have", DECODE, tagged("z")),
  ...["S", "E", "c", "A"].map((tag) =>
    sends(`streams message ${tag} of protocol 2, which nobody asked for`, DECODE, tagged(tag))
  ),
  ...["b", "P", "K", "r", "p"].map((tag) =>
    sends(`streams message ${tag} of protocol 3, which nobody asked for`, DECODE, tagged(tag))
  ),
];

/** What is whole, and out of place. */
const PROTOCOLS: HostileCase[] = [
  sends(
    "streams a transaction in parts, which nobody asked for",
    ORDER,
    encode.streamStart(7, true),
    encode.streamed(7, RELATION),
    encode.streamed(7, INSERT),
    encode.streamStop(),
  ),
  sends("streams a later part of what has no first one", DECODE, encode.streamStart(7, false)),
  sends("stops a part that has not started", DECODE, encode.streamStop()),
  sends("commits in parts what it has not sent", DECODE, encode.streamCommit(7, 1n, 2n)),
  sends("begins a transaction within a part", DECODE, encode.streamStart(7, true), BEGIN),
  sends(
    "streams a row within a part, of a table that it told of outside",
    DECODE,
    BEGIN,
    RELATION,
    COMMIT,
    encode.streamStart(7, true),
    encode.streamed(7, INSERT),
  ),
  sends(
    "prepares a transaction, which nobody asked for",
    ORDER,
    encode.beginPrepare({ xid: 7, gid: "g", prepareLsn: 1n, endLsn: 2n, prepareTimeUs: 3n }),
    RELATION,
    INSERT,
  ),
];

const PARTS: HostileCase[] = ([
  ["Begin", [], BEGIN],
  ["Commit", [BEGIN], COMMIT],
  ["Relation", [BEGIN], RELATION],
  ["Insert", [BEGIN, RELATION], INSERT],
  ["Update", [BEGIN, RELATION], encode.update(oid, ["1", "a"], { kind: "K", values: ["2", null] })],
  ["Delete", [BEGIN, RELATION], encode.delete_(oid, "K", ["1", null])],
  ["Truncate", [BEGIN, RELATION], encode.truncate([oid])],
  ["Type", [BEGIN], encode.type(1, "s", "t")],
  ["Origin", [BEGIN], encode.origin(1n, "o")],
  ["Message", [], encode.message(1n, "p", "content")],
] as const).flatMap(([name, before, message]) => [
  sends(`cuts a byte off its ${name}`, DECODE, ...before, cut(message)),
  sends(`adds a byte to its ${name}`, DECODE, ...before, longer(message)),
]);

const ROWS: HostileCase[] = [
  sends("streams an Insert into a table that it has not told of", DECODE, BEGIN, INSERT),
  sends(
    "streams an Update of a table that it has not told of",
    DECODE,
    BEGIN,
    encode.update(1, ["1", "2"]),
  ),
  sends(
    "streams a Delete from a table that it has not told of",
    DECODE,
    BEGIN,
    encode.delete_(1, "K", ["1", null]),
  ),
  inside(
    "streams a Truncate of a table that it has not told of",
    DECODE,
    encode.truncate([oid, 1]),
  ),
  inside(
    "streams a row of more columns than the table has",
    DECODE,
    encode.insert(oid, ["1", "2", "3"]),
  ),
  inside("streams a row of fewer columns than the table has", DECODE, encode.insert(oid, ["1"])),
  inside("streams a row of no columns", DECODE, encode.insert(oid, [])),
  inside("streams a row of -1 columns", DECODE, overwritten(INSERT, 6, 0xff, 0xff)),
  inside("streams a row of an unknown kind", DECODE, overwritten(INSERT, 5, 0x58)),
  inside("streams an Insert of an old row", DECODE, overwritten(INSERT, 5, 0x4f)),
  inside(
    "streams a Delete of a new row",
    DECODE,
    overwritten(encode.delete_(oid, "K", ["1", null]), 5, 0x4e),
  ),
  inside(
    "streams an Update of two old rows",
    DECODE,
    concat([UPDATE.subarray(0, 15), UPDATE.subarray(5, 15), INSERT.subarray(5)]),
  ),
  inside("streams a value of an unknown kind", DECODE, overwritten(INSERT, 8, 0x58)),
  inside("streams a value of length -1", DECODE, overwritten(INSERT, 9, 0xff, 0xff, 0xff, 0xff)),
  inside(
    "streams a value of length 2^31 - 1",
    DECODE,
    overwritten(INSERT, 9, 0x7f, 0xff, 0xff, 0xff),
  ),
  inside(
    "streams a value that reaches into the next one",
    DECODE,
    overwritten(INSERT, 9, 0, 0, 0, 4),
  ),
  inside(
    "streams a value that is not UTF-8",
    DECODE,
    overwritten(INSERT, INSERT.length - 2, 0xc3, 0x28),
  ),
  inside("streams a Delete by a key of NULL", DECODE, encode.delete_(oid, "K", [null, null])),
  inside(
    "streams an Update from a key of NULL",
    DECODE,
    encode.update(oid, ["1", "a"], { kind: "K", values: [null, null] }),
  ),
  inside(
    "streams an Insert whose key has not changed",
    ["key-missing"],
    encode.insert(oid, [UNCHANGED, "text"]),
  ),
  inside(
    "streams a Truncate of a negative count",
    DECODE,
    overwritten(encode.truncate([oid]), 1, 0xff, 0xff, 0xff, 0xff),
  ),
  inside(
    "streams a Truncate of more tables than it names",
    DECODE,
    overwritten(encode.truncate([oid]), 1, 0x7f, 0xff, 0xff, 0xff),
  ),
  inside(
    "streams a logical message that is longer than it is",
    DECODE,
    overwritten(encode.message(1n, "p", "content"), 12, 0x7f, 0xff, 0xff, 0xff),
  ),
];

const identityAt = 1 + 4 + "public\0documents\0".length;
const TABLES: HostileCase[] = [
  sends(
    "tells of a table of -1 columns",
    DECODE,
    BEGIN,
    overwritten(RELATION, identityAt + 1, 0xff, 0xff),
  ),
  sends(
    "tells of a table of more columns than it describes",
    DECODE,
    BEGIN,
    overwritten(RELATION, identityAt + 1, 0x7f, 0xff),
  ),
  sends(
    "tells of a table of a replica identity that nobody knows",
    DECODE,
    BEGIN,
    overwritten(RELATION, identityAt, 0x78),
  ),
  sends("tells of a table whose name is not UTF-8", DECODE, BEGIN, overwritten(RELATION, 5, 0xff)),
  sends(
    "tells of a table whose name has no end",
    DECODE,
    BEGIN,
    concat([Uint8Array.from([0x52, ...int32(oid)]), new Uint8Array(100).fill(0x61)]),
  ),
  goesOn(
    "tells of a table called like what objects inherit",
    BEGIN,
    encode.relation({
      oid: 1,
      schema: "__proto__",
      name: "constructor",
      columns: [{ name: "toString", key: true }],
    }),
    encode.insert(1, ["1"]),
    COMMIT,
  ),
  goesOn(
    "tells of a table of 32,767 columns",
    BEGIN,
    WIDE,
    COMMIT,
  ),
  goesOn(
    "tells of tables that nobody watches, a thousand",
    BEGIN,
    ...Array.from(
      { length: 1000 },
      (_, i) =>
        encode.relation({ oid: i + 1, name: `t${i}`, columns: [{ name: "id", key: true }] }),
    ),
    COMMIT,
  ),
  sends(
    "tells of another table of the same OID, with nothing in the catalogue about it",
    ["table-renamed", "decode", "works"],
    BEGIN,
    RELATION,
    encode.relation({ oid, name: "other", columns: [] }),
    INSERT,
    COMMIT,
  ),
];

/** Which of the two depends on who sees first that the stream is closed; either is tried again. */
const STOPPING = ["server-stopping", "stream-ended"];

const TRANSACTIONS: HostileCase[] = [
  sends("begins a transaction in a transaction", ORDER, BEGIN, encode.begin(0x300n, 2)),
  sends("commits what it has not begun", ORDER, COMMIT),
  sends("commits twice", ORDER, BEGIN, COMMIT, COMMIT),
  sends("streams an Insert outside of a transaction", ORDER, RELATION, INSERT),
  sends(
    "streams an Update outside of a transaction",
    ORDER,
    RELATION,
    encode.update(oid, ["1", "a"]),
  ),
  sends(
    "streams a Delete outside of a transaction",
    ORDER,
    RELATION,
    encode.delete_(oid, "K", ["1", null]),
  ),
  sends("streams a Truncate outside of a transaction", ORDER, RELATION, encode.truncate([oid])),
  goesOn(
    "commits at the largest position there is",
    encode.begin(0x200n, 1),
    encode.commit(0x200n, 2n ** 64n - 1n),
  ),
  goesOn("commits before it has begun", BEGIN, encode.commit(0x100n, 0x100n)),
  goesOn(
    "goes back in its transactions",
    encode.begin(0x800n, 1),
    encode.commit(0x800n, 0x810n),
    BEGIN,
    COMMIT,
  ),
  goesOn(
    "commits at both ends of time",
    encode.begin(0x200n, 2 ** 32 - 1, 2n ** 63n - 1n),
    encode.commit(0x200n, 0x210n, -(2n ** 63n)),
  ),
  streaming("sends keepalives in the middle of a transaction", ["works"], async (peer) => {
    await peer.send(
      xLogData(BEGIN),
      keepalive(2n ** 64n - 1n, true),
      xLogData(COMMIT),
      ...transactionOf("1", 0x300n),
    );
    await end(peer);
  }),
  sends(
    "streams what it should not, in a payload of no type",
    ["decode"],
    BEGIN,
    new Uint8Array(1),
  ),
  streaming(
    "streams a payload that is none through a whole stream",
    ["replication-message"],
    async (peer) => {
      await peer.send(say.copyData("x"));
      await end(peer);
    },
  ),
  streaming(
    "reports an error in the middle of a transaction and falls silent",
    ["postgres"],
    async (peer) => {
      await peer.send(xLogData(BEGIN), say.error("ERROR", "22021", "invalid byte sequence"));
      await peer.closed();
    },
  ),
  streaming("ends the stream in the middle of a transaction", ["stream-ended"], async (peer) => {
    await peer.send(xLogData(BEGIN), xLogData(RELATION), say.copyDone);
    await peer.closed();
  }),
  streaming(
    "shuts down in a storm of requests, and never does",
    STOPPING,
    async (peer) => {
      while (peer.socket.writable) {
        await peer.send(keepalive(0x300n, true));
        await peer.message();
      }
    },
  ),
  {
    ...streaming(
      "shuts down in a storm of requests while a transaction is open",
      STOPPING,
      async (peer) => {
        await peer.send(xLogData(BEGIN));
        while (peer.socket.writable) {
          await peer.send(keepalive(0x300n, true));
          await peer.message();
        }
      },
    ),
    waitsMs: 1000,
  },
];

/** Of a table whose shape is not what the start has told, the catalogue is asked again. */
const CHANGED = encode.relation({ ...DOCUMENTS, identity: "f" });

/** The first answer about the table is honest; the second one is not. */
function secondTime(lie: readonly Uint8Array[]): Lie {
  let asked = 0;
  return (peer) => peer.send(...(asked++ === 0 ? rows(TABLE) : lie));
}

function changes(name: string, kinds: readonly string[], lie: readonly Uint8Array[]): HostileCase {
  return streaming(name, kinds, async (peer) => {
    // Twice: what the start has told is believed once.
    await peer.send(
      ...[BEGIN, CHANGED, CHANGED, INSERT, COMMIT].map((message) => xLogData(message)),
    );
    await end(peer);
  }, { table: secondTime(lie) });
}

const CATALOGUE: HostileCase[] = [
  changes("has lost a table in the middle of the stream", ["works", "key-missing"], rows()),
  changes(
    "has a key of rubbish in the middle of the stream",
    ["catalogue-answer"],
    rows({ ...TABLE, primary_key: "{" }),
  ),
  changes(
    "has a key that is a number in the middle of the stream",
    ["catalogue-answer"],
    rows({ ...TABLE, primary_key: "1" }),
  ),
  changes(
    "has a table of no OID in the middle of the stream",
    ["catalogue-answer"],
    rows({ ...TABLE, oid: null }),
  ),
  changes(
    "has a view in place of a table in the middle of the stream",
    ["table-not-publishable"],
    rows({ ...TABLE, relkind: "v" }),
  ),
  changes("may not be asked in the middle of the stream", ["privilege-missing"], [
    say.error("ERROR", "42501", "no"),
    say.ready,
  ]),
  changes("answers in rows that were not described in the middle of the stream", [
    "protocol-violation",
  ], [say.row("x")]),
  changes("describes a table in -1 bytes in the middle of the stream", ["protocol-violation"], [
    concat([Uint8Array.of(0x54), Uint8Array.from(int16(-1)), Uint8Array.from(int16(-1))]),
  ]),
];

/** By what is wrong. */
export const PGOUTPUT: readonly HostileCase[] = [
  goesOn("streams one row"),
  ...TAGS,
  ...PROTOCOLS,
  ...PARTS,
  ...ROWS,
  ...TABLES,
  ...TRANSACTIONS,
  ...CATALOGUE,
];
