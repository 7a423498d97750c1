/**
 * The simple query protocol: one text of SQL, results as text.
 * https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY
 */
import {
  decodeCommandComplete,
  decodeCopyResponse,
  decodeDataRow,
  decodeEmpty,
  decodeRowDescription,
  type FieldDescription,
} from "./backend.ts";
import { WireError } from "./errors.ts";
import { MessageType } from "./frames.ts";
import { encodeCopyFail, encodeQuery } from "./frontend.ts";
import type { PostgresError } from "./postgres_error.ts";
import type { Channel } from "./channel.ts";

/** What a statement gave. */
export interface QueryResult {
  /** The columns; empty where the statement gives no rows. */
  readonly fields: readonly FieldDescription[];
  /** Each row's values as the server's text, in the order of `fields`; SQL NULL is null. */
  readonly rows: readonly (readonly (string | null)[])[];
  /** The command tag, for example `SELECT 3`; empty for an empty statement. */
  readonly command: string;
}

const NO_RESULT: QueryResult = { fields: [], rows: [], command: "" };

/**
 * Runs SQL. Of several statements the last result that has columns is returned, else the last.
 *
 * @throws {PostgresError} the first error, once the server is ready again.
 */
export async function simpleQuery(channel: Channel, sql: string): Promise<QueryResult> {
  send(channel, sql);
  let best: QueryResult | null = null;
  let fields: readonly FieldDescription[] = [];
  let rows: (readonly (string | null)[])[] = [];
  let error: PostgresError | WireError | null = null;
  for (;;) {
    const frame = channel.take() ?? await channel.next();
    switch (frame.type) {
      case MessageType.RowDescription:
        fields = channel.decode(() => decodeRowDescription(frame.body));
        rows = [];
        break;
      case MessageType.DataRow:
        rows.push(channel.decode(() => decodeDataRow(frame.body, fields.length)));
        break;
      case MessageType.CommandComplete: {
        const command = channel.decode(() => decodeCommandComplete(frame.body));
        if (fields.length > 0 || (best?.fields.length ?? 0) === 0) best = { fields, rows, command };
        fields = [];
        rows = [];
        break;
      }
      case MessageType.EmptyQueryResponse:
        channel.decode(() => decodeEmpty("EmptyQueryResponse", frame.body));
        break;
      case MessageType.ErrorResponse:
        // The error that a refused COPY provokes says less than ours.
        error ??= channel.serverError(frame.body);
        break;
      case MessageType.CopyInResponse:
        error ??= wrongStatement("query()", "COPY FROM STDIN");
        await channel.write(encodeCopyFail("not supported by this client"));
        break;
      case MessageType.CopyOutResponse:
        error ??= wrongStatement("query()", "COPY TO STDOUT", "Use copyOut().");
        break;
      case MessageType.CopyBothResponse:
        throw channel.fail(wrongStatement("query()", "START_REPLICATION", "Use copyBoth()."));
      case MessageType.CopyData:
      case MessageType.CopyDone:
        if (error !== null) break;
        throw channel.unexpected(frame, "a query");
      case MessageType.ReadyForQuery:
        channel.ready(frame.body);
        if (error !== null) throw error;
        return best ?? NO_RESULT;
      default:
        throw channel.unexpected(frame, "a query");
    }
  }
}

/**
 * Runs a statement that begins a copy, and reads to the server's answer to it.
 *
 * @throws {PostgresError} once the server is ready again.
 * @throws {WireError} `"wrong-statement"` where it begins no such copy.
 */
export async function beginCopy(
  channel: Channel,
  sql: string,
  direction: "out" | "both",
): Promise<void> {
  const [wanted, method] = direction === "out"
    ? [MessageType.CopyOutResponse, "copyOut()"]
    : [MessageType.CopyBothResponse, "copyBoth()"];
  send(channel, sql);
  for (;;) {
    const frame = await channel.next();
    switch (frame.type) {
      case wanted:
        channel.decode(() => decodeCopyResponse(frame.body));
        return;
      case MessageType.ErrorResponse: {
        const error = channel.serverError(frame.body);
        await channel.untilReady();
        throw error;
      }
      case MessageType.CopyInResponse:
      case MessageType.CopyBothResponse:
        throw channel.fail(wrongStatement(method, "another kind of COPY"));
      case MessageType.ReadyForQuery:
        channel.ready(frame.body);
        throw wrongStatement(method, "a statement that copies nothing");
    }
  }
}

/**
 * A server that is gone may have left its words, which reading finds: so a failed write is left
 * for the read to report.
 */
function send(channel: Channel, sql: string): void {
  channel.write(encodeQuery(sql)).catch(() => {});
}

function wrongStatement(method: string, statement: string, hint?: string): WireError {
  return new WireError(`Cannot run ${statement} with ${method}`, {
    kind: "wrong-statement",
    ...(hint === undefined ? {} : { hint }),
  });
}
