import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertMatch,
  assertThrows,
} from "@std/assert";
import { describe, test } from "node:test";
import {
  DecodeError,
  PgOutputDecoder,
  type PgOutputMessage,
  PgStreamError,
} from "../../../src/pgoutput/mod.ts";
import { heapBytes } from "../../support/collect_garbage.ts";
import { bytesOf, readGolden } from "../../support/golden.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import { UNCHANGED } from "../../support/pgoutput_encoder.ts";
import { seededRandom } from "../../support/random.ts";

const TABLE: encode.TableSpec = {
  oid: 16_385,
  name: "docs",
  identity: "f",
  columns: [{ name: "id", typeOid: 23, key: true }, { name: "title" }, { name: "bödy" }],
};
const INSERT = encode.insert(TABLE.oid, ["1", "títle", null]);

/** A transaction of which a part has come. */
const STREAMED = 4;
const PREPARED = { xid: 2, gid: "gid", prepareLsn: 1n, endLsn: 2n, prepareTimeUs: 3n };

/** One of each, with every kind of tuple and value. */
const MESSAGES: Record<string, Uint8Array> = {
  begin: encode.begin(1n, 2),
  commit: encode.commit(1n, 2n),
  origin: encode.origin(1n, "elsewhere"),
  relation: encode.relation({ ...TABLE, oid: 1 }),
  type: encode.type(16_400, "public", "mood"),
  insert: INSERT,
  "insert in binary": encode.insert(TABLE.oid, [Uint8Array.of(0, 0, 0, 1), null, UNCHANGED]),
  update: encode.update(TABLE.oid, ["1", "a", UNCHANGED]),
  "update with a key": encode.update(TABLE.oid, ["1", "a", "b"], {
    kind: "K",
    values: ["2", null, null],
  }),
  "update with an old row": encode.update(TABLE.oid, ["1", "a", UNCHANGED], {
    kind: "O",
    values: ["1", null, "b"],
  }),
  "delete by key": encode.delete_(TABLE.oid, "K", ["1", null, null]),
  "delete with an old row": encode.delete_(TABLE.oid, "O", ["1", null, "b"]),
  truncate: encode.truncate([TABLE.oid, TABLE.oid], { cascade: true }),
  message: encode.message(1n, "prefix", "content"),
  "stream start": encode.streamStart(7, true),
  "stream commit": encode.streamCommit(STREAMED, 1n, 2n),
  "begin prepare": encode.beginPrepare(PREPARED),
  prepare: encode.prepare(PREPARED),
  "commit prepared": encode.commitPrepared(2, "gid", 1n, 2n),
  "rollback prepared": encode.rollbackPrepared(2, "gid", {
    prepareEndLsn: 1n,
    rollbackEndLsn: 2n,
    prepareTimeUs: 3n,
    rollbackTimeUs: 4n,
  }),
  "stream prepare": encode.streamPrepare({ ...PREPARED, xid: STREAMED }),
};

/** Those that a stream can hold, as they are in it. */
const IN_STREAM = Object.fromEntries(
  Object.entries(MESSAGES).filter(([, bytes]) => "RYIUDTM".includes(letterOf(bytes)))
    .map(([name, bytes]) => [name, encode.streamed(3_000_000_000, bytes)]),
);

function letterOf(bytes: Uint8Array): string {
  return String.fromCharCode(bytes[0]!);
}

function newDecoder(): PgOutputDecoder {
  const decoder = newStream();
  decoder.decode(encode.streamStop());
  decoder.decode(encode.relation(TABLE));
  return decoder;
}

/** A decoder inside of a stream that knows the table. */
function newStream(): PgOutputDecoder {
  const decoder = new PgOutputDecoder();
  decoder.decode(encode.streamStart(STREAMED, true));
  decoder.decode(encode.streamed(STREAMED, encode.relation(TABLE)));
  return decoder;
}

