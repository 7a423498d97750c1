/**
 * Errors and notices as the server words them.
 * https://www.postgresql.org/docs/current/protocol-error-fields.html
 * https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
import { PgStreamError } from "../errors.ts";
import { decodeErrorFields } from "./backend.ts";

/** Every field of an ErrorResponse or a NoticeResponse; a field that was not sent, or is empty, is absent. */
export interface ServerMessage {
  /** `ERROR`, `FATAL`, `PANIC`; of notices `WARNING`, `NOTICE`, `DEBUG`, `INFO`, `LOG`. Never translated. */
  readonly severity: string;
  /** The SQLSTATE: five characters. */
  readonly code: string;
  /** The server's words, in the server's language. */
  readonly message: string;
  /** More words. May hold values of rows: not for logs. */
  readonly detail?: string;
  /** What the server suggests. */
  readonly hint?: string;
  /** Where in the statement, in characters from 1. */
  readonly position?: number;
  /** The same for `internalQuery`. */
  readonly internalPosition?: number;
  /** A statement that the server itself made. May hold values of rows: not for logs. */
  readonly internalQuery?: string;
  /** The call stack of the server's functions, one a line. May hold values of rows: not for logs. */
  readonly where?: string;
  /** The schema that the error is about. */
  readonly schema?: string;
  /** The table that the error is about. */
  readonly table?: string;
  /** The column that the error is about. */
  readonly column?: string;
  /** The data type that the error is about. */
  readonly dataType?: string;
  /** The constraint that the error is about. */
  readonly constraint?: string;
  /** The file of the server's source that reported it. */
  readonly file?: string;
  /** The line in `file`. */
  readonly line?: number;
  /** The function of the server that reported it. */
  readonly routine?: string;
}

/** NoticeResponse, or ErrorResponse: its fields by their names. */
export function decodeServerMessage(body: Uint8Array): ServerMessage {
  const fields = decodeErrorFields(body);
  const message: Record<string, string | number> = {
    // V is S untranslated; it is sent since 9.6.
    severity: fields.get("V") || fields.get("S") || "ERROR",
    code: fields.get("C") || "XX000",
    message: fields.get("M") || "the server gave no message",
  };
  for (const [code, name] of TEXT_FIELDS) {
    const value = fields.get(code);
    if (value) message[name] = value;
  }
  for (const [code, name] of NUMBER_FIELDS) {
    const value = Number(fields.get(code));
    if (Number.isInteger(value)) message[name] = value;
  }
  return message as unknown as ServerMessage;
}

const TEXT_FIELDS = [
  ["D", "detail"],
  ["H", "hint"],
  ["q", "internalQuery"],
  ["W", "where"],
  ["s", "schema"],
  ["t", "table"],
  ["c", "column"],
  ["d", "dataType"],
  ["n", "constraint"],
  ["F", "file"],
  ["R", "routine"],
] as const;
const NUMBER_FIELDS = [["P", "position"], ["p", "internalPosition"], ["L", "line"]] as const;

/** What a server's error means for a program. */
export type PostgresErrorKind =
  /** 28P01, 28000: the user, the password, or pg_hba.conf. */
  | "authentication"
  /** 3D000 */
  | "database-missing"
  /** 42501 */
  | "privilege-missing"
  /** 53300 */
  | "too-many-connections"
  /** 57P03: starting up, shutting down, in recovery. */
  | "server-starting"
  /** 57P01, 57P02, 57P05: the server ended the session. */
  | "server-stopped"
  /** 08P01: a pooler, as a rule. */
  | "protocol-rejected"
  /** Any other SQLSTATE: see `code`. */
  | "postgres";

interface Meaning {
  readonly kind: PostgresErrorKind;
  /** Where the server gives none. */
  readonly hint?: string;
}

const AUTHENTICATION: Meaning = {
  kind: "authentication",
  hint: "Check user and password, and that pg_hba.conf lets this user in from here.",
};
const SERVER_STOPPED: Meaning = { kind: "server-stopped", hint: "Connect again." };

