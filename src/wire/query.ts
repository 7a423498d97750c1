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
import { ProtocolError, WireError } from "./errors.ts";
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

// What is asked here is small: large tables are copied. Without a bound a server could fill the memory.
const MAX_RESULT_BYTES = 32 * 1024 * 1024;
/** What a row costs beside its values. */
const ROW_BYTES = 64;

const NO_RESULT: QueryResult = { fields: [], rows: [], command: "" };

/**
 * Runs SQL. Of several statements the last result that has columns is returned, else the last.
 *
 * @throws {PostgresError} the first error, once the server is ready again.
 * @throws {ProtocolError} also where the rows take more than 32 MiB, or end without a CommandComplete.
 */
export async function simpleQuery(channel: Channel, sql: string): Promise<QueryResult> {
  send(channel, sql);
  let best: QueryResult | null = null;
  /** Null where no result is being sent. */
  let fields: readonly FieldDescription[] | null = null;
  let rows: (readonly (string | null)[])[] = [];
  let bytes = 0;
  let error: PostgresError | WireError | null = null;
  for (;;) {
    const frame = channel.take() ?? await channel.next();
    switch (frame.type) {
      case MessageType.RowDescription:
        if (fields !== null) throw channel.unexpected(frame, "the rows of a query");
        fields = channel.decode(() => decodeRowDescription(frame.body));
        break;
      case MessageType.DataRow: {
        if (fields === null) throw channel.unexpected(frame, "a query before its columns");
        const { length } = fields;
        bytes += frame.body.length + ROW_BYTES;
        if (bytes > MAX_RESULT_BYTES) throw channel.fail(resultTooLarge());
        rows.push(channel.decode(() => decodeDataRow(frame.body, length)));
        break;
      }
      case MessageType.CommandComplete: {
        const command = channel.decode(() => decodeCommandComplete(frame.body));
        const result = { fields: fields ?? [], rows, command };
        if (result.fields.length > 0 || (best?.fields.length ?? 0) === 0) best = result;
        fields = null;
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
        channel.decode(() => decodeCopyResponse(frame.body));
        error ??= wrongStatement("query()", "COPY FROM STDIN");
        await channel.write(encodeCopyFail("not supported by this client"));
        break;
      case MessageType.CopyOutResponse:
        channel.decode(() => decodeCopyResponse(frame.body));
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
        if (fields !== null) throw channel.unexpected(frame, "the rows of a query");
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
    const frame = channel.take() ?? await channel.next();
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
      case MessageType.CopyOutResponse:
      case MessageType.CopyBothResponse:
        throw channel.fail(wrongStatement(method, "another kind of COPY"));
      case MessageType.CopyData:
      case MessageType.CopyDone:
        throw channel.unexpected(frame, "a COPY before it has begun");
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

function resultTooLarge(): ProtocolError {
  return new ProtocolError(
    `The server answered a query by rows of more than ${MAX_RESULT_BYTES} bytes`,
  );
}

function wrongStatement(method: string, statement: string, hint?: string): WireError {
  return new WireError(`Cannot run ${statement} with ${method}`, {
    kind: "wrong-statement",
    ...(hint === undefined ? {} : { hint }),
  });
}
