/** Attacks on a COPY, and on the stream that START_REPLICATION begins. */
import {
  afterTheQuestion,
  casesOf,
  type HostileCase,
  type Operation,
} from "../../support/hostile_server.ts";
import { ByteWriter } from "../../../src/bytes.ts";
import {
  end,
  keepalive,
  type Lie,
  postgres,
  type Question,
  rows,
  SLOT,
  SYSTEM,
  xLogData,
} from "../../support/hostile_postgres.ts";
import { concat, int16, msg, type Peer, say } from "../../support/scripted_server.ts";

const VIOLATION = ["protocol-violation"];
const LOST = ["connection-lost"];
/** The caller's signal, and what the server gets to cancel the statement. */
const ABORTED = { kinds: ["aborted"], abortMs: 200, waitsMs: 2000 };
const Z = say.ready;
const DONE = [say.copyDone, say.complete("COPY 2"), Z];
const ROWS = [say.copyOut, say.copyData("a\n"), say.copyData("b\n")];

const copying = casesOf("COPY", afterTheQuestion);

function copies(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return copying(name, kinds, async (peer) => {
    await peer.send(...messages);
    await peer.closed();
  });
}

/** Of COPY … TO STDOUT. */
export const COPY_OUT: readonly HostileCase[] = [
  copies("copies two rows", ["works"], ...ROWS, ...DONE),
  copies(
    "answers a COPY by a query's rows",
    ["wrong-statement"],
    say.columns("a"),
    say.row("1"),
    say.complete("SELECT 1"),
    Z,
  ),
  copies("answers a COPY by nothing but being ready", ["wrong-statement"], Z),
  copies("answers a COPY by wanting data", ["wrong-statement"], msg("G", [0], int16(0))),
  copies("answers a COPY by copying in both directions", ["wrong-statement"], say.copyBoth),
  copies(
    "sends rows of a COPY that it has not begun",
    VIOLATION,
    say.copyData("a\n"),
    ...ROWS,
    ...DONE,
  ),
  copies("ends a COPY that it has not begun", VIOLATION, say.copyDone, ...ROWS, ...DONE),
  copies("copies in format 2", VIOLATION, msg("H", [2], int16(0))),
  copies("copies fewer columns than it counts", VIOLATION, msg("H", [0], int16(2), int16(0))),
  copies("copies more columns than it counts", VIOLATION, msg("H", [0], int16(0), int16(0))),
  copies("copies 65,535 columns in a message of three bytes", VIOLATION, msg("H", [0], [255, 255])),
  copies("begins a COPY twice", VIOLATION, ...ROWS, say.copyOut),
  copies("is ready in the middle of a COPY", VIOLATION, ...ROWS, Z),
  copies(
    "ends a COPY and is ready without having completed it",
    VIOLATION,
    ...ROWS,
    say.copyDone,
    Z,
  ),
  copies("completes a COPY that it has not ended", VIOLATION, ...ROWS, say.complete("COPY 2"), Z),
  copies(
    "sends a row behind the end of a COPY",
    VIOLATION,
    ...ROWS,
    say.copyDone,
    say.copyData("c\n"),
    ...DONE,
  ),
  copies("ends a COPY, with something", VIOLATION, ...ROWS, msg("c", "x")),
  copies(
    "completes a COPY by a tag that has no end",
    VIOLATION,
    ...ROWS,
    say.copyDone,
    msg("C", "COPY 2"),
  ),
  copies("sends a query's row in the middle of a COPY", VIOLATION, ...ROWS, say.row("1")),
  copies("describes columns in the middle of a COPY", VIOLATION, ...ROWS, say.columns("a")),
  copies("copies rows of no bytes", ["works"], say.copyOut, msg("d"), msg("d"), ...DONE),
  copies(
    "reports an error in the middle of a COPY",
    ["postgres"],
    ...ROWS,
    say.error("ERROR", "22021", "no"),
    Z,
  ),
  copies(
    "reports an error in place of a COPY",
    ["privilege-missing"],
    say.error("ERROR", "42501", "no"),
    Z,
  ),
  copies(
    "reports a fatal error in the middle of a COPY",
    LOST,
    ...ROWS,
    say.error("FATAL", "57P01", "over"),
  ),
  {
    ...copies(
      "reports an error in the middle of a COPY and falls silent",
      [],
      ...ROWS,
      say.error("ERROR", "22021", "no"),
    ),
    ...ABORTED,
  },
  { ...copies("never begins a COPY", []), ...ABORTED },
  { ...copies("falls silent in the middle of a COPY", [], ...ROWS), ...ABORTED },
  { ...copies("ends a COPY and falls silent", [], ...ROWS, say.copyDone), ...ABORTED },
  {
    ...copies(
      "completes a COPY and is never ready",
      [],
      ...ROWS,
      say.copyDone,
      say.complete("COPY 2"),
    ),
    ...ABORTED,
  },
  copying("closes in the middle of a COPY", LOST, async (peer) => {
    await peer.send(...ROWS);
    peer.socket.end();
  }),
  copying("closes in the middle of a COPY's row", LOST, async (peer) => {
    await peer.send(say.copyOut, say.copyData("a\n").subarray(0, 6));
    peer.socket.end();
  }),
];

