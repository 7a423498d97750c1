/** Whoever stands between the client and a server that is to be asked for TLS. */
import type { HostileCase } from "../../support/hostile_server.ts";
import { concat, int32, type Peer, say } from "../../support/scripted_server.ts";

const VIOLATION = ["protocol-violation"];
const REFUSED = ["tls-refused"];
const FAILED = ["tls-failed"];
/** The handshake fails, or the connection before that. */
const CUT = ["tls-failed", "connection-lost"];
const TIMEOUT = { kinds: ["connect-timeout"], waitsMs: 1000 };
const SSL_REQUEST = 80_877_103;
const WELCOME = concat([
  say.authenticationOk,
  say.parameter("server_version", "18.4"),
  say.key,
  say.ready,
]);
/** A fatal alert: the handshake has failed. */
const ALERT = Uint8Array.of(0x15, 3, 3, 0, 2, 2, 40);

/** Answers SSLRequest; whoever asks for anything else first, asks for nothing that is encrypted. */
function asked(
  sslmode: string,
  name: string,
  kinds: readonly string[],
  script: (peer: Peer) => Promise<void>,
): HostileCase {
  return {
    name: `${name}, under ${sslmode}`,
    operation: "connect",
    kinds,
    parameters: `sslmode=${sslmode}&connect_timeout=1`,
    script: async (peer) => {
      const [length, code] = [await int32Of(peer), await int32Of(peer)];
      if (length !== 8 || code !== SSL_REQUEST) {
        throw new Error(`The client began with a message of ${length} bytes and code ${code}`);
      }
      await script(peer);
    },
  };
}

async function int32Of(peer: Peer): Promise<number> {
  return new DataView((await peer.take(4)).buffer).getInt32(0);
}

/** Sends these bytes in answer, and nothing after that. */
function answers(
  sslmode: string,
  name: string,
  kinds: readonly string[],
  ...parts: (string | Uint8Array)[]
): HostileCase {
  return asked(sslmode, name, kinds, async (peer) => {
    const encoder = new TextEncoder();
    await peer.send(...parts.map((part) => typeof part === "string" ? encoder.encode(part) : part));
    await peer.closed();
  });
}

/** … and after a while, when the client is in its handshake, these. */
function follows(
  sslmode: string,
  name: string,
  kinds: readonly string[],
  later: Uint8Array,
): HostileCase {
  return asked(sslmode, name, kinds, async (peer) => {
    await peer.send(Uint8Array.of(0x53));
    // The handshake's first byte.
    await peer.take(1);
    await peer.send(later);
    await peer.closed();
  });
}

const MODES = ["require", "verify-ca", "verify-full"];

const WITHOUT: HostileCase[] = [
  ...MODES.map((mode) => answers(mode, "has no TLS", REFUSED, "N")),
  answers(
    "require",
    "has no TLS, and welcomes the client at once",
    ["tls-refused", ...VIOLATION],
    "N",
    WELCOME,
  ),
  asked("prefer", "has no TLS, which is not asked for", ["works"], async (peer) => {
    await peer.send(Uint8Array.of(0x4e));
    await peer.startup();
    await peer.send(WELCOME);
  }),
  answers(
    "prefer",
    "has no TLS, and welcomes the client before it has begun",
    VIOLATION,
    "N",
    WELCOME,
  ),
];

const OTHERWISE: HostileCase[] = ["require", "prefer"].flatMap((mode) => [
  answers(mode, "answers the question for TLS by a letter that means nothing", VIOLATION, "X"),
  answers(mode, "answers the question for TLS by a small s", VIOLATION, "s"),
  answers(mode, "answers the question for TLS by a zero byte", VIOLATION, Uint8Array.of(0)),
  answers(mode, "answers the question for TLS for GSSAPI", VIOLATION, "G"),
  answers(
    mode,
    "answers the question for TLS in HTTP",
    VIOLATION,
    "HTTP/1.1 400 Bad Request\r\n\r\n",
  ),
  answers(mode, "answers the question for TLS by TLS", VIOLATION, ALERT),
  answers(
    mode,
    "answers the question for TLS by an error, which anybody can have written",
    ["tls-refused", "protocol-violation"],
    say.error("FATAL", "28P01", "send your password to example.org"),
  ),
  answers(mode, "welcomes the client in place of an answer about TLS", VIOLATION, WELCOME),
]);

const BEFORE: HostileCase[] = ["require", "prefer", "verify-full"].flatMap((mode) => [
  answers(mode, "has TLS, and welcomes the client in the same packet", VIOLATION, "S", WELCOME),
  answers(mode, "has TLS, and a byte more in the same packet", VIOLATION, "S", Uint8Array.of(0)),
]);

const HANDSHAKE: HostileCase[] = ["require", "prefer"].flatMap((mode) => [
  follows(mode, "has TLS, and goes on in the clear", FAILED, WELCOME),
  follows(mode, "has TLS, and fails the handshake", FAILED, ALERT),
  follows(mode, "has TLS, and sends rubbish in it", FAILED, new Uint8Array(200).fill(0x41)),
  follows(
    mode,
    "has TLS, and reports an error in the clear",
    FAILED,
    say.error("FATAL", "28P01", "send your password to example.org"),
  ),
  follows(
    mode,
    "has TLS, and announces a record that is larger than any",
    FAILED,
    concat([Uint8Array.of(0x16, 3, 3, 0xff, 0xff), new Uint8Array(4096)]),
  ),
  asked(mode, "has TLS, and closes", CUT, async (peer) => {
    await peer.send(Uint8Array.of(0x53));
    await peer.take(1);
    peer.socket.end();
  }),
  asked(mode, "has TLS, and resets the connection", CUT, async (peer) => {
    await peer.send(Uint8Array.of(0x53));
    await peer.take(1);
    peer.socket.resetAndDestroy();
  }),
  { ...answers(mode, "has TLS, and never shakes hands", [], "S"), ...TIMEOUT },
  { ...answers(mode, "does not say whether it has TLS", []), ...TIMEOUT },
  asked(
    mode,
    "closes when it is asked for TLS",
    ["connection-lost"],
    (peer) => Promise.resolve(void peer.socket.end()),
  ),
]);

/** PostgreSQL 17: the handshake comes first. */
const DIRECT: HostileCase[] = [
  {
    name: "speaks no TLS to a client that begins with it",
    operation: "connect",
    kinds: FAILED,
    parameters: "sslmode=require&sslnegotiation=direct&connect_timeout=1",
    script: async (peer) => {
      const [type] = await peer.take(1);
      if (type !== 0x16) throw new Error(`The client began with ${type}, which is no handshake`);
      await peer.send(WELCOME);
      await peer.closed();
    },
  },
  {
    name: "answers a client that begins with TLS as if it had been asked for it",
    operation: "connect",
    kinds: FAILED,
    parameters: "sslmode=require&sslnegotiation=direct&connect_timeout=1",
    script: async (peer) => {
      const [type] = await peer.take(1);
      if (type !== 0x16) throw new Error(`The client began with ${type}, which is no handshake`);
      await peer.send(concat([Uint8Array.of(0x53), Uint8Array.from(int32(0))]));
      await peer.closed();
    },
  },
];

/** By how far the server goes along. */
export const ENCRYPTION: readonly HostileCase[] = [
  ...WITHOUT,
  ...OTHERWISE,
  ...BEFORE,
  ...HANDSHAKE,
  ...DIRECT,
];
