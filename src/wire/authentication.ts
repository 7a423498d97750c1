/**
 * The start of a connection: who we are, what the server asks, until it is ready.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
import { PgStreamError } from "../errors.ts";
import { formatAddress } from "../transport/transport.ts";
import {
  type Authentication,
  decodeAuthentication,
  decodeBackendKeyData,
  decodeNegotiateProtocolVersion,
} from "./backend.ts";
import { isLocal, type Link } from "./encryption.ts";
import { ProtocolError, WireError } from "./errors.ts";
import { MessageType, SESSION_LIMITS } from "./frames.ts";
import {
  encodePasswordMessage,
  encodeSaslInitialResponse,
  encodeSaslResponse,
  encodeStartupMessage,
} from "./frontend.ts";
import type { AuthMethod, ConnectionOptions } from "./options.ts";
import { decodeServerMessage } from "./postgres_error.ts";
import {
  randomScramNonce,
  SCRAM_SHA_256,
  SCRAM_SHA_256_PLUS,
  type ScramBinding,
  ScramExchange,
} from "./scram.ts";
import type { Channel } from "./channel.ts";

/** Who we are, and what the server may ask to find out. */
export interface Login {
  /** The role's name. */
  readonly user: string;
  /** Called once, and only where the server asks for a password. */
  readonly password: () => string | undefined | Promise<string | undefined>;
  /** Whether the password's proof is to be tied to the TLS connection. */
  readonly channelBinding: ConnectionOptions["channelBinding"];
  /** The ways in which the server may ask; undefined: any that we know. */
  readonly requireAuth: readonly AuthMethod[] | undefined;
  /** What carries the channel's bytes. */
  readonly link: Pick<Link, "tls" | "address">;
  /** Told what should be looked at. */
  readonly warnOnce: (message: string) => void;
}

/** What is needed to cancel a statement from a connection of its own. */
export interface BackendKey {
  /** The server process' id. */
  readonly processId: number;
  /** 4 to 256 bytes. */
  readonly secretKey: Uint8Array;
}

// PostgreSQL's default; a password that was set with fewer is legal, and easier to guess.
const USUAL_SCRAM_ITERATIONS = 4096;

/**
 * Sends StartupMessage, authenticates and reads to ReadyForQuery.
 *
 * @param parameters of StartupMessage, `user` and `database` among them.
 * @returns the key for CancelRequest, or null where the server sent none (some poolers).
 * @throws {PostgresError} what the server refuses.
 * @throws {WireError} `"password-missing"`, `"authentication"`, `"authentication-unsupported"`,
 * `"authentication-not-allowed"`, `"channel-binding"`, `"connection-lost"`, `"protocol-violation"`.
 */
export async function startUp(
  channel: Channel,
  parameters: Readonly<Record<string, string>>,
  login: Login,
): Promise<BackendKey | null> {
  const binding = await bindingOf(login);
  await channel.write(encodeStartupMessage(parameters));
  const told = await authenticate(channel, login, binding);
  let key: BackendKey | null = null;
  for (;;) {
    const frame = await channel.next();
    switch (frame.type) {
      case MessageType.BackendKeyData:
        key = channel.decode(() => decodeBackendKeyData(frame.body));
        break;
      case MessageType.ErrorResponse:
        throw await refused(channel, frame.body, told);
      case MessageType.ReadyForQuery:
        channel.ready(frame.body);
        channel.frames.limits = SESSION_LIMITS;
        return key;
      default:
        throw channel.unexpected(frame, "start-up");
    }
  }
}

/** @returns the password, where the server was told it in the clear. */
async function authenticate(
  channel: Channel,
  login: Login,
  binding: Uint8Array | null,
): Promise<string | null> {
  let scram: ScramExchange | null = null;
  let passwordSent = false;
  let told: string | null = null;
  for (;;) {
    const asked = await nextAuthentication(channel, told);
    switch (asked.type) {
      case "ok":
        // A server that lets us in without its proof may be anyone.
        if (scram !== null && !scram.verified) {
          throw unproven("it ended the exchange without proving that it knows the password");
        }
        if (scram === null && !passwordSent && !isAllowed("none", login)) {
          throw await notAllowed("none", login);
        }
        return told;
      case "cleartext-password":
      case "md5-password": {
        if (scram !== null || passwordSent) throw outOfOrder(asked);
        const clear = asked.type === "cleartext-password";
        const method = clear ? "password" : "md5";
        if (!isAllowed(method, login)) throw await notAllowed(method, login);
        passwordSent = true;
        const password = await passwordOf(login);
        if (clear) {
          warnOfReaders(login);
          told = password === login.user ? null : password;
        }
        const answer = clear ? password : await md5Of(login.user, password, asked.salt);
        await channel.write(encodePasswordMessage(answer));
        break;
      }
      case "sasl": {
        if (scram !== null || passwordSent) throw outOfOrder(asked);
        if (!isAllowed("scram-sha-256", login)) throw await notAllowed("scram-sha-256", login);
        const { mechanism, bound } = await chooseMechanism(asked.mechanisms, binding, login);
        scram = new ScramExchange(await passwordOf(login), randomScramNonce(), bound);
        await channel.write(encodeSaslInitialResponse(mechanism, scram.clientFirst()));
        break;
      }
      case "sasl-continue":
        if (scram === null) throw outOfOrder(asked);
        await channel.write(encodeSaslResponse(await scram.clientFinal(asked.data)));
        if (scram.iterations < USUAL_SCRAM_ITERATIONS) {
          login.warnOnce(
            `The password of "${login.user}" is stored with ${scram.iterations} SCRAM ` +
              `iterations only; the usual count is ${USUAL_SCRAM_ITERATIONS}`,
          );
        }
        break;
      case "sasl-final":
        if (scram === null) throw outOfOrder(asked);
        scram.verifyServerFinal(asked.data);
        break;
      case "other":
        throw unsupported(OTHER_METHODS[asked.code] ?? `method ${asked.code}`);
    }
  }
}

