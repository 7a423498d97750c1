/** Attacks on a connection that runs `SELECT 1`. */
import { afterTheQuestion, casesOf, type HostileCase } from "../../support/hostile_server.ts";
import { concat, int16, int32, msg, type Peer, say } from "../../support/scripted_server.ts";

const VIOLATION = ["protocol-violation"];
const LOST = ["connection-lost"];
/** The caller's signal, and what the server gets to cancel the statement. */
const ABORTED = { kinds: ["aborted"], abortMs: 200, waitsMs: 2000 };
const KIB = 1024;
const MIB = 1024 * KIB;

const asked = casesOf("query", afterTheQuestion);

function answers(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return asked(name, kinds, async (peer) => {
    await peer.send(...messages);
    await peer.closed();
  });
}

function silentAfter(name: string, ...messages: Uint8Array[]): HostileCase {
  return { ...answers(name, [], ...messages), ...ABORTED };
}

function closesAfter(name: string, kinds: readonly string[], ...messages: Uint8Array[]) {
  return asked(name, kinds, async (peer) => {
    await peer.send(...messages);
    peer.socket.end();
  });
}

/** A message's type and its length, which counts itself; no body. */
function header(type: string, length: number): Uint8Array {
  return Uint8Array.of(type.charCodeAt(0), ...int32(length));
}

const T = say.columns("a");
const D = say.row("1");
const C = say.complete("SELECT 1");
const Z = say.ready;
const HONEST = concat([T, D, C, Z]);
const field = (
  name: string | number[],
  format = 0,
) => [name, [...int32(0), ...int16(0), ...int32(25), ...int16(-1), ...int32(-1), ...int16(format)]];

/** Of each type that may come, a length beyond its cap, and nothing more: it must not be waited for. */
const CAPS: HostileCase[] = ([
  ["CommandComplete", "C", KIB],
  ["CopyBothResponse", "W", 256 * KIB],
  ["CopyDone", "c", 0],
  ["CopyInResponse", "G", 256 * KIB],
  ["CopyOutResponse", "H", 256 * KIB],
  ["EmptyQueryResponse", "I", 0],
  ["ErrorResponse", "E", MIB],
  ["NoticeResponse", "N", MIB],
  ["NotificationResponse", "A", 64 * KIB],
  ["ParameterStatus", "S", 64 * KIB],
  ["ReadyForQuery", "Z", 1],
  ["RowDescription", "T", MIB],
  ["DataRow", "D", 1024 * MIB],
  ["CopyData", "d", 1024 * MIB],
] as const).map(([name, type, cap]) =>
  answers(`announces a ${name} of one byte more than it may have`, VIOLATION, header(type, cap + 5))
);

const FRAMES: HostileCase[] = [
  ...([
    ["0", 0],
    ["3", 3],
    ["-1", -1],
    ["2^31 - 1", 2 ** 31 - 1],
    ["-2^31", -(2 ** 31)],
  ] as const).map(([what, length]) =>
    answers(`sends a message of length ${what}`, VIOLATION, header("D", length))
  ),
  answers("sends a row of no bytes", VIOLATION, T, header("D", 4)),
  answers("sends a command tag of no bytes", VIOLATION, header("C", 4)),
  silentAfter(
    "announces a row of a gibibyte and sends nothing of it",
    T,
    header("D", MIB * KIB + 4),
  ),
  answers("sends a message that no server has", VIOLATION, msg("!")),
  ...([
    ["ParseComplete", "1"],
    ["BindComplete", "2"],
    ["CloseComplete", "3"],
    ["NoData", "n"],
    ["PortalSuspended", "s"],
    ["ParameterDescription", "t"],
    ["FunctionCallResponse", "V"],
  ] as const).map(([name, type]) => answers(`sends ${name}`, VIOLATION, msg(type))),
  answers("sends a cancel key in the middle of a session", VIOLATION, say.key),
  answers("asks for a password in the middle of a session", VIOLATION, say.cleartext),
  answers("offers SASL in the middle of a session", VIOLATION, say.sasl("SCRAM-SHA-256")),
  answers(
    "negotiates the protocol in the middle of a session",
    VIOLATION,
    msg("v", int32(0), int32(0)),
  ),
  asked("sends its answer a byte at a time", ["works"], async (peer) => {
    for (const byte of HONEST) await peer.send(Uint8Array.of(byte));
  }),
  answers("sends its answer all at once", ["works"], HONEST),
  answers("answers in TLS", VIOLATION, Uint8Array.of(0x17, 3, 3, 0, 64)),
];

