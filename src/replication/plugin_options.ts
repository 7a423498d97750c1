/**
 * What pgoutput is asked for beyond protocol 1: checked, and as text for START_REPLICATION. Loaded where
 * a stream asks for any of it.
 * https://www.postgresql.org/docs/current/protocol-logical-replication.html#PROTOCOL-LOGICAL-REPLICATION-PARAMS
 */
import type { Connection } from "../wire/connection.ts";
import { ReplicationError } from "./errors.ts";
import type { PgOutputOptions } from "./stream_options.ts";

const PROTOCOLS: readonly unknown[] = [1, 2, 3, 4];
const SWITCH: readonly unknown[] = [false, true];
const VALUES: Required<{ [Name in keyof PgOutputOptions]: readonly unknown[] }> = {
  protocolVersion: PROTOCOLS,
  streaming: [...SWITCH, "parallel"],
  twoPhase: SWITCH,
  messages: SWITCH,
  origin: ["any", "none"],
  binary: SWITCH,
};

/** An option that is set to something that not every server has. */
interface Need {
  /** As it is written in the options. */
  option: string;
  /** The least major version of the server. */
  server: number;
  /** The least version of the protocol. */
  protocol: number;
  /** As pgoutput takes it. */
  sql?: string;
}

/**
 * The protocol's version and the options, as they stand in the list of START_REPLICATION.
 *
 * @throws {ReplicationError} of kind `invalid-option` for a value that is none, and for a
 * `protocolVersion` that is too low for the other options.
 */
export function pluginOptionsSql(options: PgOutputOptions): string {
  for (const [name, values] of Object.entries(VALUES)) {
    const value = options[name as keyof PgOutputOptions];
    if (value !== undefined && !values.includes(value)) {
      throw invalidOption(
        `${name} cannot be ${JSON.stringify(value) ?? typeof value}`,
        `It is one of ${values.map((value) => JSON.stringify(value)).join(", ")}.`,
      );
    }
  }
  const needs = needsOf(options);
  const least = Math.max(1, ...needs.map(({ protocol }) => protocol));
  const { protocolVersion = least } = options;
  const tooMuch = needs.find(({ protocol }) => protocol > protocolVersion);
  if (tooMuch !== undefined) {
    throw invalidOption(
      `${tooMuch.option} needs protocol ${tooMuch.protocol}, and protocolVersion is ${protocolVersion}`,
      "Leave out protocolVersion: it is then the least that the other options need.",
    );
  }
  const sql = needs.flatMap(({ sql }) => sql === undefined ? [] : [sql]);
  return [`proto_version '${protocolVersion}'`, ...sql].join(", ");
}

/**
 * Checks that the server knows what it will be asked for.
 *
 * @throws {ReplicationError} of kind `not-supported`.
 */
export function checkSupported(
  options: PgOutputOptions,
  { serverVersion, parameters }: Pick<Connection, "serverVersion" | "parameters">,
): void {
  for (const { option, server } of needsOf(options)) {
    if (serverVersion >= server * 10_000) continue;
    throw new ReplicationError(
      `${option} needs PostgreSQL ${server}, and the server is PostgreSQL ` +
        (parameters.get("server_version") ?? serverVersion),
      { kind: "not-supported", hint: "Do without it, or use a later server." },
    );
  }
}

/** What is on by default, on every server, needs nothing. */
function needsOf(options: PgOutputOptions): Need[] {
  const { protocolVersion = 1, streaming, twoPhase, messages, origin, binary } = options;
  const needs: Need[] = [];
  if (streaming === true) {
    needs.push({ option: "streaming: true", server: 14, protocol: 2, sql: "streaming 'on'" });
  } else if (streaming === "parallel") {
    const option = 'streaming: "parallel"';
    needs.push({ option, server: 16, protocol: 4, sql: "streaming 'parallel'" });
  }
  if (twoPhase) {
    needs.push({ option: "twoPhase: true", server: 15, protocol: 3, sql: "two_phase 'on'" });
  }
  if (messages) {
    const option = "messages: true (onMessage)";
    needs.push({ option, server: 14, protocol: 1, sql: "messages 'on'" });
  }
  if (origin === "none") {
    needs.push({ option: 'origin: "none"', server: 16, protocol: 1, sql: "origin 'none'" });
  }
  if (binary) needs.push({ option: "binary: true", server: 14, protocol: 1, sql: "binary 'on'" });
  if (protocolVersion > 1) {
    const option = `protocolVersion: ${protocolVersion}`;
    needs.push({ option, server: 12 + protocolVersion, protocol: protocolVersion });
  }
  return needs;
}

function invalidOption(message: string, hint: string): ReplicationError {
  return new ReplicationError(message, { kind: "invalid-option", hint });
}
