/** The errors of the wire client, beside `PostgresError`: those that the server did not word. */
import { PgStreamError, type PgStreamErrorOptions } from "../errors.ts";

/** What can go wrong between this library and a server. */
export type WireErrorKind =
  /** The connection string, or a variable of the environment, cannot be read. */
  | "invalid-dsn"
  /** A file that the connection options name cannot be read, or is not what it should be. */
  | "file-unreadable"
  /** Nothing says as whom to connect. */
  | "user-missing"
  /** The server asks for a password, and there is none. */
  | "password-missing"
  /** The server's proof, or ours, did not hold. */
  | "authentication"
  /** The server asks for a way to authenticate that this library does not speak. */
  | "authentication-unsupported"
  /** The server asks for a way to authenticate that `require_auth` does not allow. */
  | "authentication-not-allowed"
  /** The password's proof cannot be tied to the TLS connection, and `channel_binding=require` wants it. */
  | "channel-binding"
  /** The server does not encrypt, and it was to. */
  | "tls-refused"
  /** The server is not what `target_session_attrs` asks for. */
  | "wrong-session-attrs"
  /** None of several hosts will do; the message has each one's reason, the `cause` its error. */
  | "no-host"
  /** A second operation was begun while one is running. */
  | "connection-busy"
  /** The connection ended on its own. */
  | "connection-lost"
  /** `close()` was called. */
  | "connection-closed"
  /** The copy is over. */
  | "copy-ended"
  /** A statement did not do what the method is for: COPY in `query()`, a query in `copyOut()`. */
  | "wrong-statement"
  /** Bytes that are not the protocol. */
  | "protocol-violation";

/** What a `WireError` is made of, beside its message. */
export interface WireErrorOptions extends PgStreamErrorOptions {
  /** For programs. */
  kind: WireErrorKind;
}

/** An error of the wire client. */
export class WireError extends PgStreamError {
  /** `"WireError"` */
  override name = "WireError";
  /** What went wrong, for programs. */
  declare readonly kind: WireErrorKind;

  /**
   * Made where it is thrown.
   *
   * @param message names the thing; the way out goes into `options.hint`.
   */
  constructor(message: string, options: WireErrorOptions) {
    super(message, options);
  }
}

/** The peer sent bytes that are not the Postgres protocol. The connection is closed. */
export class ProtocolError extends WireError {
  /** `"ProtocolError"` */
  override name = "ProtocolError";

  /**
   * Made where it is thrown.
   *
   * @param message says what was sent and what was expected; never the bytes themselves.
   */
  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, { ...options, kind: "protocol-violation" });
  }
}

/** What connecting failed with, host by host. */
export function reasonsOf(error: unknown): readonly unknown[] {
  const all = error instanceof WireError && error.kind === "no-host" && error.cause;
  return all instanceof AggregateError ? all.errors : [error];
}