/** What the proof can be tied to: where there is no TLS, there is nothing. */
async function bindingOf({ link: { tls }, channelBinding }: Login): Promise<Uint8Array | null> {
  if (channelBinding === "disable" || (channelBinding === "prefer" && tls === null)) return null;
  const { channelBindingOf } = await import("./channel_binding.ts");
  return await channelBindingOf(tls, channelBinding);
}

/** Asked before anything secret is sent. */
function isAllowed(method: AuthMethod, { requireAuth, channelBinding }: Login): boolean {
  return requireAuth?.includes(method) !== false &&
    (channelBinding !== "require" || method === "scram-sha-256");
}

async function notAllowed(method: AuthMethod, login: Login): Promise<WireError> {
  const { methodRefused } = await import("./refusal.ts");
  return methodRefused(method, login);
}

/** Names the mechanism, and says what to tell the server of the binding. */
async function chooseMechanism(
  offered: readonly string[],
  binding: Uint8Array | null,
  { channelBinding, link }: Login,
): Promise<{ mechanism: string; bound: ScramBinding }> {
  if (binding !== null && offered.includes(SCRAM_SHA_256_PLUS)) {
    return { mechanism: SCRAM_SHA_256_PLUS, bound: binding };
  }
  if (channelBinding === "require") {
    const { bindingRefused } = await import("./refusal.ts");
    throw bindingRefused(link.address);
  }
  if (!offered.includes(SCRAM_SHA_256)) {
    throw unsupported(offered.join(", ") || "SASL without a mechanism");
  }
  return { mechanism: SCRAM_SHA_256, bound: binding === null ? "none" : "not-offered" };
}

function warnOfReaders({ user, link: { tls, address }, warnOnce }: Login): void {
  if (tls !== null || isLocal(address)) return;
  warnOnce(
    `The server at ${
      formatAddress(address)
    } asked for the password of "${user}" in the clear, on a ` +
      "connection that is not encrypted: anyone in between can read it; use sslmode=require",
  );
}

const OTHER_METHODS: Readonly<Record<number, string>> = {
  2: "Kerberos V5",
  7: "GSSAPI",
  8: "GSSAPI",
  9: "SSPI",
};

async function nextAuthentication(
  channel: Channel,
  told: string | null,
): Promise<Authentication> {
  for (;;) {
    const frame = await channel.next();
    switch (frame.type) {
      case MessageType.Authentication:
        return channel.decode(() => decodeAuthentication(frame.body));
      case MessageType.NegotiateProtocolVersion:
        // We ask for 3.0 and for no option: whatever the server is able to, it speaks that.
        channel.decode(() => decodeNegotiateProtocolVersion(frame.body));
        break;
      case MessageType.ErrorResponse:
        throw await refused(channel, frame.body, told);
      default:
        throw channel.unexpected(frame, "authentication");
    }
  }
}

/** @param told a secret that the server may repeat. */
async function refused(channel: Channel, body: Uint8Array, told: string | null): Promise<unknown> {
  const { refusal } = await import("./refusal.ts");
  return channel.fail(refusal(channel.decode(() => decodeServerMessage(body)), told));
}

async function md5Of(user: string, password: string, salt: Uint8Array): Promise<string> {
  const { md5Answer } = await import("./md5.ts");
  return await md5Answer(user, password, salt).catch((cause) => {
    throw unsupported("MD5, which this runtime does not have", cause);
  });
}

async function passwordOf(login: Login): Promise<string> {
  let password: string | undefined;
  try {
    password = await login.password();
  } catch (error) {
    if (error instanceof PgStreamError) throw error;
    throw new WireError(`The password function for "${login.user}" failed`, {
      kind: "password-missing",
      hint: "Its cause says why.",
      // What it asks may be out of reach for a while, as the server itself.
      retryable: true,
      cause: error,
    });
  }
  if (password === undefined || password === "") {
    throw new WireError(`The server asks for a password of "${login.user}"; none was given`, {
      kind: "password-missing",
      hint: "Put it into the DSN, into PGPASSWORD, or into the option `password`.",
    });
  }
  if (password.includes("\0")) {
    throw new WireError("The password holds a zero byte", { kind: "authentication" });
  }
  return password;
}

function unproven(what: string): WireError {
  return new WireError(`Cannot authenticate the server: ${what}`, {
    kind: "authentication",
    hint: "Someone may be answering in the server's place. Check the address.",
  });
}

function unsupported(method: string, cause?: unknown): WireError {
  return new WireError(`The server asks for an authentication that is not supported: ${method}`, {
    kind: "authentication-unsupported",
    hint: "Let pg_hba.conf ask this user for scram-sha-256.",
    cause,
  });
}

function outOfOrder(asked: Authentication): ProtocolError {
  return new ProtocolError(`The server asked for ${asked.type} out of order`);
}
