/** Attacks before the connection is there, but for those of SCRAM. */
import { casesOf, type HostileCase } from "../../support/hostile_server.ts";
import { CANARY } from "../../support/canary.ts";
import { concat, int16, int32, msg, type Peer, say } from "../../support/scripted_server.ts";

const VIOLATION = ["protocol-violation"];
const LOST = ["connection-lost"];
const TIMEOUT = { kinds: ["connect-timeout"], waitsMs: 1000 };

/** After the client's first message. */
function answers(
  name: string,
  kinds: readonly string[],
  ...messages: (Uint8Array | string)[]
): HostileCase {
  return {
    name,
    operation: "connect",
    kinds,
    script: async (peer) => {
      await peer.startup();
      await peer.send(...messages.map(bytesOf));
      await peer.closed();
    },
  };
}

function bytesOf(message: Uint8Array | string): Uint8Array {
  return typeof message === "string" ? new TextEncoder().encode(message) : message;
}

function silent(name: string, ...messages: Uint8Array[]): HostileCase {
  return { ...answers(name, [], ...messages), ...TIMEOUT };
}

const scripted = casesOf("connect", (peer) => peer.startup());

const errorOf = (...fields: string[]) =>
  msg("E", fields.map((field) => `${field}\0`).join(""), [0]);
const ask = (code: number, ...parts: (string | number[] | Uint8Array)[]) =>
  msg("R", int32(code), ...parts);
const hello = [say.authenticationOk, say.parameter("server_version", "18.4"), say.key];
const HELLO = concat([...hello, say.ready]);
const reads = async (peer: Peer) => void await peer.message();

const OUT_OF_PLACE: HostileCase[] = [
  answers("lets everybody in", ["works"], ...hello, say.ready),
  answers("is ready before it has authenticated anybody", VIOLATION, say.ready),
  answers("sends its key before it has authenticated anybody", VIOLATION, say.key),
  answers("says twice that authentication is done", VIOLATION, ...hello, say.authenticationOk),
  answers("asks for a password when authentication is done", VIOLATION, ...hello, say.cleartext),
  answers("sends a row during start-up", VIOLATION, ...hello, say.row("x")),
  answers("describes rows during start-up", VIOLATION, ...hello, say.columns("x")),
  answers("completes a command during start-up", VIOLATION, ...hello, say.complete("SELECT 1")),
  answers("sends COPY data during start-up", VIOLATION, say.copyData("x")),
  answers("begins to copy in both directions during start-up", VIOLATION, ...hello, say.copyBoth),
  answers("wants COPY data during start-up", VIOLATION, ...hello, msg("G", [0], int16(0))),
  answers("answers an empty query during start-up", VIOLATION, ...hello, msg("I")),
  answers("notifies during start-up", VIOLATION, ...hello, msg("A", int32(1), "c\0p\0")),
  answers("speaks the client's part", VIOLATION, msg("Q", "SELECT 1\0")),
  answers("answers with the password message", VIOLATION, msg("p", "x\0")),
  answers("sends a message of type 0", VIOLATION, msg("\0")),
  answers("sends a message of type 0xff", VIOLATION, Uint8Array.of(0xff, ...int32(4))),
  answers("sends messages of the extended protocol during start-up", VIOLATION, msg("1")),
];

