import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
  assertStrictEquals,
} from "@std/assert";
import { test } from "node:test";
import { HandlerError } from "../../src/delivery/errors.ts";
import { isRetryable, PgStreamError } from "../../src/errors.ts";
import { PublicationError, ReplicationError, SlotError } from "../../src/replication/errors.ts";

test("an error carries what programs branch on, what people do, and what was caught", () => {
  const cause = new Error("why");
  const error = new PgStreamError("What happened", { kind: "some-kind", hint: "Do this.", cause });
  assertInstanceOf(error, Error);
  assertEquals(error.message, "What happened. Do this.");
  assertEquals([error.kind, error.hint, error.retryable], ["some-kind", "Do this.", false]);
  assertStrictEquals(error.cause, cause);
  assertEquals(error.summary, "What happened");
  assertEquals(String(error), "PgStreamError: What happened. Do this.");
});

test("an error without hint or cause has neither, not an empty one", () => {
  const error = new PgStreamError("m", { kind: "k" });
  assertFalse("hint" in error);
  assertFalse("cause" in error);
});

test("a cause that is falsy is a cause all the same", () => {
  for (const cause of [null, 0, "", false]) {
    assertStrictEquals(new PgStreamError("m", { kind: "k", cause }).cause, cause);
  }
});

test("derived errors are told apart by name and by class, and are all PgStreamErrors", () => {
  const slot = new SlotError("m", { kind: "slot-in-use", slotName: "s", activePid: 4711 });
  assertEquals(String(slot), "SlotError: m");
  assertEquals([slot.slotName, slot.activePid], ["s", 4711]);
  assertInstanceOf(slot, ReplicationError);
  assertInstanceOf(slot, PgStreamError);
  const publication = new PublicationError("m", { kind: "k", publicationName: "p" });
  assertEquals([String(publication), publication.publicationName], ["PublicationError: m", "p"]);
  assertFalse(publication instanceof SlotError);
});

test("only what says so is worth a retry, never another library's error or a thrown text", () => {
  assert(isRetryable(new PgStreamError("m", { kind: "k", retryable: true })));
  assert(isRetryable(new SlotError("m", { kind: "k", slotName: "s", retryable: true })));
  assertFalse(isRetryable(new PgStreamError("m", { kind: "k" })));
  const pretender = Object.assign(new Error("m"), { retryable: true });
  for (const other of [pretender, { retryable: true }, "text", null, undefined]) {
    assertFalse(isRetryable(other));
  }
});

test("a failed handler is not retryable because its cause is: the stream has given it up", () => {
  const cause = new PgStreamError("m", { kind: "k", retryable: true });
  const event = {
    operation: "truncate",
    schema: "public",
    table: "t",
    lsn: "0/1",
    ordinal: 3,
    commitTime: new Date(0),
    xid: 1,
    unchanged: [],
    row: {},
    oldRow: null,
    key: null,
    oldKey: null,
    backfill: false,
  } as const;
  const error = new HandlerError(event, cause);
  assertFalse(isRetryable(error));
  assertEquals(
    error.summary,
    "The handler failed on truncate of public.t at 0/1, event 3 of its transaction",
  );
});
