import { describe, test } from "node:test";
import { assertEquals, assertFalse, assertStringIncludes, assertThrows } from "@std/assert";
import { type CreateTableOptions, PgVectorSink } from "../../../src/sinks/pgvector.ts";
import { pgVectorError } from "../../../src/sinks/pgvector_errors.ts";
import { SinkError } from "../../../src/sinks/sink.ts";

describe("options of PgVectorSink", () => {
  test("a dsn that cannot be read is refused, and its password not repeated", () => {
    for (
      const dsn of [
        "postgresql://u:canary@host:port/db",
        "postgresql://u:can%aary@host/db",
        "postgres://u:canary@ho st/db",
        "host=h password=canary",
        "canary",
      ]
    ) {
      const error = assertThrows(() => new PgVectorSink({ dsn }), SinkError);
      assertEquals(error.kind, "sink-options");
      assertFalse(`${error.message}${error.hint}${error.stack}`.includes("canary"), dsn);
      assertEquals(error.cause, undefined);
    }
  });

  test("neither dsn nor sql, a table without a name, and no dimensions are refused", () => {
    const dsn = "postgresql://localhost/db";
    assertThrows(() => new PgVectorSink({}), SinkError, "either dsn or sql");
    assertThrows(() => new PgVectorSink({ dsn, table: 'a"b' }), SinkError, "table's name");
    for (const dimensions of [0, -1, 1.5, NaN]) {
      const createTable = { dimensions };
      assertThrows(
        () => new PgVectorSink({ dsn, createTable }),
        SinkError,
        "createTable.dimensions",
      );
    }
  });

  test("an index that pgvector could not make is refused before the table is filled", () => {
    const dsn = "postgresql://localhost/db";
    const make = (createTable: unknown) => () =>
      new PgVectorSink({ dsn, createTable: createTable as CreateTableOptions });
    make({ dimensions: 2000, index: "hnsw" })();
    make({ dimensions: 3072, type: "halfvec", index: { type: "hnsw", distance: "ip", m: 8 } })();
    make({ dimensions: 3072 })();
    make({ dimensions: 100_000, type: "sparsevec", index: "hnsw" })();
    const error = assertThrows(make({ dimensions: 3072, index: "hnsw" }), SinkError);
    assertEquals(error.kind, "sink-options");
    assertStringIncludes(error.message, "2000");
    assertStringIncludes(error.hint!, "halfvec");
    const refused: [unknown, string][] = [
      [{ dimensions: 4001, type: "halfvec", index: "hnsw" }, "4000"],
      [{ dimensions: 3, type: "bit" }, "createTable.type"],
      [{ dimensions: 3, index: "ivfflat" }, "createTable.index"],
      [{ dimensions: 3, index: { type: "hnsw", distance: "toString" } }, "createTable.index"],
      [{ dimensions: 3, index: { type: "hnsw", m: "1; drop table x" } }, "m or efConstruction"],
      [{ dimensions: 3, index: { type: "hnsw", efConstruction: 0 } }, "m or efConstruction"],
    ];
    for (const [createTable, text] of refused) {
      assertThrows(make(createTable), SinkError, text);
    }
  });
});

describe("errors of Postgres", () => {
  const answer = (code: string, message: string) =>
    pgVectorError({ severity: "ERROR", code, message, detail: "secret" }, "public.docs");

  test("a program can tell them apart, and whether to try again", () => {
    const cases: [SinkError, string, boolean][] = [
      [answer("42P01", 'relation "docs" does not exist'), "sink-table-missing", false],
      [answer("3F000", 'schema "x" does not exist'), "sink-table-missing", false],
      [answer("42704", 'type "vector" does not exist'), "sink-extension-missing", false],
      [answer("58P01", 'could not open "vector"'), "sink-extension-missing", false],
      [
        answer("42883", "operator does not exist: vector <=> unknown"),
        "sink-extension-missing",
        false,
      ],
      [answer("42704", 'unrecognized configuration parameter "x"'), "sink-options", false],
      [answer("42P10", "there is no unique constraint"), "sink-table-shape", false],
      [answer("42501", "permission denied for table docs"), "sink-unauthorized", false],
      [answer("28P01", "password authentication failed"), "sink-unauthorized", false],
      [answer("40P01", "deadlock detected"), "sink-rejected", true],
      [answer("57P03", "the database system is starting up"), "sink-unreachable", true],
      [answer("53300", "too many clients already"), "sink-overloaded", true],
      [answer("23502", 'null value in column "x"'), "sink-rejected", false],
      [pgVectorError({ code: "ECONNREFUSED" }, "t"), "sink-unreachable", true],
      [pgVectorError({ code: "CONNECTION_CLOSED" }, "t"), "sink-unreachable", true],
      [pgVectorError({ code: "ERR_TLS_CERT_ALTNAME_INVALID" }, "t"), "sink-unreachable", false],
      [pgVectorError(undefined, "t"), "sink-rejected", false],
      [answer("26000", 'prepared statement "x" does not exist'), "sink-rejected", false],
    ];
    for (const [error, kind, retryable] of cases) {
      assertEquals([error.kind, error.retryable], [kind, retryable], error.message);
    }
  });

  test("a message that may quote a row is not repeated", () => {
    for (
      const error of [
        answer("22P02", 'invalid input syntax for type bigint: "secret"'),
        answer("22003", '"secret" is out of range for type vector'),
        answer("P0001", "secret raised by a trigger"),
        answer("XX000", "secret"),
      ]
    ) {
      assertFalse(error.message.includes("secret"), error.message);
      assertEquals([error.kind, error.cause], ["sink-rejected", undefined]);
    }
  });
});