const ROWS: HostileCase[] = [
  answers(
    "announces 65,535 columns and describes one",
    VIOLATION,
    msg("T", int16(65_535), ...field("a\0")),
  ),
  answers(
    "announces one column and describes two",
    VIOLATION,
    msg("T", int16(1), ...field("a\0"), ...field("b\0")),
  ),
  answers(
    "describes fifty thousand columns and sends such a row",
    ["works"],
    msg("T", int16(50_000), manyFields(50_000)),
    msg("D", int16(50_000), new Uint8Array(200_000).fill(0xff)),
    C,
    Z,
  ),
  answers("describes a column in half a message", VIOLATION, msg("T", int16(1), "a\0", int32(0))),
  answers("describes a column whose name has no end", VIOLATION, msg("T", int16(1), "a")),
  answers(
    "describes a column whose name is not UTF-8",
    VIOLATION,
    msg("T", int16(1), ...field([0xff, 0])),
  ),
  answers("describes a column in binary", VIOLATION, msg("T", int16(1), ...field("a\0", 1))),
  answers("describes columns in no bytes", VIOLATION, msg("T")),
  answers("describes its columns twice", VIOLATION, T, T, D, C, Z),
  answers("sends a row that nobody has described", VIOLATION, D),
  answers("sends a row of no columns that nobody has described", VIOLATION, say.row()),
  answers("sends a row of more columns than it has described", VIOLATION, T, say.row("1", "2")),
  answers("sends a row of fewer columns than it has described", VIOLATION, T, say.row()),
  answers("sends a row after the end of the rows", VIOLATION, T, D, C, D),
  answers("sends a value of length -2", VIOLATION, T, msg("D", int16(1), int32(-2))),
  answers("sends a value of length -2^31", VIOLATION, T, msg("D", int16(1), int32(-(2 ** 31)))),
  answers(
    "sends a value of length 2^31 - 1",
    VIOLATION,
    T,
    msg("D", int16(1), int32(2 ** 31 - 1), "x"),
  ),
  answers(
    "sends a value that is longer than its row",
    VIOLATION,
    T,
    msg("D", int16(1), int32(5), "four"),
  ),
  answers(
    "sends a row that is longer than its value",
    VIOLATION,
    T,
    msg("D", int16(1), int32(3), "four"),
  ),
  answers(
    "sends a value that is not UTF-8",
    VIOLATION,
    T,
    msg("D", int16(1), int32(2), [0xc3, 0x28]),
  ),
  answers("sends half a count of columns", VIOLATION, T, msg("D", [0])),
];

function manyFields(count: number): Uint8Array {
  return concat(Array.from({ length: count }, () => {
    const [name, rest] = field("a\0") as [string, number[]];
    return concat([new TextEncoder().encode(name), Uint8Array.from(rest)]);
  }));
}

const ENDS: HostileCase[] = [
  answers("is ready in the middle of the rows", VIOLATION, T, D, Z),
  answers("is ready before the first row", VIOLATION, T, Z),
  answers("is ready without having done anything", ["works", "protocol-violation"], Z),
  answers("is ready in a state that nobody knows", VIOLATION, T, D, C, msg("Z", "X")),
  answers("is ready twice", ["works", "protocol-violation"], T, D, C, Z, Z),
  answers("completes a command whose tag has no end", VIOLATION, T, D, msg("C", "SELECT 1")),
  answers("completes a command whose tag is not UTF-8", VIOLATION, T, D, msg("C", [0xff, 0])),
  answers("completes a command, and more", VIOLATION, T, D, msg("C", "SELECT 1\0x")),
  answers("answers an empty query, with something", VIOLATION, msg("I", "x")),
  silentAfter("never answers"),
  silentAfter("falls silent in the middle of the rows", T, D),
  silentAfter("falls silent in the middle of a row", T, D.subarray(0, 9)),
  silentAfter("is never ready", T, D, C),
  closesAfter("closes in place of an answer", LOST),
  closesAfter("closes in the middle of the rows", LOST, T, D),
  closesAfter("closes in the middle of a row", LOST, T, D.subarray(0, 9)),
  closesAfter("closes before it is ready", LOST, T, D, C),
  asked("resets the connection in the middle of the rows", LOST, async (peer) => {
    await peer.send(T, D);
    peer.socket.resetAndDestroy();
  }),
];

