import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { test } from "node:test";
import { inspect } from "node:util";
import * as backend from "../../../src/wire/backend.ts";
import { ProtocolError, WireError } from "../../../src/wire/errors.ts";
import { decodeServerMessage, PostgresError } from "../../../src/wire/postgres_error.ts";
import { concat, int16, int32, msg, say } from "../../support/scripted_server.ts";

const body = (message: Uint8Array): Uint8Array => message.subarray(5);
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

const decoders: [string, (body: Uint8Array) => unknown, Uint8Array, unknown][] = [
  ["ok", backend.decodeAuthentication, say.authenticationOk, { type: "ok" }],
  ["cleartext", backend.decodeAuthentication, say.cleartext, { type: "cleartext-password" }],
  ["md5", backend.decodeAuthentication, msg("R", int32(5), [1, 2, 3, 4]), {
    type: "md5-password",
    salt: Uint8Array.of(1, 2, 3, 4),
  }],
  ["sasl", backend.decodeAuthentication, say.sasl("A", "B"), {
    type: "sasl",
    mechanisms: ["A", "B"],
  }],
  ["key", backend.decodeBackendKeyData, say.key, {
    processId: 77,
    secretKey: Uint8Array.of(1, 2, 3, 4),
  }],
  ["parameter", backend.decodeParameterStatus, say.parameter("TimeZone", "UTC"), {
    name: "TimeZone",
    value: "UTC",
  }],
  ["ready", backend.decodeReadyForQuery, msg("Z", "E"), "failed-transaction"],
  ["columns", backend.decodeRowDescription, say.columns("é", "b"), [
    {
      name: "é",
      tableOid: 0,
      columnNumber: 0,
      typeOid: 25,
      typeSize: -1,
      typeModifier: -1,
    },
    {
      name: "b",
      tableOid: 0,
      columnNumber: 0,
      typeOid: 25,
      typeSize: -1,
      typeModifier: -1,
    },
  ]],
  ["row", (body) => backend.decodeDataRow(body, 3), say.row("é", null, ""), ["é", null, ""]],
  ["complete", backend.decodeCommandComplete, say.complete("SELECT 3"), "SELECT 3"],
  ["copy", backend.decodeCopyResponse, msg("H", [1], int16(2), int16(1), int16(1)), {
    binary: true,
    columns: 2,
  }],
  ["empty", (body) => backend.decodeEmpty("CopyDone", body) ?? "", say.copyDone, ""],
  ["notification", backend.decodeNotification, msg("A", int32(5), "ch\0pay\0"), {
    processId: 5,
    channel: "ch",
    payload: "pay",
  }],
  ["negotiate", backend.decodeNegotiateProtocolVersion, msg("v", int32(0), int32(1), "_pq_.x\0"), {
    newestMinor: 0,
    unrecognizedOptions: ["_pq_.x"],
  }],
  [
    "error fields",
    (body) => [...backend.decodeErrorFields(body)],
    msg("E", "SERROR\0CXX000\0?new\0", [0]),
    [["S", "ERROR"], ["C", "XX000"], ["?", "new"]],
  ],
];

test("each message reads as it was sent", () => {
  for (const [name, decode, message, expected] of decoders) {
    assertEquals(decode(body(message)), expected, name);
  }
});

test("a message that is cut short is an error at every byte", () => {
  for (const [name, decode, message] of decoders) {
    for (let length = 0; length < body(message).length; length++) {
      assertThrows(() => decode(body(message).slice(0, length)), ProtocolError, undefined, name);
    }
  }
});

test("a byte too many is an error", () => {
  for (const [name, decode, message] of decoders) {
    // A key is as long as it is.
    if (name === "key") continue;
    const longer = concat([body(message), Uint8Array.of(0)]);
    assertThrows(() => decode(longer), ProtocolError, undefined, name);
  }
});

test("counts and lengths that lie are errors and allocate nothing", () => {
  const lies: [(body: Uint8Array) => unknown, Uint8Array][] = [
    [(body) => backend.decodeDataRow(body, 65_535), msg("D", int16(65_535))],
    [(body) => backend.decodeDataRow(body, 1), msg("D", int16(2), int32(-1), int32(-1))],
    [(body) => backend.decodeDataRow(body, 1), msg("D", int16(1), int32(2 ** 31 - 1))],
    [(body) => backend.decodeDataRow(body, 1), msg("D", int16(1), int32(-2))],
    [backend.decodeRowDescription, msg("T", int16(-1))],
    [backend.decodeNegotiateProtocolVersion, msg("v", int32(0), int32(2 ** 31 - 1))],
    [backend.decodeCopyResponse, msg("H", [0], int16(-1))],
    [backend.decodeCopyResponse, msg("H", [2], int16(0))],
    [backend.decodeReadyForQuery, msg("Z", "X")],
    [backend.decodeBackendKeyData, msg("K", int32(1), [1, 2, 3])],
  ];
  for (const [decode, message] of lies) assertThrows(() => decode(body(message)), ProtocolError);
});