function replicating(
  name: string,
  kinds: readonly string[],
  stream: (peer: Peer) => Promise<void>,
  lies: Partial<Record<Question, Lie>> = {},
): HostileCase {
  return { name, operation: "START_REPLICATION", kinds, script: postgres(lies, stream) };
}

/** In answer to START_REPLICATION, and then silence: but for what the client waits for, nothing more comes. */
function replies(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return replicating(name, kinds, async (peer) => {
    await peer.send(...messages);
    await peer.closed();
  });
}

/** In the running stream. */
function streams(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return replies(name, kinds, say.copyBoth, ...messages);
}

/** … which the server then ends as it is due. */
function streamsAndEnds(name: string, kinds: readonly string[], ...messages: Uint8Array[]) {
  return replicating(name, kinds, async (peer) => {
    await peer.send(say.copyBoth, ...messages, say.copyDone);
    await end(peer);
  });
}

const DATA = xLogData(new TextEncoder().encode("data"));
const payload = (type: string, length: number) =>
  say.copyData(new ByteWriter().writeText(type).writeBytes(new Uint8Array(length - 1)).finish());
const ERROR = say.error("ERROR", "42P01", "no");

/** Refuses START_REPLICATION, and answers what it is asked then. */
function refuses(
  name: string,
  kinds: readonly string[],
  code: string,
  lies: Partial<Record<Question, Lie>> = {},
): HostileCase {
  return replicating(name, kinds, (peer) => peer.send(say.error("ERROR", code, "no"), Z), lies);
}

const BEGINNING: HostileCase[] = [
  replicating("streams and ends", ["works"], async (peer) => {
    await peer.send(say.copyBoth, DATA, keepalive(0x300n), say.copyDone);
    await end(peer);
  }),
  replies(
    "answers START_REPLICATION by a COPY",
    ["wrong-statement"],
    say.copyOut,
    say.copyDone,
    say.complete("COPY 0"),
    Z,
  ),
  replies(
    "answers START_REPLICATION by wanting data",
    ["wrong-statement"],
    msg("G", [0], int16(0)),
  ),
  replies(
    "answers START_REPLICATION by a query's rows",
    ["wrong-statement"],
    say.columns("a"),
    say.complete("SELECT 0"),
    Z,
  ),
  replies("answers START_REPLICATION by being ready", ["wrong-statement"], Z),
  replies("sends the stream before it has begun it", VIOLATION, DATA, say.copyBoth),
  replies("ends the stream before it has begun it", VIOLATION, say.copyDone, say.copyBoth),
  replies("begins the stream in no bytes", VIOLATION, msg("W")),
  replies("begins the stream in format 9", VIOLATION, msg("W", [9], int16(0))),
  replies("begins the stream with more columns than it has", VIOLATION, msg("W", [0], int16(3))),
  { ...replies("never begins the stream", []), ...ABORTED },
  replies(
    "says that the slot is not there",
    ["slot-missing"],
    say.error("ERROR", "42704", "no"),
    Z,
  ),
  refuses("says that the slot is in use, and of it nothing", ["slot-in-use"], "55006"),
  refuses("says that the slot is not in the right state, which it is", ["postgres"], "55000"),
  refuses(
    "says that the slot is lost, and of it rubbish",
    ["slot-lost", "catalogue-answer"],
    "55000",
    { slot: rows({ ...SLOT, confirmed_flush_lsn: "x", wal_status: "lost" }) },
  ),
  refuses(
    "says that the slot is in use, by nobody that has a number",
    ["slot-in-use", "catalogue-answer"],
    "55006",
    { slot: rows({ ...SLOT, active_pid: "nobody" }) },
  ),
  replies(
    "skips the publication with a warning",
    ["publication-missing"],
    say.copyBoth,
    msg("N", "SWARNING\0VWARNING\0C01000\0Mskipped\0RLoadPublications\0", [0]),
  ),
];

