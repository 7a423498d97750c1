/**
 * The start of a connection: who we are, what the server asks, until it is ready.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
 */
import { PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import {
  type Authentication,
  decodeAuthentication,
  decodeBackendKeyData,
  decodeNegotiateProtocolVersion,
} from "./backend.ts";
import { ProtocolError, WireError } from "./errors.ts";
import { MessageType, SESSION_LIMITS } from "./frames.ts";
import {
  encodePasswordMessage,
  encodeSaslInitialResponse,
  encodeSaslResponse,
  encodeStartupMessage,
} from "./frontend.ts";
import { decodeServerMessage, PostgresError } from "./postgres_error.ts";
import { randomScramNonce, SCRAM_SHA_256, ScramExchange } from "./scram.ts";
import type { Channel } from "./channel.ts";

/** The names and the password of a connection that is being made. */
export interface Credentials {
  /** The role's name. */
  readonly user: string;
  /** Called once, and only where the server asks for a password. */
  readonly password: () => string | undefined | Promise<string | undefined>;
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
 * `"connection-lost"`, `"protocol-violation"`.
 */
export async function startUp(
  channel: Channel,
  parameters: Readonly<Record<string, string>>,
  credentials: Credentials,
  logger: Logger,
): Promise<BackendKey | null> {
  await channel.write(encodeStartupMessage(parameters));
  await authenticate(channel, credentials, logger);
  let key: BackendKey | null = null;
  for (;;) {
    const frame = await channel.next();
    switch (frame.type) {
      case MessageType.BackendKeyData:
        key = channel.decode(() => decodeBackendKeyData(frame.body));
        break;
      case MessageType.ErrorResponse:
        throw refused(channel, frame.body);
      case MessageType.ReadyForQuery:
        channel.ready(frame.body);
        channel.frames.limits = SESSION_LIMITS;
        return key;
      default:
        throw channel.unexpected(frame, "start-up");
    }
  }
}

async function authenticate(
  channel: Channel,
  credentials: Credentials,
  logger: Logger,
): Promise<void> {
  let scram: ScramExchange | null = null;
  let passwordSent = false;
  for (;;) {
    const asked = await nextAuthentication(channel);
    switch (asked.type) {
      case "ok":
        // A server that lets us in without its proof may be anyone.
        if (scram !== null && !scram.verified) {
          throw unproven("it ended the exchange without proving that it knows the password");
        }
        return;
      case "cleartext-password":
      case "md5-password": {
        if (scram !== null || passwordSent) throw outOfOrder(asked);
        passwordSent = true;
        const password = await passwordOf(credentials);
        const answer = asked.type === "cleartext-password"
          ? password
          : await md5Answer(credentials.user, password, asked.salt);
        await channel.write(encodePasswordMessage(answer));
        break;
      }
      case "sasl":
        if (scram !== null || passwordSent) throw outOfOrder(asked);
        if (!asked.mechanisms.includes(SCRAM_SHA_256)) {
          throw unsupported(asked.mechanisms.join(", ") || "SASL without a mechanism");
        }
        scram = new ScramExchange(await passwordOf(credentials), randomScramNonce());
        await channel.write(encodeSaslInitialResponse(SCRAM_SHA_256, scram.clientFirst()));
        break;
      case "sasl-continue":
        if (scram === null) throw outOfOrder(asked);
        await channel.write(encodeSaslResponse(await scram.clientFinal(asked.data)));
        if (scram.iterations < USUAL_SCRAM_ITERATIONS) {
          logger.warn(
            `The password of "${credentials.user}" is stored with ${scram.iterations} SCRAM ` +
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

const OTHER_METHODS: Readonly<Record<number, string>> = {
  2: "Kerberos V5",
  7: "GSSAPI",
  8: "GSSAPI",
  9: "SSPI",
};

async function nextAuthentication(channel: Channel): Promise<Authentication> {
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
        throw refused(channel, frame.body);
      default:
        throw channel.unexpected(frame, "authentication");
    }
  }
}

/** Errors of the start-up are all fatal, and say for themselves what is wrong. */
function refused(channel: Channel, body: Uint8Array): unknown {
  return channel.fail(channel.decode(() => new PostgresError(decodeServerMessage(body))));
}

async function passwordOf(credentials: Credentials): Promise<string> {
  let password: string | undefined;
  try {
    password = await credentials.password();
  } catch (error) {
    if (error instanceof PgStreamError) throw error;
    throw new WireError(`The password function for "${credentials.user}" failed`, {
      kind: "password-missing",
      hint: "Its cause says why.",
      // What it asks may be out of reach for a while, as the server itself.
      retryable: true,
      cause: error,
    });
  }
  if (password === undefined || password === "") {
    throw new WireError(`The server asks for a password of "${credentials.user}"; none was given`, {
      kind: "password-missing",
      hint: "Put it into the DSN, into PGPASSWORD, or into the option `password`.",
    });
  }
  if (password.includes("\0")) {
    throw new WireError("The password holds a zero byte", { kind: "authentication" });
  }
  return password;
}

/** `md5` and the hex of md5(md5(password, user), salt). */
async function md5Answer(user: string, password: string, salt: Uint8Array): Promise<string> {
  // WebCrypto has no MD5.
  const { createHash } = await import("node:crypto").catch((cause) => {
    throw unsupported("MD5, which this runtime does not have", cause);
  });
  const inner = createHash("md5").update(password).update(user).digest("hex");
  return `md5${createHash("md5").update(inner).update(salt).digest("hex")}`;
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
