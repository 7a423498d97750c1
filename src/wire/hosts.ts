/**
 * Which of several servers it is to be. Loaded where there are several, or where the state of one matters.
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS
 */
import { isRetryable, type PgStreamError } from "../errors.ts";
import { formatAddress } from "../transport/transport.ts";
import { ProtocolError, WireError } from "./errors.ts";
import {
  addressOf,
  type ConnectionOptions,
  type HostOptions,
  type TargetSessionAttrs,
} from "./options.ts";
import type { QueryResult } from "./query.ts";

/** What a pass over the hosts asks of a server. */
export type SessionAttrs = Exclude<TargetSessionAttrs, "prefer-standby">;

/** How the hosts are gone through. */
export interface HostsTry {
  /** When it fires, no further host is tried. */
  signal: AbortSignal | undefined;
  /** From 0 to below 1: draws the order. */
  random: () => number;
}

/**
 * Tries one host after the other, as long as what a host fails with may pass: one that cannot be reached, that
 * starts, that is full, or that is not in the state that is asked for. A wrong password, or a certificate that
 * is not trusted, is an answer.
 *
 * @throws the host's own error, where there is one host or where the error ends the try; else
 * {@linkcode WireError} of kind `"no-host"`.
 */
export async function tryHosts<T>(
  options: ConnectionOptions,
  { signal, random }: HostsTry,
  attempt: (host: HostOptions, wanted: SessionAttrs) => Promise<T>,
): Promise<T> {
  const hosts = options.loadBalanceHosts === "random"
    ? shuffled(options.hosts, random)
    : options.hosts;
  const { targetSessionAttrs } = options;
  const passes: readonly SessionAttrs[] = targetSessionAttrs === "prefer-standby"
    ? ["standby", "any"]
    : [targetSessionAttrs];
  let failures: PgStreamError[] = [];
  for (const wanted of passes) {
    failures = [];
    for (const host of hosts) {
      try {
        return await attempt(host, wanted);
      } catch (error) {
        if (signal?.aborted || !isRetryable(error)) throw error;
        failures.push(error as PgStreamError);
      }
    }
  }
  throw failures.length === 1 ? failures[0] : noHost(hosts, failures);
}

/** What of a connection its server's state is read from. */
export interface Session {
  /** As ParameterStatus reports them. */
  readonly parameters: ReadonlyMap<string, string>;
  /** Asks where these do not tell. */
  query(sql: string): Promise<QueryResult>;
}

/**
 * Checks what state the server is in.
 *
 * @throws {WireError} `"wrong-session-attrs"`, which may pass; `"protocol-violation"`.
 */
export async function checkSession(
  session: Session,
  wanted: Exclude<SessionAttrs, "any">,
  host: HostOptions,
): Promise<void> {
  const { standby, readOnly } = await readState(session);
  const right = {
    "primary": !standby,
    "standby": standby,
    "read-write": !readOnly,
    "read-only": readOnly,
  };
  if (right[wanted]) return;
  const is = standby ? "a standby" : readOnly ? "a primary that is read-only" : "a primary";
  throw new WireError(
    `The server at ${
      formatAddress(addressOf(host))
    } is ${is}, and target_session_attrs is ${wanted}`,
    {
      kind: "wrong-session-attrs",
      hint: "Name the other servers too (host=a,b), or ask for another state.",
      // Servers change places.
      retryable: true,
    },
  );
}

async function readState(session: Session): Promise<{
  standby: boolean;
  readOnly: boolean;
}> {
  let standby = session.parameters.get("in_hot_standby");
  let readOnly = session.parameters.get("default_transaction_read_only");
  // Reported from 14 on, and by no pooler.
  if (standby === undefined || readOnly === undefined) {
    const sql = `SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'on' ELSE 'off' END,
      pg_catalog.current_setting('transaction_read_only')`;
    const [row = []] = (await session.query(sql)).rows;
    [standby, readOnly] = row.map((value) => value ?? undefined);
    if (standby === undefined || readOnly === undefined) {
      throw new ProtocolError("The server did not answer in what state it is");
    }
  }
  return { standby: standby === "on", readOnly: standby === "on" || readOnly === "on" };
}

function noHost(hosts: readonly HostOptions[], failures: readonly PgStreamError[]): WireError {
  const reasons = failures.map(({ summary }, i) =>
    `${formatAddress(addressOf(hosts[i]!))}: ${summary}`
  );
  const hints = new Set(failures.flatMap(({ hint }) => hint ?? []));
  return new WireError(`None of ${hosts.length} servers will do. ${reasons.join("; ")}`, {
    kind: "no-host",
    hint: [...hints].join(" "),
    retryable: true,
    cause: new AggregateError(failures, "One error for each server"),
  });
}

/** In an order of chance: each order is as likely (Fisher and Yates). */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