test("a value that is not UTF-8 is an error, never replaced", () => {
  const row = concat([Uint8Array.from([...int16(1), ...int32(1)]), Uint8Array.of(0xff)]);
  const error = assertThrows(() => backend.decodeDataRow(row, 1), ProtocolError);
  assertFalse(error.message.includes("\ufffd"));
});

test("a server's error keeps every field, and its message shows no detail", () => {
  const fields = "SFEHLER\0VERROR\0C23505\0Mdoppelt\0DKey (id)=(secret) exists\0Htry again\0" +
    "P7\0p8\0qSELECT 1\0Wthere\0spublic\0tdocs\0cid\0dint4\0ndocs_pkey\0Fnbtinsert.c\0L664\0" +
    "R_bt_check\0Znew field\0\0";
  const error = new PostgresError(decodeServerMessage(bytes(fields)));
  assertEquals(error.message, "doppelt (SQLSTATE 23505). try again");
  const { kind, hint, severity, code, detail, position, internalPosition, internalQuery } = error;
  assertEquals({ kind, hint, severity, code, detail, position, internalPosition, internalQuery }, {
    kind: "postgres",
    hint: "try again",
    severity: "ERROR",
    code: "23505",
    detail: "Key (id)=(secret) exists",
    position: 7,
    internalPosition: 8,
    internalQuery: "SELECT 1",
  });
  const { where, schema, table, column, dataType, constraint, file, line, routine } = error;
  assertEquals({ where, schema, table, column, dataType, constraint, file, line, routine }, {
    where: "there",
    schema: "public",
    table: "docs",
    column: "id",
    dataType: "int4",
    constraint: "docs_pkey",
    file: "nbtinsert.c",
    line: 664,
    routine: "_bt_check",
  });
  assertFalse(`${error.stack}`.includes("secret"));
});

test("printing a server's error shows no value of a row, also where it is a cause", () => {
  const error = new PostgresError({
    severity: "ERROR",
    code: "23505",
    message: "duplicate key",
    detail: "Key (id)=(canary) exists",
    where: "COPY docs, line 1: canary",
    internalQuery: "SELECT 'canary'",
    table: "docs",
  });
  const outer = new WireError("The copy failed", { kind: "copy-ended", cause: error });
  for (const shown of [error, outer, { error }, new AggregateError([error])]) {
    assertFalse(inspect(shown, { depth: 10 }).includes("canary"));
    assertFalse(JSON.stringify(shown).includes("canary"));
    assertFalse(JSON.stringify({ ...shown }).includes("canary"));
  }
  assert(inspect(error).includes("docs"), "what is harmless is shown");
  const { detail, where, internalQuery } = error;
  for (const read of [detail, where, internalQuery]) assert(read?.includes("canary"));
});

test("a program can tell by kind what to do, and whether trying again may help", () => {
  const table: [string, string, boolean][] = [
    ["28P01", "authentication", false],
    ["28000", "authentication", false],
    ["3D000", "database-missing", false],
    ["42501", "privilege-missing", false],
    ["53300", "too-many-connections", true],
    ["57P03", "server-starting", true],
    ["57P01", "server-stopped", true],
    ["57P02", "server-stopped", true],
    ["08P01", "protocol-rejected", false],
    ["08006", "postgres", true],
    ["40001", "postgres", true],
    ["40P01", "postgres", true],
    ["42P01", "postgres", false],
  ];
  for (const [code, kind, retryable] of table) {
    const error = new PostgresError({ severity: "ERROR", code, message: "m" });
    assertEquals([error.kind, error.retryable], [kind, retryable], code);
  }
});

test("an error in the server's own encoding is shown rather than lost", () => {
  const latin1 = concat([bytes("SFATAL\0C28P01\0MBenutzer gesch"), Uint8Array.of(0xfc, 0, 0)]);
  assertEquals(decodeServerMessage(latin1).message, "Benutzer gesch\ufffd");
});

test("an error without any field is still an error", () => {
  const { severity, code } = decodeServerMessage(Uint8Array.of(0));
  assertEquals([severity, code], ["ERROR", "XX000"]);
});
