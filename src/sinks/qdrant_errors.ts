/** What went wrong in Qdrant, said in the terms of the sink. */

import { dimensionError, SinkError } from "./sink.ts";

// Errors of the client are told apart by their fields: it rewraps them, and two copies of it may be
// installed. A server's answer may quote values and is never a `cause`.

/** An error of the client: an answer other than 2xx, or whatever `fetch` threw. */
interface Caught {
  name?: string;
  message?: string;
  status?: number;
  data?: { status?: { error?: string } } | string;
  headers?: Headers;
  retry_after?: number;
  cause?: { code?: string };
}

/** A `SinkError` for whatever a request for `collection` threw. */
export function qdrantError(error: unknown, collection: string): SinkError {
  if (error instanceof SinkError) return error;
  const caught = (error ?? {}) as Caught;
  const store = `Collection "${collection}"`;
  const fail = (kind: string, text: string, hint: string, retryable = false): SinkError => {
    const code = caught.status ?? caught.cause?.code;
    const retryAfterMs = retryAfter(caught);
    return new SinkError(text, {
      kind,
      sink: "qdrant",
      hint,
      retryable,
      ...(code === undefined ? {} : { code: String(code) }),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
  };

  if (isOverloaded(caught)) {
    return fail(
      "sink-overloaded",
      `${store}: Qdrant asks for patience`,
      "Write less at a time",
      true,
    );
  }
  const { status } = caught;
  if (status === undefined) {
    const cause = caught.cause?.code ?? caught.name ?? "unknown error";
    return fail(
      "sink-unreachable",
      `${store}: cannot reach Qdrant: ${cause}`,
      "Check that the server runs, and the port in the url (Qdrant's own is 6333)",
      true,
    );
  }
  const said = answerText(caught);
  const dimensions = /error: expected dim: (\d+), got (\d+)/.exec(said);
  if (dimensions !== null) {
    return dimensionError(
      "qdrant",
      store,
      Number(dimensions[1]),
      Number(dimensions[2]),
      String(status),
    );
  }
  if (status === 404 && said.includes("doesn't exist")) {
    return fail(
      "sink-collection-missing",
      `${store} does not exist`,
      "Pass createCollection: { size, distance } to the sink, or create it in Qdrant",
    );
  }
  const index = /Index required but not found for "([^"]*)"/.exec(said);
  if (index !== null) {
    return fail(
      "sink-collection-mismatch",
      `${store} is in strict mode and has no index of ${index[1]}`,
      "Name it in payloadIndexes and call prepareRows(), as setup() does for what is synced",
    );
  }
  if (said.includes("Not existing vector name")) {
    return fail(
      "sink-collection-mismatch",
      `${store} has no vectors of the name that the sink writes to`,
      "Pass vectorName: the name of the collection's vectors; leave it out where they have none",
    );
  }
  if (status === 404) {
    return fail(
      "sink-rejected",
      `${store}: nothing that answers as Qdrant does is at this url`,
      "Check host, port and path of the url",
    );
  }
  if (status === 401 || status === 403) {
    return fail("sink-unauthorized", `${store}: Qdrant refused access`, "Check the apiKey");
  }
  if (status >= 500) {
    return fail(
      "sink-unreachable",
      `${store}: Qdrant failed with status ${status}`,
      "Try again",
      true,
    );
  }
  return fail(
    "sink-rejected",
    `${store}: Qdrant refused the request with status ${status}${said === "" ? "" : `: ${said}`}`,
    "Look at the server's log",
  );
}

/** `Conflict` is 409 since Qdrant 1.8; before that it was 400 with the same text. */
export function saysAlreadyExists(error: unknown): boolean {
  return answerText((error ?? {}) as Caught).includes("already exists");
}

/** True where the collection is not there. */
export function saysMissing(error: unknown): boolean {
  return (error as Caught | null)?.status === 404 &&
    answerText(error as Caught).includes("doesn't exist");
}

/**
 * The client makes an error without a status of a 429 that has a `Retry-After`, and fails to where
 * the header is a date.
 */
function isOverloaded({ status, retry_after, message }: Caught): boolean {
  return status === 429 || status === 503 || retry_after !== undefined ||
    message?.startsWith("Invalid retryAfter value") === true;
}

/**
 * Of a 429's header the client keeps the first character, so that its `retry_after` is a lower bound:
 * 1 for "15". Of other answers the header is there.
 */
function retryAfter({ headers, retry_after }: Caught): number | undefined {
  const header = headers?.get?.("retry-after");
  const seconds = header == null ? retry_after : Number(header);
  return seconds === undefined || !Number.isFinite(seconds) ? undefined : seconds * 1000;
}

/** A complaint about the form of a request quotes what was sent: only its beginning is kept. */
function answerText({ data }: Caught): string {
  const said = typeof data === "string" ? data : data?.status?.error;
  if (typeof said !== "string") return "";
  return /^Format error/.test(said) ? "the form of the request" : said.slice(0, 300);
}
