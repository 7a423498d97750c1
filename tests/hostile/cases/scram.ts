/** Servers that ask for SCRAM-SHA-256 and do not know the password, or do not know SCRAM. */
import { randomBytes } from "node:crypto";
import type { HostileCase } from "../../support/hostile_server.ts";
import {
  continueWith,
  type Exchange,
  exchange,
  isExchange,
  offer,
  serverFirst,
} from "../../support/hostile_scram.ts";
import { concat, int32, msg, type Peer, say } from "../../support/scripted_server.ts";

const UNPROVEN = ["authentication"];
const VIOLATION = ["protocol-violation"];
const UNSUPPORTED = ["authentication-unsupported"];
/** Out of order: whichever part of the client sees it first. */
const OUT_OF_ORDER = ["protocol-violation", "authentication"];
const WELCOME = concat([say.authenticationOk, say.key, say.ready]);
const SIGNATURE = `v=${Buffer.alloc(32, 7).toString("base64")}`;

function connecting(
  name: string,
  kinds: readonly string[],
  script: (peer: Peer) => Promise<void>,
): HostileCase {
  return {
    name,
    operation: "connect",
    kinds,
    script: async (peer) => {
      await script(peer);
      await peer.closed();
    },
  };
}

/**
 * Answers the client's first message by one that is wrong. Whoever goes on with it finds all else right: so
 * it is this that was found wrong.
 */
function first(
  name: string,
  kinds: readonly string[],
  message: (clientNonce: string, right: string) => string | Uint8Array,
): HostileCase {
  return connecting(name, kinds, async (peer) => {
    const clientNonce = await offer(peer);
    const text = message(clientNonce, serverFirst(clientNonce));
    if (typeof text === "string" && isExchange(text)) {
      const { final } = await continueWith(peer, clientNonce, text);
      await peer.send(say.saslFinal(final), WELCOME);
    } else {
      await peer.send(typeof text === "string" ? say.saslContinue(text) : text);
      await peer.send(say.saslFinal(SIGNATURE), WELCOME);
    }
  });
}

/** Answers the client's proof. */
function final(
  name: string,
  kinds: readonly string[],
  messages: (right: Exchange) => Uint8Array[],
): HostileCase {
  return connecting(name, kinds, async (peer) => {
    const right = await exchange(peer);
    await peer.send(...messages(right));
  });
}

function offers(name: string, kinds: readonly string[], ...messages: Uint8Array[]): HostileCase {
  return connecting(name, kinds, async (peer) => {
    await peer.startup();
    await peer.send(...messages);
  });
}

const sasl = (text: string | Uint8Array) => msg("R", int32(10), text);

const MECHANISMS: HostileCase[] = [
  offers("offers no mechanism", UNSUPPORTED, say.sasl()),
  offers("offers mechanisms that nobody has heard of", UNSUPPORTED, say.sasl("X-OAUTH", "PLAIN")),
  offers("offers SCRAM-SHA-1", UNSUPPORTED, say.sasl("SCRAM-SHA-1")),
  offers("offers SCRAM in small letters", UNSUPPORTED, say.sasl("scram-sha-256")),
  offers(
    "offers channel binding alone, and no TLS to bind to",
    ["authentication-unsupported", "authentication", "protocol-violation"],
    say.sasl("SCRAM-SHA-256-PLUS"),
  ),
  offers("offers a thousand mechanisms", UNSUPPORTED, say.sasl(...new Array(1000).fill("X-ANY"))),
  offers("offers a mechanism of 15,000 letters", UNSUPPORTED, say.sasl("X".repeat(15_000))),
  offers("offers mechanisms of 16 KiB and more", VIOLATION, say.sasl("X".repeat(16 * 1024))),
  offers("offers mechanisms without an end", VIOLATION, sasl("SCRAM-SHA-256\0")),
  offers("offers a mechanism that has no end", VIOLATION, sasl("SCRAM-SHA-256")),
  offers("offers mechanisms, and more behind their end", VIOLATION, sasl("SCRAM-SHA-256\0\0x\0\0")),
  offers("offers a mechanism that is not UTF-8", VIOLATION, sasl(Uint8Array.of(0xff, 0, 0))),
];