const ERRORS: HostileCase[] = [
  answers("refuses with an error of no SQLSTATE", ["postgres"], errorOf("SFATAL", "Mno")),
  answers("refuses with an error of no fields", ["postgres"], msg("E", [0])),
  answers("refuses with an error of no bytes", VIOLATION, msg("E")),
  answers("refuses with an error that has no end", VIOLATION, msg("E", "SFATAL\0Mno\0")),
  answers("refuses with an error whose last field has no end", VIOLATION, msg("E", "SFATAL\0Mno")),
  answers("refuses with an error and more behind its end", VIOLATION, msg("E", [0], "MX\0")),
  answers("refuses with an error of the old protocol", VIOLATION, "EFATAL:  unsupported\n\0"),
  answers(
    "refuses in no encoding",
    ["authentication"],
    msg("E", "SFATAL\0C28P01\0M", [0xff, 0xe9, 0xc3, 0], [0]),
  ),
  answers(
    "refuses with a SQLSTATE that is a name of JavaScript's",
    ["postgres"],
    errorOf("SFATAL", "Cconstructor", "Mno"),
  ),
  answers("refuses with the SQLSTATE __proto__", ["postgres"], errorOf("C__proto__", "Mno")),
  answers("refuses with an empty SQLSTATE", ["postgres"], errorOf("SFATAL", "C", "Mno")),
  answers("refuses with an empty message and hint", ["postgres"], errorOf("C42501x", "M", "H")),
  answers(
    "refuses, though not fatally, and goes on waiting",
    ["authentication"],
    say.error("ERROR", "28P01", "no"),
  ),
  answers("panics", ["postgres"], say.error("PANIC", "XX000", "no")),
  answers(
    "refuses in a mebibyte of words",
    ["database-missing"],
    say.error("FATAL", "3D000", "no ".repeat(349_000)),
  ),
  answers(
    "refuses in more than a mebibyte of words",
    VIOLATION,
    say.error("FATAL", "3D000", "x".repeat(1024 * 1024)),
  ),
  answers(
    "refuses with a hundred thousand fields",
    ["postgres"],
    errorOf(...new Array(100_000).fill("Mno")),
  ),
  answers(
    "refuses with a field for every letter there is",
    ["postgres"],
    msg("E", ...Array.from({ length: 255 }, (_, i) => [i + 1, 0x41, 0]), [0]),
  ),
  answers(
    "refuses at positions that are no numbers",
    ["postgres"],
    errorOf("C42601", "Mno", "P-1e999", "p0x7fffffffffffffff", "L  "),
  ),
  answers(
    "refuses with a message for the terminal and not for the eyes",
    ["server-starting"],
    say.error("FATAL", "57P03", "\x1b]0;owned\x07\x1b[2J\r\n".repeat(50)),
  ),
  scripted(
    "repeats the password that it was told in its refusal",
    ["authentication"],
    async (peer) => {
      await peer.send(say.cleartext);
      const password = (await peer.message()).text.slice(0, -1);
      if (password !== CANARY) throw new Error("The client sent another password");
      await peer.send(say.error("FATAL", "28P01", `"${password}" is not the password`));
    },
  ),
];

const ASKS: HostileCase[] = [
  ...([
    ["Kerberos V5", 2],
    ["crypt", 4],
    ["an SCM credential", 6],
    ["GSSAPI", 7],
    ["more of GSSAPI, which was not begun", 8],
    ["SSPI", 9],
    ["what will come after SASL", 13],
    ["a method with a negative number", -1],
    ["a method with the largest number", 2 ** 31 - 1],
  ] as const).map(([what, code]) =>
    answers(`asks for ${what}`, ["authentication-unsupported"], ask(code, "token"))
  ),
  answers("asks for nothing in an Authentication of no bytes", VIOLATION, msg("R")),
  answers("asks in an Authentication of two bytes", VIOLATION, msg("R", [0, 0])),
  answers("says that authentication is done, and more", VIOLATION, ask(0, [0])),
  answers("asks for a password, and more", VIOLATION, ask(3, [0])),
  answers("asks for md5 without a salt", VIOLATION, ask(5)),
  answers("asks for md5 with a salt of three bytes", VIOLATION, ask(5, [1, 2, 3])),
  answers("asks for md5 with a salt of five bytes", VIOLATION, ask(5, [1, 2, 3, 4, 5])),
  answers("asks in more than 16 KiB", VIOLATION, ask(10, "x".repeat(16 * 1024))),
  scripted("asks for the password, takes it, and lets the client in", ["works"], async (peer) => {
    await peer.send(say.cleartext);
    await reads(peer);
    await peer.send(HELLO);
  }),
  ...([
    ["for the password twice", say.cleartext, say.cleartext],
    ["for md5 twice", ask(5, [1, 2, 3, 4]), ask(5, [5, 6, 7, 8])],
    ["for the password and then for md5", say.cleartext, ask(5, [1, 2, 3, 4])],
    ["for md5 and then for the password", ask(5, [1, 2, 3, 4]), say.cleartext],
  ] as const).map(([what, first, second]) =>
    scripted(`asks ${what}`, VIOLATION, async (peer) => {
      await peer.send(first);
      await reads(peer);
      await peer.send(second);
      await peer.closed();
    })
  ),
  scripted("asks for md5 and finds it wrong", ["authentication"], async (peer) => {
    await peer.send(ask(5, [1, 2, 3, 4]));
    await reads(peer);
    await peer.send(say.error("FATAL", "28P01", "password authentication failed"));
  }),
];