/** The error of decoding, which must be of this library and tell where it happened. */
function errorOf(bytes: Uint8Array, decoder = newDecoder()): DecodeError {
  let message: PgOutputMessage;
  try {
    message = decoder.decode(bytes);
  } catch (error) {
    assertInstanceOf(error, DecodeError);
    assertInstanceOf(error, PgStreamError);
    assertEquals([error.name, error.kind, error.retryable], ["DecodeError", "decode", false]);
    assert(error.offset >= 0 && error.offset <= bytes.length);
    assertEquals(error.messageType, bytes.length === 0 ? null : String.fromCharCode(bytes[0]!));
    return error;
  }
  throw new Error(`Decoded as ${message.type}`);
}

/** `bytes` with `values` put over what is at `offset`. */
function overwritten(bytes: Uint8Array, offset: number, ...values: number[]): Uint8Array {
  const copy = Uint8Array.from(bytes);
  copy.set(values, offset);
  return copy;
}

describe("bytes that are missing or left over", () => {
  for (const [name, bytes] of Object.entries(MESSAGES)) {
    test(`${name}: every cut is an error, and one byte more too`, () => {
      newDecoder().decode(bytes);
      for (let length = 0; length < bytes.length; length++) errorOf(bytes.subarray(0, length));
      assertMatch(errorOf(Uint8Array.of(...bytes, 0)).message, /left over|are not the OIDs/);
    });
  }

  for (const [name, bytes] of Object.entries(IN_STREAM)) {
    test(`${name} in a stream: every cut is an error, and one byte more too`, () => {
      newStream().decode(bytes);
      for (let length = 0; length < bytes.length; length++) {
        errorOf(bytes.subarray(0, length), newStream());
      }
      errorOf(Uint8Array.of(...bytes, 0), newStream());
    });
  }

  test("stream abort: without LSN and time, or with both of them", () => {
    const bytes = encode.streamAbort(4, 5, { abortLsn: 1n, abortTimeUs: 2n });
    for (let length = 0; length <= bytes.length; length++) {
      const part = bytes.subarray(0, length);
      if (length === 9 || length === bytes.length) newDecoder().decode(part);
      else errorOf(part);
    }
    assertMatch(errorOf(Uint8Array.of(...bytes, 0)).message, /left over/);
  });

  test("bytes beyond the message in the same buffer are never looked at", () => {
    const buffer = new Uint8Array(INSERT.length * 2).fill(0x74);
    buffer.set(INSERT, 7);
    const decoder = newDecoder();
    assertEquals(decoder.decode(buffer.subarray(7, 7 + INSERT.length)), decoder.decode(INSERT));
    errorOf(buffer.subarray(7, 6 + INSERT.length));
  });
});