const NONCES: HostileCase[] = [
  first(
    "has a nonce of its own",
    UNPROVEN,
    (_nonce, right) => right.replace(/r=[^,]*/, `r=${randomBytes(30).toString("base64")}`),
  ),
  first(
    "adds nothing to the client's nonce",
    UNPROVEN,
    (nonce, right) => right.replace(/r=[^,]*/, () => `r=${nonce}`),
  ),
  first(
    "cuts the client's nonce",
    UNPROVEN,
    (nonce, right) => right.replace(/r=[^,]*/, () => `r=${nonce.slice(0, -1)}`),
  ),
  first(
    "changes a character of the client's nonce",
    UNPROVEN,
    (_nonce, right) =>
      right.replace(/r=(.)/, (_match, letter) => `r=${letter === "A" ? "B" : "A"}`),
  ),
  first(
    "puts its nonce before the client's",
    UNPROVEN,
    (_nonce, right) => right.replace("r=", "r=abc"),
  ),
  first("has a nonce with a comma", UNPROVEN, (_nonce, right) => right.replace(",s=", ",x,s=")),
  first("has a nonce with a space", UNPROVEN, (_nonce, right) => right.replace(",s=", " x,s=")),
  first("has a nonce with an umlaut", UNPROVEN, (_nonce, right) => right.replace(",s=", "ä,s=")),
  first("has an empty nonce", UNPROVEN, (_nonce, right) => right.replace(/r=[^,]*/, "r=")),
  first(
    "has a nonce of 16 KiB and more",
    VIOLATION,
    (_nonce, right) => right.replace(",s=", `${"x".repeat(16 * 1024)},s=`),
  ),
];

const SALTS: HostileCase[] = ([
  ["no salt", ""],
  ["a salt that is no base64", "s=!!!!"],
  ["a salt that is only padding", "s===="],
  ["a salt of one character", "s=A"],
  ["a salt with padding in the middle", "s=AA==AAAA"],
  ["a salt in the alphabet of URLs", "s=__-_"],
] as const).map(([what, salt]) =>
  first(`has ${what}`, UNPROVEN, (_nonce, right) => right.replace(/s=[^,]*/, () => salt || "s="))
);

const ITERATIONS: HostileCase[] = ([
  ["0", "0"],
  ["a million and one", "1000001"],
  ["two thousand million", "2147483647"],
  ["ten thousand million", "10000000000"],
  ["a number of a thousand digits of", "9".repeat(1000)],
  ["less than no", "-4096"],
  ["a word for a number of", "many"],
  ["no number of", ""],
  ["a broken number of", "4096.5"],
  ["a hexadecimal number of", "0x1000"],
  ["a number with a power of ten of", "1e3"],
  ["a number with a zero in front of", "04096"],
  ["a number with a space of", " 4096"],
] as const).map(([what, iterations]) =>
  first(
    `wants ${what} iterations`,
    UNPROVEN,
    (_nonce, right) => right.replace(/i=\d*/, `i=${iterations}`),
  )
);

const FIRST: HostileCase[] = [
  first("leaves out the nonce", UNPROVEN, (_nonce, right) => right.replace(/r=[^,]*,/, "")),
  first("leaves out the salt", UNPROVEN, (_nonce, right) => right.replace(/,s=[^,]*/, "")),
  first("leaves out the iterations", UNPROVEN, (_nonce, right) => right.replace(/,i=\d*/, "")),
  first(
    "says its fields in another order",
    UNPROVEN,
    (_nonce, right) => right.split(",").reverse().join(","),
  ),
  first("says its nonce twice", UNPROVEN, (_nonce, right) => `${right.split(",")[0]},${right}`),
  first("needs an extension that nobody knows", UNPROVEN, (_nonce, right) => `m=x,${right}`),
  first("adds a mandatory extension at the end", UNPROVEN, (_nonce, right) => `${right},m=x`),
  first("says nothing first", UNPROVEN, () => ""),
  first("says its first message and a zero byte", UNPROVEN, (_nonce, right) => `${right}\0`),
  first("says its first message and a newline", UNPROVEN, (_nonce, right) => `${right}\n`),
  first(
    "says its first message in no encoding",
    VIOLATION,
    () => msg("R", int32(11), [0x72, 0x3d, 0xff, 0xfe]),
  ),
  first("answers with the client's own first message", UNPROVEN, (nonce) => `n,,n=,r=${nonce}`),
  first("reports an error where its first message is due", UNPROVEN, () => "e=unknown-user"),
];