const NEGOTIATION: HostileCase[] = [
  answers(
    "negotiates the protocol that was asked for",
    ["works"],
    msg("v", int32(0), int32(0)),
    HELLO,
  ),
  answers(
    "negotiates a newer protocol than was asked for",
    ["works", "protocol-violation"],
    msg("v", int32(99), int32(0)),
    HELLO,
  ),
  answers(
    "negotiates options by a negative count",
    VIOLATION,
    msg("v", int32(0), int32(-1)),
    HELLO,
  ),
  answers(
    "negotiates more options than it names",
    VIOLATION,
    msg("v", int32(0), int32(2 ** 31 - 1), "a\0"),
  ),
  answers(
    "negotiates fewer options than it names",
    VIOLATION,
    msg("v", int32(0), int32(1), "a\0b\0"),
  ),
  answers("negotiates an option that has no end", VIOLATION, msg("v", int32(0), int32(1), "a")),
  answers("negotiates in no bytes", VIOLATION, msg("v")),
  answers("negotiates in 16 KiB and more", VIOLATION, msg("v", "x".repeat(16 * 1024 + 1))),
  answers("negotiates after authentication", VIOLATION, ...hello, msg("v", int32(0), int32(0))),
];

const KEYS: HostileCase[] = [
  answers("sends no key at all", ["works"], say.authenticationOk, say.ready),
  answers("sends a key of no bytes", VIOLATION, say.authenticationOk, msg("K", int32(7))),
  answers(
    "sends a key of three bytes",
    VIOLATION,
    say.authenticationOk,
    msg("K", int32(7), [1, 2, 3]),
  ),
  answers(
    "sends the longest key",
    ["works"],
    say.authenticationOk,
    msg("K", int32(7), new Uint8Array(256)),
    say.ready,
  ),
  answers(
    "sends a key of 257 bytes",
    VIOLATION,
    say.authenticationOk,
    msg("K", int32(7), new Uint8Array(257)),
  ),
  answers(
    "sends a key of a megabyte",
    VIOLATION,
    say.authenticationOk,
    msg("K", new Uint8Array(1e6)),
  ),
  answers("sends half a process id", VIOLATION, say.authenticationOk, msg("K", [0, 1])),
  answers(
    "sends two keys",
    ["works", "protocol-violation"],
    say.authenticationOk,
    say.key,
    say.key,
    say.ready,
  ),
];

const WORDS: HostileCase[] = [
  answers("is ready in a state that is none", VIOLATION, ...hello, msg("Z", "?")),
  answers("is ready in a state of the wrong case", VIOLATION, ...hello, msg("Z", "i")),
  answers("is ready in no state", VIOLATION, ...hello, msg("Z")),
  answers("is ready in two states", VIOLATION, ...hello, msg("Z", "II")),
  answers("is ready in a transaction that failed", ["works"], ...hello, msg("Z", "E")),
  answers("reports a parameter without a value", VIOLATION, ...hello, msg("S", "TimeZone\0")),
  answers(
    "reports a parameter whose value has no end",
    VIOLATION,
    ...hello,
    msg("S", "TimeZone\0UTC"),
  ),
  answers("reports a parameter and more", VIOLATION, ...hello, msg("S", "a\0b\0c\0")),
  answers("reports a parameter of no bytes", VIOLATION, ...hello, msg("S")),
  answers(
    "reports a parameter of 64 KiB",
    VIOLATION,
    ...hello,
    say.parameter("a", "x".repeat(65_534)),
  ),
  answers(
    "reports a parameter in no encoding",
    ["works"],
    ...hello,
    msg("S", [0xff, 0], [0xc3, 0]),
    say.ready,
  ),
  answers(
    "reports parameters called like what objects inherit",
    ["works"],
    ...hello,
    say.parameter("__proto__", "x"),
    say.parameter("constructor", "y"),
    say.ready,
  ),
  answers(
    "reports a version of sixty thousand digits",
    ["works"],
    ...hello,
    say.parameter("server_version", "9".repeat(60_000)),
    say.ready,
  ),
  answers("reports thousands of parameters", VIOLATION, ...hello, ...manyParameters()),
  answers("notices without an end", VIOLATION, msg("N", "SNOTICE\0Mhello\0")),
  answers("notices in no bytes", VIOLATION, msg("N")),
];

/** More than two megabytes; a real server reports fifteen parameters. */
function manyParameters(): Uint8Array[] {
  return Array.from({ length: 3000 }, (_, i) => say.parameter(`p${i}`, "x".repeat(700)));
}