const ERRORS: HostileCase[] = [
  answers("reports an error", ["postgres"], say.error("ERROR", "42P01", "no table"), Z),
  answers(
    "reports an error in the middle of the rows",
    ["privilege-missing"],
    T,
    D,
    say.error("ERROR", "42501", "no"),
    Z,
  ),
  answers(
    "reports an error and goes on with the rows",
    ["postgres"],
    T,
    say.error("ERROR", "42P01", "no"),
    D,
    C,
    Z,
  ),
  answers(
    "reports an error in the middle of the rows and describes others",
    ["postgres", "protocol-violation"],
    T,
    D,
    say.error("ERROR", "42P01", "no"),
    T,
    D,
    C,
    Z,
  ),
  answers(
    "reports two errors",
    ["postgres"],
    say.error("ERROR", "42P01", "no"),
    say.error("ERROR", "42501", "no"),
    Z,
  ),
  silentAfter("reports an error and falls silent", say.error("ERROR", "42P01", "no")),
  closesAfter(
    "reports an error and closes",
    ["connection-lost", "postgres"],
    say.error("ERROR", "42P01", "no"),
  ),
  answers("reports a fatal error and goes on waiting", LOST, say.error("FATAL", "57P01", "over")),
  answers("panics and goes on waiting", LOST, say.error("PANIC", "XX000", "over")),
  answers("reports a fatal error that has no SQLSTATE", LOST, msg("E", "SFATAL\0", [0])),
  answers(
    "reports an error of the SQLSTATE toString",
    ["postgres"],
    say.error("ERROR", "toString", "no"),
    Z,
  ),
  answers("reports an error that has no end", VIOLATION, msg("E", "SERROR\0Mno")),
  answers(
    "reports an error and then what does not parse",
    VIOLATION,
    say.error("ERROR", "42P01", "no"),
    msg("Z"),
  ),
];

const COPIES: HostileCase[] = [
  asked("wants COPY data that nobody has", ["wrong-statement"], async (peer) => {
    await peer.send(msg("G", [0], int16(0)));
    await peer.message();
    await peer.send(say.error("ERROR", "57014", "COPY from stdin failed"), Z);
  }),
  silentAfter("wants COPY data and is not content with none", msg("G", [0], int16(0))),
  answers("wants COPY data in a message of no bytes", VIOLATION, msg("G")),
  answers(
    "sends a COPY in place of rows",
    ["wrong-statement"],
    say.copyOut,
    say.copyData("x"),
    say.copyDone,
    say.complete("COPY 1"),
    Z,
  ),
  answers("begins a COPY in a message of no bytes", VIOLATION, msg("H")),
  silentAfter("begins a COPY in place of rows and falls silent", say.copyOut),
  answers("begins to copy in both directions", ["wrong-statement"], say.copyBoth),
  answers("sends COPY data that nobody asked for", VIOLATION, say.copyData("x")),
  answers("ends a COPY that was not begun", VIOLATION, say.copyDone),
  answers("sends COPY data between the rows", VIOLATION, T, say.copyData("x"), D, C, Z),
];

const BETWEEN: HostileCase[] = [
  answers(
    "notices, notifies and reports parameters between the bytes of an answer",
    ["works"],
    say.notice("a"),
    T,
    say.parameter("TimeZone", "UTC"),
    D,
    msg("A", int32(1), "c\0p\0"),
    C,
    say.notice("b"),
    Z,
  ),
  answers("notices without an end between the rows", VIOLATION, T, msg("N", "Mx")),
  answers("notifies without an end between the rows", VIOLATION, T, msg("A", int32(1), "c\0p")),
  answers(
    "notifies in no encoding",
    ["works"],
    msg("A", int32(1), [0xff, 0], [0xfe, 0]),
    T,
    D,
    C,
    Z,
  ),
  answers("notifies, and more", VIOLATION, msg("A", int32(1), "c\0p\0x")),
  answers("reports half a parameter between the rows", VIOLATION, T, msg("S", "TimeZone\0")),
];

/** One case each, though each is played many times. */
const EVERYWHERE: HostileCase[] = [
  {
    ...everywhere("cuts its answer off, once at every byte", HONEST.length, async (peer, cut) => {
      await peer.send(HONEST.subarray(0, cut));
      peer.socket.end();
    }),
    kinds: LOST,
  },
  {
    ...everywhere(
      "has a bit wrong in its answer, once each",
      HONEST.length * 8,
      async (peer, bit) => {
        const wrong = Uint8Array.from(HONEST);
        wrong[bit >> 3]! ^= 1 << (bit & 7);
        await peer.send(wrong);
        peer.socket.end();
      },
    ),
    kinds: ["works", "protocol-violation", "connection-lost", "wrong-statement", "postgres"],
  },
];

/** A case that is played `times` times, with 0, 1, 2 …: the harness is told so by `times`. */
function everywhere(
  name: string,
  times: number,
  script: (peer: Peer, time: number) => Promise<void>,
): HostileCase {
  let time = 0;
  return { ...asked(name, [], (peer) => script(peer, time++)), times };
}

/** By what is wrong. */
export const QUERIES: readonly HostileCase[] = [
  ...CAPS,
  ...FRAMES,
  ...ROWS,
  ...ENDS,
  ...ERRORS,
  ...COPIES,
  ...BETWEEN,
  ...EVERYWHERE,
];
