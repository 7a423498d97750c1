/** Protocols 2 to 4: what the decoder makes of transactions that come in parts, or are prepared. */

import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  DecodeError,
  type Insert,
  PgOutputDecoder,
  type PgOutputMessage,
  type Relation,
} from "../../../src/pgoutput/mod.ts";
import * as encode from "../../support/pgoutput_encoder.ts";

const DOCS: encode.TableSpec = {
  oid: 16_385,
  name: "docs",
  columns: [{ name: "id", key: true }, { name: "title" }],
};
/** The same table, after a column was dropped. */
const NARROW: encode.TableSpec = { ...DOCS, columns: [{ name: "id", key: true }] };
const LATE_XID = 4_294_967_295;
const PREPARED: encode.Prepared = {
  xid: LATE_XID,
  gid: "génial",
  prepareLsn: 0xfedc_ba98_7654_3210n,
  endLsn: 0xfedc_ba98_7654_3250n,
  prepareTimeUs: -1n,
};

function decodeAll(decoder: PgOutputDecoder, ...messages: Uint8Array[]): PgOutputMessage[] {
  return messages.map((bytes) => decoder.decode(bytes));
}

/** A part of a transaction, all of it of one (sub)transaction. */
function part(xid: number, subXid: number, ...messages: Uint8Array[]): Uint8Array[] {
  return [
    encode.streamStart(xid, false),
    ...messages.map((bytes) => encode.streamed(subXid, bytes)),
    encode.streamStop(),
  ];
}

/** A transaction's first part. */
function firstPart(xid: number, ...messages: Uint8Array[]): Uint8Array[] {
  return [encode.streamStart(xid, true), ...part(xid, xid, ...messages).slice(1)];
}

describe("messages of streams", () => {
  test("start, stop, commit", () => {
    const decoder = new PgOutputDecoder();
    assertEquals(
      decodeAll(
        decoder,
        encode.streamStart(LATE_XID, true),
        encode.streamStop(),
        encode.streamStart(LATE_XID, false),
        encode.streamStop(),
        encode.streamCommit(LATE_XID, 0xfedc_ba98_7654_3210n, 0xfedc_ba98_7654_3250n, -5n),
      ),
      [
        { type: "stream-start", xid: LATE_XID, firstSegment: true },
        { type: "stream-stop" },
        { type: "stream-start", xid: LATE_XID, firstSegment: false },
        { type: "stream-stop" },
        {
          type: "stream-commit",
          xid: LATE_XID,
          flags: 0,
          commitLsn: 0xfedc_ba98_7654_3210n,
          endLsn: 0xfedc_ba98_7654_3250n,
          commitTimeUs: -5n,
        },
      ],
    );
  });

  test("abort has an LSN and a time only where the server sent them", () => {
    const decoder = new PgOutputDecoder();
    assertEquals(decoder.decode(encode.streamAbort(7, LATE_XID)), {
      type: "stream-abort",
      xid: 7,
      subXid: LATE_XID,
      abortLsn: null,
      abortTimeUs: null,
    });
    const at = { abortLsn: 0xfedc_ba98_7654_3210n, abortTimeUs: -1n };
    assertEquals(decoder.decode(encode.streamAbort(7, 7, at)), {
      type: "stream-abort",
      xid: 7,
      subXid: 7,
      ...at,
    });
  });

  test("what is inside has the id of its subtransaction, what is outside has none", () => {
    const messages = [
      encode.relation(DOCS),
      encode.type(16_400, "public", "mood"),
      encode.insert(DOCS.oid, ["1", "a"]),
      encode.update(DOCS.oid, ["1", "b"]),
      encode.delete_(DOCS.oid, "K", ["1", null]),
      encode.truncate([DOCS.oid]),
      encode.message(1n, "p", "c", { transactional: true }),
    ];
    const outside = decodeAll(new PgOutputDecoder(), ...messages);
    const decoder = new PgOutputDecoder();
    decoder.decode(encode.streamStart(7, true));
    const inside = decodeAll(
      decoder,
      ...messages.map((bytes) => encode.streamed(LATE_XID, bytes)),
    );
    const xidsOf = (messages: PgOutputMessage[]) =>
      messages.map((message) => "xid" in message ? message.xid : "none");
    assertEquals(xidsOf(outside), messages.map(() => null));
    assertEquals(xidsOf(inside), messages.map(() => LATE_XID));
    const anonymous = (messages: PgOutputMessage[]) =>
      messages.map((message) => ({ ...message, xid: 0, relation: 0, relations: 0 }));
    assertEquals(anonymous(inside), anonymous(outside));
    // Origin is the one that comes without.
    assertEquals(decoder.decode(encode.origin(0n, "o")), {
      type: "origin",
      originLsn: 0n,
      name: "o",
    });
  });
});