const SILENCE: HostileCase[] = [
  {
    name: "takes the connection and says nothing",
    operation: "connect",
    ...TIMEOUT,
    script: (peer) => peer.closed(),
  },
  silent("says nothing to the start-up"),
  silent("stops in the middle of a header", say.authenticationOk.subarray(0, 3)),
  silent("stops in the middle of a message", say.authenticationOk.subarray(0, 7)),
  silent("falls silent when authentication is done", say.authenticationOk),
  silent("falls silent behind its key", ...hello),
  silent("announces an error and never says it", Uint8Array.of(0x45, ...int32(1000))),
  silent("answers the start-up as if it were asked for TLS, with S", Uint8Array.of(0x53)),
  silent("answers the start-up as if it were asked for TLS, with N", Uint8Array.of(0x4e)),
  {
    ...scripted("asks for the password and then says nothing", [], async (peer) => {
      await peer.send(say.cleartext);
      await peer.closed();
    }),
    ...TIMEOUT,
  },
  {
    ...scripted("sends a byte now and then", [], async (peer) => {
      for (const byte of HELLO) {
        if (!peer.socket.writable) return;
        await peer.send(Uint8Array.of(byte));
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }),
    ...TIMEOUT,
  },
  {
    ...scripted(
      "negotiates the protocol again and again",
      [],
      (peer) => flood(peer, msg("v", int32(0), int32(0))),
    ),
    ...TIMEOUT,
  },
  {
    ...scripted("sends its key again and again", [], async (peer) => {
      await peer.send(say.authenticationOk);
      await flood(peer, say.key);
    }),
    kinds: ["connect-timeout", "protocol-violation"],
    waitsMs: 1000,
  },
];

async function flood(peer: Peer, message: Uint8Array): Promise<void> {
  const many = concat(new Array(200).fill(message));
  while (peer.socket.writable) {
    await peer.send(many);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function ends(
  name: string,
  kinds: readonly string[],
  end: (peer: Peer) => void,
  sent?: Uint8Array,
) {
  return scripted(name, kinds, async (peer) => {
    if (sent !== undefined) await peer.send(sent);
    end(peer);
  });
}

const CLOSED: HostileCase[] = [
  {
    name: "closes before it has read anything",
    operation: "connect",
    kinds: LOST,
    script: (peer) => Promise.resolve(void peer.socket.destroy()),
  },
  ends("closes without a word", LOST, (peer) => peer.socket.end()),
  ends("resets the connection", LOST, (peer) => peer.socket.resetAndDestroy()),
  ends(
    "closes when authentication is done",
    LOST,
    (peer) => peer.socket.end(),
    say.authenticationOk,
  ),
  ends(
    "closes in the middle of a message",
    LOST,
    (peer) => peer.socket.end(),
    HELLO.subarray(0, 20),
  ),
  scripted("closes when it was told the password", LOST, async (peer) => {
    await peer.send(say.cleartext);
    await reads(peer);
    peer.socket.end();
  }),
  scripted("says good-bye, and goes on reading", LOST, async (peer) => {
    await peer.send(say.authenticationOk);
    peer.socket.end();
    await peer.closed();
  }),
];

const OTHERS: HostileCase[] = ([
  ["HTTP", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"],
  ["SSH", "SSH-2.0-OpenSSH_9.6\r\n"],
  ["TLS", Uint8Array.of(0x15, 3, 1, 0, 2, 2, 40)],
  ["MySQL", concat([Uint8Array.of(0x4a, 0, 0, 0, 10), bytesOf("8.0.36\0")])],
  ["SMTP", "220 mail.example.org ESMTP\r\n"],
  ["Redis", "-ERR unknown command\r\n"],
  ["FTP", "530 Please login with USER and PASS.\r\n"],
  ["zeros", new Uint8Array(64)],
] as const).map(([what, answer]) =>
  answers(`is none of PostgreSQL's and answers in ${what}`, VIOLATION, answer)
);

const PIECES: HostileCase[] = [
  scripted("sends its start-up a byte at a time", ["works"], async (peer) => {
    for (const byte of HELLO) await peer.send(Uint8Array.of(byte));
  }),
];

/** In the order in which a connection comes to be. */
export const STARTUP: readonly HostileCase[] = [
  ...OUT_OF_PLACE,
  ...ERRORS,
  ...ASKS,
  ...NEGOTIATION,
  ...KEYS,
  ...WORDS,
  ...SILENCE,
  ...CLOSED,
  ...OTHERS,
  ...PIECES,
];