// A map: an object would find meanings for codes such as "constructor".
const MEANINGS: ReadonlyMap<string, Meaning> = new Map(Object.entries<Meaning>({
  "28P01": AUTHENTICATION,
  "28000": AUTHENTICATION,
  "3D000": { kind: "database-missing", hint: "Check the database's name in the DSN." },
  "42501": { kind: "privilege-missing" },
  "53300": {
    kind: "too-many-connections",
    hint: "Raise max_connections (for replication max_wal_senders), or close other connections.",
  },
  "57P01": SERVER_STOPPED,
  "57P02": SERVER_STOPPED,
  "57P03": { kind: "server-starting", hint: "Try again when the server accepts connections." },
  "57P05": SERVER_STOPPED,
  "08P01": {
    kind: "protocol-rejected",
    hint: "Connection poolers do not speak replication: use the server's direct address.",
  },
}));

/**
 * What passes by itself, as far as a program can tell.
 * - 08: the connection; but 08P01 is what a pooler says to replication, time and again
 * - 25P03, 25P04, 57P05: the server ended a session that was idle, or a transaction, for too long
 * - 40: a transaction that met another one
 * - 53000, 53100, 53200, 53300: the server is short of something; but 53400 is a limit that is set
 * - 55006, 55P03: somebody holds it now
 * - 57014: somebody cancelled it, or it took too long; 57P01, 57P02, 57P03: the server stops or starts
 */
const RETRYABLE = /^(?:08(?!P01)|25P0[34]|40|53[0-3]00|55006|55P03|57014|57P0[1235])/;

/**
 * An error that the server reported. `message` is the server's message, its SQLSTATE and the hint; the
 * other fields are as sent. `detail`, `where` and `internalQuery` may hold values of rows: they can be read,
 * but are not enumerable, so that neither printing the error, also as a `cause`, nor
 * `JSON.stringify` repeats them.
 */
export class PostgresError extends PgStreamError implements Omit<ServerMessage, "hint"> {
  /** `"PostgresError"` */
  override name = "PostgresError";
  /** What the SQLSTATE means for a program. */
  declare readonly kind: PostgresErrorKind;
  /** `ERROR`, or, where the server ended the connection, `FATAL` or `PANIC`. */
  readonly severity: string;
  /** The SQLSTATE: five characters, for example `"42P01"`. */
  readonly code: string;
  /** More words. May hold values of rows: not enumerable, not for logs. */
  declare readonly detail?: string;
  /** Where in the statement, in characters from 1. */
  declare readonly position?: number;
  /** The same for `internalQuery`. */
  declare readonly internalPosition?: number;
  /** A statement that the server itself made. May hold values of rows: not enumerable. */
  declare readonly internalQuery?: string;
  /** The call stack of the server's functions, one a line. May hold values of rows: not enumerable. */
  declare readonly where?: string;
  /** The schema that the error is about. */
  declare readonly schema?: string;
  /** The table that the error is about. */
  declare readonly table?: string;
  /** The column that the error is about. */
  declare readonly column?: string;
  /** The data type that the error is about. */
  declare readonly dataType?: string;
  /** The constraint that the error is about. */
  declare readonly constraint?: string;
  /** The file of the server's source that reported it. */
  declare readonly file?: string;
  /** The line in `file`. */
  declare readonly line?: number;
  /** The function of the server that reported it. */
  declare readonly routine?: string;

  /**
   * Takes over what the server sent.
   *
   * @param response the fields of an ErrorResponse.
   */
  constructor(response: ServerMessage) {
    const { message, severity, code, hint: serverHint, ...fields } = response;
    const { detail, where, internalQuery, ...shown } = fields;
    const { kind, hint: ownHint } = MEANINGS.get(code) ?? { kind: "postgres" };
    const hint = serverHint ?? ownHint;
    super(`${message} (SQLSTATE ${code})`, {
      kind,
      retryable: RETRYABLE.test(code),
      ...(hint === undefined ? {} : { hint }),
    });
    this.severity = severity;
    this.code = code;
    Object.assign(this, shown);
    for (const [name, value] of Object.entries({ detail, where, internalQuery })) {
      if (value !== undefined) Object.defineProperty(this, name, { value, enumerable: false });
    }
  }

  /** True where the server ended the connection with this error: severity FATAL or PANIC. */
  get fatal(): boolean {
    return this.severity === "FATAL" || this.severity === "PANIC";
  }
}