describe("bytes that mean nothing", () => {
  test("an unknown message", () => {
    assertMatch(errorOf(Uint8Array.of(0x7a)).message, /message "z" .* begins with 0x7a\. /);
    assertMatch(errorOf(Uint8Array.of(0x7a), newStream()).message, /inside of a stream .* 0x7a\. /);
  });

  test("what belongs outside of a stream inside of it, and the other way round", () => {
    const inside = newStream();
    const row = encode.streamed(STREAMED, INSERT);
    const before = inside.decode(row);
    for (const [name, bytes] of Object.entries(MESSAGES)) {
      if (name === "origin" || "RYIUDTM".includes(letterOf(bytes))) continue;
      errorOf(bytes, inside);
      assertEquals(inside.decode(row), before, `after ${name}`);
    }
    inside.decode(MESSAGES.origin!);
    inside.decode(encode.streamStop());

    assertMatch(errorOf(encode.streamStop(), inside).message, /no stream has started/);
    assertMatch(errorOf(INSERT, inside).message, /no Relation message came/);
    assertEquals(inside.decode(encode.streamStart(STREAMED, false)).type, "stream-start");
    assertEquals(inside.decode(row), before);
  });

  test("the end of a transaction of which nothing came, or a later part of it", () => {
    for (
      const bytes of [
        encode.streamCommit(9, 1n, 2n),
        encode.streamPrepare({ ...PREPARED, xid: 9 }),
        encode.streamStart(9, false),
      ]
    ) assertMatch(errorOf(bytes).message, /transaction 9 has no first part\. /);
  });

  test("a row or a TRUNCATE of a table that no Relation told of names the OID", () => {
    const decoder = new PgOutputDecoder();
    for (
      const bytes of [INSERT, MESSAGES.update!, MESSAGES["delete by key"]!, MESSAGES.truncate!]
    ) {
      const error = errorOf(bytes, decoder);
      assertMatch(error.message, /no Relation message came for OID 16385\. /);
      assertMatch(error.hint ?? "", /reset\(\)/);
    }
  });

  test("after reset() the tables of the old connection are unknown", () => {
    const decoder = newDecoder();
    decoder.reset();
    errorOf(INSERT, decoder);
    decoder.decode(encode.relation(TABLE));
    decoder.decode(INSERT);
  });

  test("a Relation that fails leaves the shape that was known", () => {
    const decoder = newDecoder();
    const before = decoder.decode(INSERT);
    errorOf(Uint8Array.of(...encode.relation({ ...TABLE, columns: [{ name: "x" }] }), 0), decoder);
    assertEquals(decoder.decode(INSERT), before);
  });

  test("a row with more or fewer columns than its table", () => {
    for (const values of [[], ["1"], ["1", "2"], ["1", "2", "3", "4"]]) {
      const { message } = errorOf(encode.insert(TABLE.oid, values));
      assertMatch(message, new RegExp(`${values.length} columns in a row of a table of 3\\. `));
    }
    assertMatch(errorOf(overwritten(INSERT, 6, 0xff, 0xff)).message, /-1 columns/);
  });

  test("an unknown kind of tuple or of value, or one out of place", () => {
    for (const kind of [0, 0x4b, 0x4f, 0x6e, 0xff]) errorOf(overwritten(INSERT, 5, kind));
    for (const kind of [0, 0x4e, 0x54, 0xff]) errorOf(overwritten(INSERT, 8, kind));
    errorOf(overwritten(MESSAGES["delete by key"]!, 5, 0x4e));
    errorOf(encode.relation({ ...TABLE, identity: "x" as "d" }));
  });

  test("a key without a value is no key", () => {
    const byKey = encode.delete_(TABLE.oid, "K", [null, null, null]);
    assertMatch(errorOf(byKey).message, /column "id" of the key has no value\. /);
    errorOf(encode.delete_(TABLE.oid, "K", [UNCHANGED, null, null]));
  });

  test("text that is not UTF-8, short and long, in values and in names", () => {
    const bad = [[0xff], [0xc3], [0xe4, 0xb8], [0xed, 0xa0, 0x80], [0xc0, 0xaf]];
    for (const bytes of bad.flatMap((tail) => [tail, [...new Array(40).fill(0x61), ...tail]])) {
      const insert = encode.insert(TABLE.oid, ["1", Uint8Array.from(bytes), null]);
      const textKind = insert.length - 1 - bytes.length - 5;
      assertMatch(errorOf(overwritten(insert, textKind, 0x74)).message, /cannot be read as UTF-8/);
    }
    errorOf(overwritten(MESSAGES.relation!, 5, 0xff));
  });
});

