import { assert, assertEquals, assertThrows } from "@std/assert";
import { test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import { checkOptions, type PgStreamOptions } from "../../../src/stream/options.ts";
import { PgStream } from "../../../src/stream/pg_stream.ts";

test("defaults, written out or left out, are fine", () => {
  const options: PgStreamOptions[] = [
    {},
    { dsn: "postgresql://localhost/db", slotName: "s", publicationName: "P p", password: "x" },
    { values: "text", backfill: "never", concurrency: 1 },
    { onFailure: "stop", onSlotLost: "error", whenSlotInUse: "error", logger: false },
    { reconnect: false },
    { maxQueueBytes: 1 },
    { maxQueueBytes: 8 * 1024 * 1024 },
  ];
  for (const option of options) checkOptions(option);
});

test("an option that this version does not carry out is an error, never ignored", () => {
  const options: PgStreamOptions[] = [
    { values: "js" },
    { backfill: "initial" },
    { concurrency: 2 },
    { onFailure: () => "skip" },
    { onSlotLost: "recreate" },
    { whenSlotInUse: "wait" },
    { retry: { attempts: 3 } },
    { reconnect: { attempts: 3 } },
  ];
  for (const option of options) {
    const [name] = Object.keys(option);
    const error = assertThrows(() => checkOptions(option), PgStreamError, name);
    assertEquals(error.kind, "not-available", name);
    assert(error.hint !== undefined, name);
  }
});

test("a queue without a bound, or of none, is an error that names the option", () => {
  for (const maxQueueBytes of [0, -1, NaN, Infinity, -Infinity]) {
    const error = assertThrows(
      () => checkOptions({ maxQueueBytes }),
      PgStreamError,
      `maxQueueBytes cannot be ${maxQueueBytes}`,
    );
    assertEquals(error.kind, "invalid-option");
  }
});

test("an option that cannot be is an error that names it, whatever its type", () => {
  const wrong: [keyof PgStreamOptions, unknown[]][] = [
    ["values", ["json", "", "TEXT", 1]],
    ["backfill", ["always", true, ""]],
    ["concurrency", [0, -1, 1.5, NaN, Infinity, "2"]],
    ["maxQueueBytes", ["8", true]],
    ["retry", ["x", 5, true]],
    ["onFailure", ["ignore", "skip", true]],
    ["onSlotLost", ["x", true]],
    ["whenSlotInUse", ["x", true]],
    ["reconnect", ["x", true, 5]],
  ];
  for (const [name, values] of wrong) {
    for (const value of values) {
      const what = `${name}: ${JSON.stringify(value)}`;
      const error = assertThrows(
        () => new PgStream({ [name]: value } as PgStreamOptions),
        PgStreamError,
        name,
        what,
      );
      assertEquals(error.kind, "invalid-option", what);
      assert(error.hint !== undefined, what);
    }
  }
});

test("no error repeats the password or the DSN", () => {
  const secret = { dsn: "postgresql://u:canary@h/db", password: "canary" };
  for (const option of [{ values: "js" }, { maxQueueBytes: -1 }] as const) {
    const error = assertThrows(() => checkOptions({ ...secret, ...option }), PgStreamError);
    assert(!`${error} ${error.hint} ${JSON.stringify(error)}`.includes("canary"));
  }
});