const FINAL: HostileCase[] = [
  final(
    "proves that it knows the password",
    ["works"],
    ({ final }) => [say.saslFinal(final), WELCOME],
  ),
  final("adds an extension to its proof", ["works"], ({ final }) => [
    say.saslFinal(`${final},x=y`),
    WELCOME,
  ]),
  connecting("knows the password with one iteration only", ["works"], async (peer) => {
    const clientNonce = await offer(peer);
    const { final } = await continueWith(peer, clientNonce, serverFirst(clientNonce, 1));
    await peer.send(say.saslFinal(final), WELCOME);
  }),
  connecting("knows another password", UNPROVEN, async (peer) => {
    const { final } = await exchange(peer, "another");
    await peer.send(say.saslFinal(final), WELCOME);
  }),
  final("proves it by a signature of as many other bytes", UNPROVEN, () => [
    say.saslFinal(SIGNATURE),
    WELCOME,
  ]),
  final("proves it by all of the signature but the last byte", UNPROVEN, ({ signature }) => [
    say.saslFinal(`v=${Buffer.from(signature.subarray(0, 31)).toString("base64")}`),
    WELCOME,
  ]),
  final("proves it by the signature and a byte more", UNPROVEN, ({ signature }) => [
    say.saslFinal(`v=${Buffer.from([...signature, 0]).toString("base64")}`),
    WELCOME,
  ]),
  final("proves it by nothing", UNPROVEN, () => [say.saslFinal("v="), WELCOME]),
  final("proves it in hexadecimal digits", UNPROVEN, ({ signature }) => [
    say.saslFinal(`v=${Buffer.from(signature).toString("hex")}`),
    WELCOME,
  ]),
  final("proves it by what is no base64", UNPROVEN, () => [say.saslFinal("v=!"), WELCOME]),
  final("says nothing last", UNPROVEN, () => [say.saslFinal(""), WELCOME]),
  final("says its first message last", UNPROVEN, ({ serverFirst }) => [
    say.saslFinal(serverFirst),
    WELCOME,
  ]),
  final("reports an error of SCRAM's", UNPROVEN, () => [say.saslFinal("e=invalid-proof"), WELCOME]),
  final("reports an error of SCRAM's of fifteen thousand letters", UNPROVEN, () => [
    say.saslFinal(`e=${"x".repeat(15_000)}`),
  ]),
  final("reports an error and proves it", UNPROVEN, ({ final }) => [
    say.saslFinal(`e=other-error,${final}`),
    WELCOME,
  ]),
  final("finds the proof wrong", UNPROVEN, () => [say.error("FATAL", "28P01", "wrong password")]),
  {
    ...final("falls silent when it has the proof", ["connect-timeout"], () => []),
    waitsMs: 1000,
  },
  connecting("closes when it has the proof", ["connection-lost"], async (peer) => {
    await exchange(peer);
    peer.socket.end();
  }),
];

const ORDER: HostileCase[] = [
  connecting("lets the client in when it has asked for SCRAM", UNPROVEN, async (peer) => {
    await offer(peer);
    await peer.send(WELCOME);
  }),
  final("lets the client in without a proof of its own", UNPROVEN, () => [WELCOME]),
  offers("goes on with SCRAM, which was not begun", VIOLATION, say.saslContinue("r=a,s=AAAA,i=1")),
  offers("ends SCRAM, which was not begun", VIOLATION, say.saslFinal(SIGNATURE)),
  connecting("ends SCRAM before it has gone on", OUT_OF_ORDER, async (peer) => {
    await offer(peer);
    await peer.send(say.saslFinal(SIGNATURE), WELCOME);
  }),
  final("says its first message twice", OUT_OF_ORDER, ({ serverFirst }) => [
    say.saslContinue(serverFirst),
  ]),
  final("goes on behind its proof", OUT_OF_ORDER, ({ final, serverFirst }) => [
    say.saslFinal(final),
    say.saslContinue(serverFirst),
  ]),
  final("proves it twice", OUT_OF_ORDER, ({ final }) => [
    say.saslFinal(final),
    say.saslFinal(final),
    WELCOME,
  ]),
  final("proves it and asks for the password all the same", OUT_OF_ORDER, ({ final }) => [
    say.saslFinal(final),
    say.cleartext,
  ]),
  ...([
    ["SCRAM again", say.sasl("SCRAM-SHA-256")],
    ["the password", say.cleartext],
    ["md5", msg("R", int32(5), [1, 2, 3, 4])],
  ] as const).flatMap(([what, ask]): HostileCase[] => [
    connecting(`asks for SCRAM and then for ${what}`, OUT_OF_ORDER, async (peer) => {
      await offer(peer);
      await peer.send(ask);
    }),
    final(`takes the proof and then asks for ${what}`, OUT_OF_ORDER, () => [ask]),
  ]),
  ...([
    ["the password", say.cleartext],
    ["md5", msg("R", int32(5), [1, 2, 3, 4])],
  ] as const).map(([what, ask]): HostileCase =>
    connecting(`asks for ${what} and then for SCRAM`, OUT_OF_ORDER, async (peer) => {
      await peer.startup();
      await peer.send(ask);
      await peer.message();
      await peer.send(say.sasl("SCRAM-SHA-256"));
    })
  ),
  connecting("asks for GSSAPI in the middle of SCRAM", UNSUPPORTED, async (peer) => {
    await offer(peer);
    await peer.send(msg("R", int32(7)));
  }),
  {
    ...connecting("asks for SCRAM and falls silent", ["connect-timeout"], async (peer) => {
      await offer(peer);
    }),
    waitsMs: 1000,
  },
];

/** By what is wrong. */
export const SCRAM: readonly HostileCase[] = [
  ...MECHANISMS,
  ...NONCES,
  ...SALTS,
  ...ITERATIONS,
  ...FIRST,
  ...FINAL,
  ...ORDER,
];