describe("lengths and counts that lie", () => {
  const LENGTHS = [-1, -2_147_483_648, 2_147_483_647, 0x00ff_ffff, 1_000];
  const int32 = (value: number) =>
    [value >> 24, value >> 16, value >> 8, value].map((b) => b & 255);

  test("of a value: an error before anything of that size is made", () => {
    for (const length of LENGTHS) {
      errorOf(overwritten(INSERT, 9, ...int32(length)));
      errorOf(overwritten(MESSAGES["insert in binary"]!, 9, ...int32(length)));
    }
  });

  test("of a logical message", () => {
    const at = MESSAGES.message!.length - "content".length - 4;
    for (const length of LENGTHS) errorOf(overwritten(MESSAGES.message!, at, ...int32(length)));
  });

  test("of tables that never cease fill no memory", () => {
    const decoder = new PgOutputDecoder();
    const columns = new Array(1000).fill({ name: "c".repeat(60) });
    const flood = () => {
      for (let oid = 1; oid < 1000; oid++) {
        decoder.decode(encode.relation({ oid, name: "t", columns }));
      }
    };
    assertThrows(flood, DecodeError, "tables are known");
    // The same one again and again is no more than one.
    const another = new PgOutputDecoder();
    const again = encode.relation({ oid: 1, name: "t", columns });
    for (let i = 0; i < 1000; i++) another.decode(again);
  });

  test("of a table whose columns never cease to change fill no memory", async () => {
    const decoder = new PgOutputDecoder();
    const columns = Array.from({ length: 300 }, (_, at) => ({ name: `c_${at}`.padEnd(60, "_") }));
    const relation = encode.relation({ oid: 1, name: "t", columns });
    const nameAt = 1 + 4 + "public\0".length + "t\0".length + 1 + 2 + 1;
    const change = (round: number) => {
      const name = [...`${round}`.padStart(6, "0")].map((digit) => digit.charCodeAt(0));
      decoder.decode(overwritten(relation, nameAt, ...name));
    };
    const before = await heapBytes();
    for (let round = 0; round < 1500; round++) change(round);
    const grown = await heapBytes() - before;
    assert(grown < 50e6, `${grown} bytes are kept`);
    // Its last shape is known all the same.
    const values = Array.from({ length: 300 }, () => "x");
    assertEquals(decoder.decode(encode.insert(1, values)).type, "insert");
  });

  test("of the tables of a TRUNCATE", () => {
    for (const count of [...LENGTHS, 0, 1, 3]) {
      errorOf(overwritten(MESSAGES.truncate!, 1, ...int32(count)));
    }
  });

  test("of the columns of a table", () => {
    const at = 1 + 4 + "public\0".length + "docs\0".length + 1;
    for (const count of [[0xff, 0xff], [0x80, 0], [0x7f, 0xff], [0, 4], [0, 2], [0, 0]]) {
      errorOf(overwritten(MESSAGES.relation!, at, ...count));
    }
  });
});

test("no error tells a value of a row, in any of its parts", () => {
  const canary = "s3cret-canary";
  const whole = encode.update(TABLE.oid, ["1", canary, canary], {
    kind: "O",
    values: ["1", canary, canary.repeat(9) + "é"],
  });
  for (let length = 0; length < whole.length; length++) {
    const error = errorOf(whole.subarray(0, length));
    const texts = [error.message, error.hint, String(error.cause), JSON.stringify(error)];
    assertFalse(texts.some((text) => text?.includes("canary")));
  }
});

test("flipped bits of real messages: a message or a DecodeError, nothing else", () => {
  const seed = 20_260_101;
  const random = seededRandom(seed);
  const messages = readGolden(18).messages.map(({ hex }) => bytesOf(hex));
  for (let round = 0; round < 200; round++) {
    const decoder = new PgOutputDecoder();
    for (const [index, bytes] of messages.entries()) {
      const flipped = Uint8Array.from(bytes);
      // Most messages stay whole, so that the decoder knows tables, some of them wrong ones.
      const flips = random() < 0.7 ? 0 : 1 + Math.floor(random() * 4);
      for (let i = 0; i < flips; i++) {
        flipped[Math.floor(random() * Math.min(bytes.length, 300))]! ^= 1 << (random() * 8);
      }
      try {
        decoder.decode(flipped);
      } catch (error) {
        assertInstanceOf(
          error,
          DecodeError,
          `seed ${seed}, round ${round}, message ${index}: ${error}`,
        );
      }
    }
  }
});
