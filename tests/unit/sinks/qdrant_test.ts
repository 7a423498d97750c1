import { describe, test } from "node:test";
import { assertEquals, assertFalse, assertThrows } from "@std/assert";
import { QdrantSink } from "../../../src/sinks/qdrant.ts";
import { qdrantError } from "../../../src/sinks/qdrant_errors.ts";
import { parseQdrantUrl } from "../../../src/sinks/qdrant_url.ts";
import { SinkError } from "../../../src/sinks/sink.ts";

describe("url of Qdrant", () => {
  test("host, port and path reach the client as they were written", () => {
    const cases: [string, boolean, string, number, string][] = [
      ["http://localhost:6333", false, "localhost", 6333, ""],
      ["http://localhost", false, "localhost", 6333, ""],
      ["https://abc.cloud.qdrant.io", true, "abc.cloud.qdrant.io", 6333, ""],
      ["https://example.com:443/", true, "example.com", 443, ""],
      ["https://example.com/vectors/", true, "example.com", 443, "/vectors"],
      ["http://example.com/a/b", false, "example.com", 80, "/a/b"],
      ["HTTP://[::1]:7000/a", false, "[::1]", 7000, "/a"],
    ];
    for (const [url, https, host, port, prefix] of cases) {
      assertEquals(parseQdrantUrl(url), { https, host, port, prefix }, url);
    }
  });

  test("what is no such url is refused, and a password in it not repeated", () => {
    for (
      const url of ["localhost:6333", "grpc://x", "http://", "http://u:canary@h", "http://h?canary"]
    ) {
      const error = assertThrows(() => new QdrantSink({ url }), SinkError);
      assertEquals(error.kind, "sink-options");
      assertFalse(`${error.message}${error.hint}${String(error.cause)}`.includes("canary"));
    }
  });

  test("a url and a client together, or neither, are refused", () => {
    assertThrows(() => new QdrantSink({}), SinkError, "either url or client");
  });
});

describe("errors of Qdrant", () => {
  const answer = (status: number, error: string, headers: Record<string, string> = {}) =>
    qdrantError({ status, data: { status: { error } }, headers: new Headers(headers) }, "docs");

  test("a program can tell them apart, and whether to try again", () => {
    const cases: [SinkError, string, boolean][] = [
      [
        answer(404, "Not found: Collection `docs` doesn't exist!"),
        "sink-collection-missing",
        false,
      ],
      [answer(404, ""), "sink-rejected", false],
      [answer(401, ""), "sink-unauthorized", false],
      [answer(403, "Forbidden"), "sink-unauthorized", false],
      [answer(500, "Service internal error"), "sink-unreachable", true],
      [answer(503, "busy"), "sink-overloaded", true],
      [answer(400, "Wrong input: something"), "sink-rejected", false],
      [qdrantError(new TypeError("fetch failed"), "docs"), "sink-unreachable", true],
      [qdrantError(null, "docs"), "sink-unreachable", true],
    ];
    for (const [error, kind, retryable] of cases) {
      assertEquals([error.kind, error.retryable], [kind, retryable], error.message);
      assertEquals(error.message.includes('"docs"'), true);
    }
  });

  test("both texts that Qdrant has had for a wrong dimension are understood", () => {
    for (const what of ["Vector dimension error", "Vector inserting error"]) {
      const error = answer(400, `Wrong input: ${what}: expected dim: 4, got 3`);
      assertEquals([error.kind, error.expected, error.got], ["sink-dimension", 4, 3]);
    }
  });

  test("the time to wait is read from the header, or from what the client left of it", () => {
    assertEquals(answer(503, "", { "retry-after": "15" }).retryAfterMs, 15_000);
    assertEquals(answer(429, "", { "retry-after": "Wed, 21 Oct" }).retryAfterMs, undefined);
    const limited = qdrantError({ retry_after: 3, message: "Too Many Requests" }, "docs");
    assertEquals([limited.kind, limited.retryAfterMs], ["sink-overloaded", 3000]);
    const dated = qdrantError(new Error("Invalid retryAfter value: W"), "docs");
    assertEquals([dated.kind, dated.retryable], ["sink-overloaded", true]);
  });

  test("a complaint that quotes what was sent is not repeated", () => {
    const error = answer(400, 'Format error in JSON body: invalid type: string "secret"');
    assertFalse(error.message.includes("secret"));
    assertEquals(error.cause, undefined);
  });
});
