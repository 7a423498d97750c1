/**
 * Servers that never stop sending. Each would send hundreds of megabytes in its time, and would be seen to
 * where the client kept any of it. What the client may keep is, in MiB: 1 of parameters, 1 of a notice, 32 of
 * the rows of a query, 8 of changes that wait; on top comes what a runtime leaves lying about.
 */
import type { HostileCase, Operation } from "../../support/hostile_server.ts";
import {
  DOCUMENTS,
  keepalive,
  postgres,
  transactionOf,
  xLogData,
} from "../../support/hostile_postgres.ts";
import * as encode from "../../support/pgoutput_encoder.ts";
import {
  concat,
  int16,
  int32,
  msg,
  type Peer,
  say,
  welcome,
} from "../../support/scripted_server.ts";

/** What a runtime grows by when so much goes through it and nothing is kept. */
const GARBAGE_MIB = 160;
const FLAT = { maxGrowthMiB: GARBAGE_MIB };
/** … where each message is a mebibyte, or becomes several of objects. */
const LARGE = { maxGrowthMiB: 2 * GARBAGE_MIB };
/** As objects, short values take several times what they take in their messages. */
const ROWS = { maxGrowthMiB: GARBAGE_MIB + 32 * 5 };
const VIOLATION = { kinds: ["protocol-violation"], waitsMs: 2000 };
const TIMEOUT = { kinds: ["connect-timeout"], waitsMs: 1000 };
/** The caller's signal, and what the server gets to cancel the statement. */
const ABORTED = { kinds: ["aborted"], abortMs: 300, waitsMs: 2000 };
const CHUNK_BYTES = 256 * 1024;

/** Sends it over and over again, for as long as the client is there. */
async function pour(peer: Peer, ...messages: Uint8Array[]): Promise<void> {
  const once = concat(messages);
  const chunk = concat(new Array(Math.max(1, Math.round(CHUNK_BYTES / once.length))).fill(once));
  while (peer.socket.writable) await peer.send(chunk);
}

/**
 * Sends it over and over again, each time with another number in it. Cheaply: client and server share a
 * thread, and the client is to have it.
 *
 * @param number puts it in; `at` is where the message begins
 */
async function pourEach(
  peer: Peer,
  message: Uint8Array,
  number: (view: DataView, at: number, i: number) => void,
): Promise<void> {
  const count = Math.ceil(CHUNK_BYTES / message.length);
  for (let i = 0; peer.socket.writable;) {
    const chunk = concat(new Array(count).fill(message));
    const view = new DataView(chunk.buffer);
    for (let at = 0; at < chunk.length; at += message.length) number(view, at, i++);
    await peer.send(chunk);
  }
}

/** Where the position of a keepalive, and the positions and the data of XLogData lie in their messages. */
const WAL_END = 6;
const WAL_START = 6;
const DATA = 30;

type Limits = Pick<HostileCase, "kinds" | "waitsMs" | "abortMs" | "maxGrowthMiB">;

function starting(name: string, limits: Limits, flood: (peer: Peer) => Promise<void>): HostileCase {
  const script = async (peer: Peer) => {
    await peer.startup();
    await flood(peer);
  };
  return { name, operation: "connect", script, ...limits };
}

function asked(
  name: string,
  limits: Limits,
  flood: (peer: Peer) => Promise<void>,
  operation: Operation = "query",
): HostileCase {
  let flooded: Peer | null = null;
  const script = async (peer: Peer) => {
    // The request to cancel. That it may be ignored is tried elsewhere: here it would cost two seconds each time.
    if (flooded !== null) return void [flooded, peer].forEach(({ socket }) => socket.destroy());
    flooded = peer;
    await welcome(peer);
    await peer.message();
    await flood(peer);
  };
  return { name, operation, script, ...limits };
}

function streaming(
  name: string,
  operation: Operation,
  limits: Limits,
  flood: (peer: Peer) => Promise<void>,
): HostileCase {
  const script = postgres({}, async (peer) => {
    await peer.send(say.copyBoth);
    await flood(peer);
  });
  return { name, operation, script, ...limits };
}

const letters = (count: number) => "x".repeat(count);
const T = say.columns("a");
const empty = msg("D", int16(0));
const nulls = msg("D", int16(40_000), new Uint8Array(160_000).fill(0xff));
const column = concat([
  Uint8Array.of(0x61, 0),
  Uint8Array.from([
    ...int32(0),
    ...int16(0),
    ...int32(25),
    ...int16(-1),
    ...int32(-1),
    ...int16(0),
  ]),
]);
const wide = msg("T", int16(40_000), concat(new Array(40_000).fill(column)));
const parameter = say.parameter("p0000", letters(1000));
const anotherName = (view: DataView, at: number, i: number) => {
  // Four letters of sixteen kinds.
  view.setUint32(at + 6, 0x61616161 + Number(BigInt.asUintN(32, spread(i))));
};
const spread = (i: number) =>
  BigInt(i & 15) | BigInt((i >> 4) & 15) << 8n | BigInt((i >> 8) & 15) << 16n |
  BigInt((i >> 12) & 15) << 24n;