const PAYLOADS: HostileCase[] = [
  streams("streams a payload of no bytes", ["replication-message"], msg("d")),
  streams("streams a payload of an unknown type", ["replication-message"], payload("x", 30)),
  streams("streams a payload of the client's own type", ["replication-message"], payload("r", 34)),
  streams("streams XLogData of one byte", ["replication-message"], payload("w", 1)),
  streams(
    "streams XLogData that is a byte short of its header",
    ["replication-message"],
    payload("w", 24),
  ),
  streamsAndEnds("streams XLogData of nothing but its header", ["works"], payload("w", 25)),
  streams("streams a keepalive of one byte", ["replication-message"], payload("k", 1)),
  streams("streams a keepalive that is a byte short", ["replication-message"], payload("k", 17)),
  streams("streams a keepalive that is a byte long", ["replication-message"], payload("k", 19)),
];

const POSITIONS: HostileCase[] = [
  streamsAndEnds(
    "goes back in its positions",
    ["works"],
    xLogData(Uint8Array.of(1), 0x900n),
    xLogData(Uint8Array.of(1), 0x100n),
    keepalive(0x50n),
  ),
  streamsAndEnds(
    "is at the largest position there is",
    ["works"],
    xLogData(Uint8Array.of(1), 2n ** 64n - 1n),
    keepalive(2n ** 64n - 1n, true),
  ),
  streamsAndEnds(
    "is at position 0",
    ["works"],
    xLogData(Uint8Array.of(1), 0n),
    keepalive(0n, true),
  ),
  streamsAndEnds(
    "has a clock at both ends of time",
    ["works"],
    keepalive(0x300n, true, -(2n ** 63n)),
    keepalive(0x300n, true, 2n ** 63n - 1n),
    xLogData(Uint8Array.of(1), 0x300n, -(2n ** 63n)),
  ),
];