describe("messages of prepared transactions", () => {
  const { xid, gid, prepareLsn, endLsn, prepareTimeUs } = PREPARED;
  const told = { prepareLsn, endLsn, prepareTimeUs, xid, gid };

  test("begin prepare, prepare, stream prepare", () => {
    const decoder = new PgOutputDecoder();
    decodeAll(decoder, ...firstPart(xid));
    assertEquals(
      decodeAll(
        decoder,
        encode.beginPrepare(PREPARED),
        encode.prepare(PREPARED),
        encode.streamPrepare(PREPARED),
      ),
      [
        { type: "begin-prepare", ...told },
        { type: "prepare", flags: 0, ...told },
        { type: "stream-prepare", flags: 0, ...told },
      ],
    );
  });

  test("commit prepared, rollback prepared", () => {
    const at = {
      prepareEndLsn: 1n,
      rollbackEndLsn: 0xfedc_ba98_7654_3250n,
      prepareTimeUs: 3n,
      rollbackTimeUs: -4n,
    };
    assertEquals(
      decodeAll(
        new PgOutputDecoder(),
        encode.commitPrepared(xid, gid, 5n, 0xfedc_ba98_7654_3250n, -6n),
        encode.rollbackPrepared(xid, gid, at),
      ),
      [
        {
          type: "commit-prepared",
          flags: 0,
          commitLsn: 5n,
          endLsn: 0xfedc_ba98_7654_3250n,
          commitTimeUs: -6n,
          xid,
          gid,
        },
        { type: "rollback-prepared", flags: 0, ...at, xid, gid },
      ],
    );
  });
});

describe("tables that are told of in a stream", () => {
  const row = encode.insert(DOCS.oid, ["1", "a"]);
  const narrowRow = encode.insert(DOCS.oid, ["1"]);
  const begun = () => {
    const decoder = new PgOutputDecoder();
    const told = decodeAll(decoder, ...firstPart(7, encode.relation(DOCS)))[1] as Relation;
    return { decoder, told };
  };

  test("are known in its later parts, and to nobody else", () => {
    const { decoder, told } = begun();
    assertThrows(() => decoder.decode(row), DecodeError);
    const [, other] = decodeAll(decoder, ...firstPart(8, encode.relation(NARROW)));
    assertStrictEquals((decodeAll(decoder, ...part(7, 9, row))[1] as Insert).relation, told);
    assertStrictEquals((decodeAll(decoder, ...part(8, 8, narrowRow))[1] as Insert).relation, other);
    const global = decoder.decode(encode.relation(DOCS));
    assertStrictEquals((decoder.decode(row) as Insert).relation, global);
    assertStrictEquals((decodeAll(decoder, ...part(8, 8, narrowRow))[1] as Insert).relation, other);
  });

  for (
    const [name, end] of [
      ["commit", encode.streamCommit(7, 1n, 2n)],
      ["prepare", encode.streamPrepare({ ...PREPARED, xid: 7 })],
    ] as const
  ) {
    test(`are everybody's after its ${name}`, () => {
      const { decoder, told } = begun();
      decoder.decode(end);
      assertStrictEquals((decoder.decode(row) as Insert).relation, told);
      assertThrows(() => decoder.decode(encode.streamStart(7, false)), DecodeError);
    });
  }

  test("replace what was told before, but not what was told since", () => {
    const decoder = new PgOutputDecoder();
    decoder.decode(encode.relation(NARROW));
    decodeAll(decoder, ...firstPart(7, encode.relation(DOCS)), encode.streamCommit(7, 1n, 2n));
    decoder.decode(row);

    decodeAll(decoder, ...firstPart(8, encode.relation(DOCS)), encode.relation(NARROW));
    decoder.decode(encode.streamCommit(8, 3n, 4n));
    decoder.decode(narrowRow);
  });

  test("are forgotten when it is rolled back", () => {
    const decoder = new PgOutputDecoder();
    decoder.decode(encode.relation(NARROW));
    decodeAll(decoder, ...firstPart(7, encode.relation(DOCS)), encode.streamAbort(7, 7));
    decoder.decode(narrowRow);
    assertThrows(() => decoder.decode(encode.streamStart(7, false)), DecodeError);
  });

  test("stay when a subtransaction is rolled back, even the one that told of them", () => {
    const decoder = new PgOutputDecoder();
    decodeAll(decoder, ...firstPart(7), ...part(7, 8, encode.relation(DOCS), row));
    decoder.decode(encode.streamAbort(7, 8));
    decodeAll(decoder, ...part(7, 7, row));
  });

  test("are unknown in a transaction of the same id that begins anew", () => {
    const { decoder } = begun();
    decoder.decode(encode.streamStart(7, true));
    assertThrows(() => decoder.decode(encode.streamed(7, row)), DecodeError);
  });

  test("reset() leaves the stream and forgets them", () => {
    const { decoder } = begun();
    decoder.decode(encode.streamStart(7, false));
    decoder.reset();
    decoder.decode(encode.begin(1n, 2));
    assertThrows(() => decoder.decode(encode.streamStart(7, false)), DecodeError);
  });

  test("never fill the memory: not many tables, not many streams", () => {
    const decoder = new PgOutputDecoder();
    const columns = new Array(1000).fill({ name: "c".repeat(60) });
    const relation = encode.relation({ oid: 1, name: "t", columns });
    const stream = (xid: number) => decodeAll(decoder, ...firstPart(xid, relation));
    const flood = () => {
      for (let xid = 1; xid < 1000; xid++) stream(xid);
    };
    const error = assertThrows(flood, DecodeError, "more than can be kept in mind");
    assertEquals(error.kind, "decode");
    // What ends makes room again.
    decoder.reset();
    for (let xid = 1; xid < 1000; xid++) {
      stream(xid);
      decoder.decode(xid % 2 ? encode.streamAbort(xid, xid) : encode.streamCommit(xid, 1n, 2n));
    }
    // One that begins anew is no more than one.
    for (let round = 0; round < 1000; round++) stream(7);
    const empty = () => {
      for (let xid = 1; xid < 1_000_000; xid++) decodeAll(decoder, ...firstPart(xid));
    };
    assertThrows(empty, DecodeError, "more than can be kept in mind");
  });
});