const STARTING: HostileCase[] = [
  starting(
    "notices for ever",
    { ...TIMEOUT, ...FLAT },
    (peer) => pour(peer, say.notice(letters(500))),
  ),
  starting(
    "notices for ever, a mebibyte each time",
    { ...TIMEOUT, ...LARGE },
    (peer) => pour(peer, say.notice(letters(1024 * 1024 - 100))),
  ),
  starting("reports one parameter for ever", { ...TIMEOUT, ...FLAT }, async (peer) => {
    await peer.send(say.authenticationOk);
    await pour(peer, parameter);
  }),
  starting("reports one parameter more for ever", { ...VIOLATION, ...FLAT }, async (peer) => {
    await peer.send(say.authenticationOk);
    await pourEach(peer, parameter, anotherName);
  }),
  starting(
    "never ends a message of a gibibyte that it may not send",
    { ...VIOLATION, ...FLAT },
    (peer) => pour(peer, Uint8Array.of(0x45, ...int32(1024 * 1024 * 1024))),
  ),
];

const ASKED: HostileCase[] = [
  asked("sends rows for ever", { ...VIOLATION, ...ROWS }, async (peer) => {
    await peer.send(T);
    await pour(peer, say.row(letters(1000)));
  }),
  asked("sends rows of two letters for ever", { ...VIOLATION, ...ROWS }, async (peer) => {
    await peer.send(T);
    await pour(peer, say.row("ab"));
  }),
  asked("sends rows of no columns for ever", { ...VIOLATION, ...ROWS }, async (peer) => {
    await peer.send(msg("T", int16(0)));
    await pour(peer, empty);
  }),
  asked("sends rows of forty thousand NULLs for ever", { ...VIOLATION, ...ROWS }, async (peer) => {
    await peer.send(wide);
    await pour(peer, nulls);
  }),
  asked(
    "sends results for ever",
    { ...ABORTED, ...FLAT },
    (peer) => pour(peer, T, say.complete("SELECT 0")),
  ),
  asked(
    "describes forty thousand columns for ever",
    { ...ABORTED, ...LARGE },
    (peer) => pour(peer, wide, say.complete("SELECT 0")),
  ),
  asked("sends results of a row each for ever", {
    ...VIOLATION,
    kinds: ["protocol-violation", "aborted"],
    abortMs: 2000,
    ...ROWS,
  }, (peer) => pour(peer, T, say.row(letters(1000)), say.complete("SELECT 1"))),
  asked("answers empty queries for ever", { ...ABORTED, ...FLAT }, (peer) => pour(peer, msg("I"))),
  asked(
    "sends errors for ever",
    { ...ABORTED, ...FLAT },
    (peer) => pour(peer, say.error("ERROR", "42P01", letters(500))),
  ),
  asked("sends COPY data for ever in place of rows", { ...ABORTED, ...FLAT }, async (peer) => {
    await peer.send(say.copyOut);
    await pour(peer, say.copyData(letters(1000)));
  }),
  asked(
    "notices for ever in place of an answer",
    { ...ABORTED, ...FLAT },
    (peer) => pour(peer, say.notice(letters(500))),
  ),
  asked(
    "notifies for ever in place of an answer",
    { ...ABORTED, ...FLAT },
    (peer) => pour(peer, msg("A", int32(1), `c\0${letters(500)}\0`)),
  ),
  asked(
    "reports one parameter more for ever in place of an answer",
    { ...VIOLATION, ...FLAT },
    (peer) => pourEach(peer, parameter, anotherName),
  ),
  asked(
    "wants COPY data for ever, and reads none",
    { ...ABORTED, ...FLAT },
    (peer) => {
      peer.socket.pause();
      return pour(peer, msg("G", [0], int16(0)));
    },
  ),
  asked(
    "announces a gibibyte and sends it a byte at a time",
    { ...ABORTED, ...FLAT },
    async (peer) => {
      await peer.send(T, Uint8Array.of(0x44, ...int32(1024 * 1024 * 1024)));
      while (peer.socket.writable) {
        await peer.send(Uint8Array.of(0));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    },
  ),
  asked("copies rows for ever", { ...ABORTED, ...FLAT }, async (peer) => {
    await peer.send(say.copyOut);
    await pour(peer, say.copyData(`${letters(1000)}\n`));
  }, "COPY"),
  asked("ends a COPY for ever", { ...VIOLATION, ...FLAT }, async (peer) => {
    await peer.send(say.copyOut);
    await pour(peer, say.copyDone);
  }, "COPY"),
  asked("completes a COPY for ever", { ...ABORTED, ...FLAT }, async (peer) => {
    await peer.send(say.copyOut, say.copyDone);
    await pour(peer, say.complete("COPY 0"));
  }, "COPY"),
  asked("begins no COPY, and sends rows for ever", { ...ABORTED, ...FLAT }, async (peer) => {
    await peer.send(T);
    await pour(peer, say.row(letters(1000)));
  }, "COPY"),
];

const begun = xLogData(encode.begin(0x200n, 1));
const told = xLogData(encode.relation(DOCUMENTS));
const row = xLogData(encode.insert(DOCUMENTS.oid, ["1", letters(1000)]));
const one = concat(transactionOf("1"));
const STREAM_ABORTED = { ...ABORTED, waitsMs: 1000 };

/** Transactions for ever, one behind the other, each of `rows`. */
function transactions(peer: Peer, rows: Uint8Array[]): Promise<void> {
  const commit = xLogData(encode.commit(0n, 0n));
  const whole = concat([begun, ...rows, commit]);
  const commitAt = whole.length - commit.length;
  return pourEach(peer, whole, (view, at, i) => {
    const lsn = 0x1000n + BigInt(i) * 0x100n;
    view.setBigUint64(at + DATA + 1, lsn);
    view.setBigUint64(at + commitAt + WAL_START, lsn);
    view.setBigUint64(at + commitAt + DATA + 2, lsn);
    view.setBigUint64(at + commitAt + DATA + 10, lsn + 0x10n);
  });
}

const keepalives = (peer: Peer, replyRequested: boolean) =>
  pourEach(
    peer,
    keepalive(0n, replyRequested),
    (view, at, i) => view.setBigUint64(at + WAL_END, BigInt(0x1000 + i)),
  );

const STREAMING: HostileCase[] = [
  streaming("sends a transaction without an end", "start(), taking all", {
    ...STREAM_ABORTED,
    ...FLAT,
  }, async (peer) => {
    await peer.send(begun, told);
    await pour(peer, row);
  }),
  streaming(
    "sends a transaction without an end to a handler that hangs",
    "start(), taking nothing",
    { ...STREAM_ABORTED, abortMs: 1500, ...FLAT },
    async (peer) => {
      await peer.send(begun, told);
      await pour(peer, row);
    },
  ),
  streaming("sends transactions for ever to a handler that hangs", "start(), taking nothing", {
    ...STREAM_ABORTED,
    abortMs: 1500,
    ...FLAT,
  }, async (peer) => {
    await peer.send(one);
    await transactions(peer, [row]);
  }),
  streaming(
    "sends empty transactions for ever to a handler that hangs",
    "start(), taking nothing",
    { ...STREAM_ABORTED, ...FLAT },
    async (peer) => {
      await peer.send(one);
      await transactions(peer, []);
    },
  ),
  streaming("sends keepalives for ever to a handler that hangs", "start(), taking nothing", {
    ...STREAM_ABORTED,
    ...FLAT,
  }, async (peer) => {
    await peer.send(one);
    await keepalives(peer, false);
  }),
  streaming("asks for replies for ever, and reads none", "start(), taking nothing", {
    ...STREAM_ABORTED,
    kinds: ["aborted", "server-stopping", "stream-ended"],
    ...FLAT,
  }, async (peer) => {
    peer.socket.pause();
    await peer.send(one);
    await keepalives(peer, true);
  }),
  streaming("sends logical messages for ever", "start(), taking all", {
    ...STREAM_ABORTED,
    ...FLAT,
  }, (peer) => pour(peer, xLogData(encode.message(1n, "prefix", letters(1000))))),
  streaming("tells of the watched table for ever", "start(), taking all", {
    ...STREAM_ABORTED,
    ...FLAT,
  }, async (peer) => {
    await peer.send(begun);
    await pour(peer, told);
  }),
  streaming("tells of one table more for ever", "start(), taking all", {
    ...STREAM_ABORTED,
    abortMs: 1500,
    kinds: ["aborted", "decode"],
    ...LARGE,
  }, async (peer) => {
    await peer.send(begun);
    const table = encode.relation({
      oid: 0,
      name: "t",
      columns: new Array(50).fill({ name: letters(60) }),
    });
    await pourEach(
      peer,
      xLogData(table),
      (view, at, i) => view.setUint32(at + DATA + 1, i + 20_000),
    );
  }),
  streaming(
    "empties a table a million times at once, before a handler that hangs",
    "start(), taking nothing",
    { ...STREAM_ABORTED, abortMs: 1500, kinds: ["aborted", "decode"], ...FLAT },
    async (peer) => {
      await peer.send(begun, told, truncates(1_000_000));
      await peer.closed();
    },
  ),
  streaming("sends what no stream has for ever", "START_REPLICATION", {
    kinds: ["replication-message"],
    ...FLAT,
  }, (peer) => pour(peer, say.copyData(letters(1000)))),
];

/** A Truncate of one table so many times. */
function truncates(count: number): Uint8Array {
  const oids = concat(new Array(count).fill(Uint8Array.from(int32(DOCUMENTS.oid))));
  return xLogData(concat([Uint8Array.from([0x54, ...int32(count), 0]), oids]));
}

/** Of start-up, queries and copies. */
export const FLOODS: readonly HostileCase[] = [...STARTING, ...ASKED];
/** Of streams. */
export const STREAM_FLOODS: readonly HostileCase[] = STREAMING;