const COPY_ENDS: HostileCase[] = [
  streams("ends the stream and falls silent", ["works"], DATA, say.copyDone),
  streams("completes the stream and falls silent", ["works"], DATA, say.complete("COPY 0")),
  streams("completes the stream by a tag that has no end", ["works"], DATA, msg("C", "COPY 0")),
  streams("ends the stream, with something", VIOLATION, DATA, msg("c", "x")),
  streams("reports an error in the middle of the stream", ["postgres"], DATA, ERROR, Z),
  streams(
    "reports an error in the middle of the stream and falls silent",
    ["postgres"],
    DATA,
    ERROR,
  ),
  replicating(
    "reports an error in the middle of the stream and closes",
    ["postgres"],
    async (peer) => {
      await peer.send(say.copyBoth, DATA, ERROR);
      peer.socket.end();
    },
  ),
  replicating(
    "reports an error in the middle of the stream and talks on",
    ["postgres"],
    async (peer) => {
      await peer.send(say.copyBoth, DATA, ERROR);
      while (peer.socket.writable) {
        await peer.send(say.notice("still here"), DATA);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
  ),
  streams(
    "reports an error of the publication in the middle of the stream",
    ["publication-missing"],
    DATA,
    say.error("ERROR", "42704", "no"),
    Z,
  ),
  streams(
    "reports a fatal error in the middle of the stream",
    LOST,
    DATA,
    say.error("FATAL", "57P01", "over"),
  ),
  streams(
    "reports an error that does not parse in the middle of the stream",
    VIOLATION,
    DATA,
    msg("E", "x"),
  ),
  streams("sends a query's row in the middle of the stream", VIOLATION, DATA, say.row("1")),
  streams("is ready in the middle of the stream", VIOLATION, DATA, Z),
  streams("begins the stream twice", VIOLATION, DATA, say.copyBoth),
  streams("fails the copy as a client does", VIOLATION, DATA, msg("f", "no\0")),
  streams("asks for a password in the middle of the stream", VIOLATION, DATA, say.cleartext),
  replicating("closes in the middle of the stream", LOST, async (peer) => {
    await peer.send(say.copyBoth, DATA);
    peer.socket.end();
  }),
  replicating("closes in the middle of a payload", LOST, async (peer) => {
    await peer.send(say.copyBoth, DATA.subarray(0, 12));
    peer.socket.end();
  }),
  replicating("resets the connection in the middle of the stream", LOST, async (peer) => {
    await peer.send(say.copyBoth, DATA);
    peer.socket.resetAndDestroy();
  }),
];

const STORMS: HostileCase[] = [
  streamsAndEnds(
    "sends a hundred thousand keepalives",
    ["works"],
    concat(new Array(100_000).fill(keepalive(0x300n))),
  ),
  {
    ...replicating(
      "asks for a reply a hundred thousand times, and counts them",
      ["works"],
      async (peer) => {
        await peer.send(say.copyBoth);
        const begun = performance.now();
        const asks = concat(new Array(1000).fill(keepalive(0x300n, true)));
        for (let i = 0; i < 100; i++) await peer.send(asks);
        await peer.send(say.copyDone);
        let answers = 0;
        for (let type = ""; type !== "c"; { type } = await peer.message()) answers++;
        const most = 10 + (performance.now() - begun) / 100;
        if (answers > most) throw new Error(`${answers} answers, ${Math.round(most)} are too many`);
        await peer.send(say.copyDone, say.complete("COPY 0"), Z);
      },
    ),
    waitsMs: 1000,
  },
];

/** What is asked before the stream begins. */
const ANSWERS: HostileCase[] = ([
  ["knows no system", "identify", rows()],
  ["identifies its system in no columns", "identify", rows({})],
  [
    "identifies its system by nulls",
    "identify",
    rows({ systemid: null, timeline: null, xlogpos: null, dbname: null }),
  ],
  ["is at a position that is none", "identify", rows({ ...SYSTEM, xlogpos: "over there" })],
  ["is at a position of too many digits", "identify", rows({ ...SYSTEM, xlogpos: "123456789/0" })],
  ["is on a timeline that is no number", "identify", rows({ ...SYSTEM, timeline: "one" })],
  ["has no wal_sender_timeout", "timeout", rows()],
  ["has a wal_sender_timeout of null", "timeout", rows({ setting: null })],
  ["has a wal_sender_timeout that is no number", "timeout", rows({ setting: "soon" })],
  ["has a negative wal_sender_timeout", "timeout", rows({ setting: "-1" })],
  ["has a wal_sender_timeout beyond all numbers", "timeout", rows({ setting: "1e999" })],
  ["does not know the client's session", "backend", rows()],
  ["knows the client's session by no number", "backend", rows({ pid: null, backend_start: null })],
] as const).map(([name, question, lie]) => ({
  name,
  operation: "START_REPLICATION" as Operation,
  kinds: ["catalogue-answer"],
  script: postgres({ [question]: lie }),
}));

/** Of COPY in both directions. */
export const COPY_BOTH: readonly HostileCase[] = [
  ...BEGINNING,
  ...PAYLOADS,
  ...POSITIONS,
  ...COPY_ENDS,
  ...STORMS,
  ...ANSWERS,
];
