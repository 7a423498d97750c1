import { assert, assertEquals, assertMatch, assertStrictEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { PgStreamError } from "../../../src/errors.ts";
import {
  type PgStreamOptions,
  resolveBatch,
  type ResolvedOptions,
  resolveOptions,
} from "../../../src/stream/options.ts";
import { PgStream } from "../../../src/stream/pg_stream.ts";

const DEFAULTS: ResolvedOptions = {
  slotName: "pgstream",
  publicationName: "pgstream",
  publishGeneratedColumns: undefined,
  concurrency: 1,
  key: undefined,
  maxQueueBytes: 8 * 1024 * 1024,
  retry: { attempts: 5, minDelayMs: 100, maxDelayMs: 2000 },
  onFailure: "stop",
  onSlotLost: "error",
  whenSlotInUse: "error",
  reconnect: { attempts: Infinity, minDelayMs: 100, maxDelayMs: 5000 },
  readUnchanged: false,
  failover: false,
  temporary: false,
  parsers: null,
  backfill: "never",
  stateStore: null,
  backfillChunk: { maxRows: 10_000, maxBytes: 2 * 1024 * 1024 },
};

test("what is left out has the default that the documentation names, written out or not", () => {
  assertEquals(resolveOptions({}), DEFAULTS);
  const written = { ...DEFAULTS, values: "text", logger: false } as const;
  const {
    key: _,
    stateStore: __,
    parsers: ___,
    publishGeneratedColumns: ____,
    reconnect,
    ...options
  } = written;
  assertEquals(resolveOptions({ ...options, reconnect: reconnect! }), DEFAULTS);
  const given = { dsn: "postgresql://localhost/db", password: "x" };
  assertEquals(resolveOptions(given), DEFAULTS);
});

test("the publication has the slot's name, unless it has one of its own", () => {
  const names = ({ slotName, publicationName }: ResolvedOptions) => [slotName, publicationName];
  assertEquals(names(resolveOptions({ slotName: "docs" })), ["docs", "docs"]);
  assertEquals(names(resolveOptions({ slotName: "docs", publicationName: "P p" })), [
    "docs",
    "P p",
  ]);
});

test("what is given is what is used", () => {
  const key = () => "k";
  const onFailure = () => "skip" as const;
  const resolved = resolveOptions({
    concurrency: 16,
    key,
    maxQueueBytes: 1,
    onFailure,
    onSlotLost: "recreate",
    whenSlotInUse: "wait",
    failover: true,
    temporary: false,
  });
  assertStrictEquals(resolved.key, key);
  assertStrictEquals(resolved.onFailure, onFailure);
  assertEquals([resolved.concurrency, resolved.maxQueueBytes], [16, 1]);
  assertEquals([resolved.onSlotLost, resolved.whenSlotInUse], ["recreate", "wait"]);
  assertEquals([resolved.failover, resolved.temporary], [true, false]);
  assertEquals(resolveOptions({ temporary: true }).temporary, true);
});

describe("retry and reconnect", () => {
  const cases: [PgStreamOptions["retry"], ResolvedOptions["retry"]][] = [
    [{}, { attempts: 5, minDelayMs: 100, maxDelayMs: 2000 }],
    [{ attempts: 1 }, { attempts: 1, minDelayMs: 100, maxDelayMs: 2000 }],
    [{ attempts: Infinity }, { attempts: Infinity, minDelayMs: 100, maxDelayMs: 2000 }],
    [{ minDelayMs: 0 }, { attempts: 5, minDelayMs: 0, maxDelayMs: 2000 }],
    [{ maxDelayMs: 500 }, { attempts: 5, minDelayMs: 100, maxDelayMs: 500 }],
    // A first wait beyond the default of the longest one moves that; one that is given is kept.
    [{ minDelayMs: 9000 }, { attempts: 5, minDelayMs: 9000, maxDelayMs: 9000 }],
    [{ maxDelayMs: 10 }, { attempts: 5, minDelayMs: 10, maxDelayMs: 10 }],
    [{ minDelayMs: 50, maxDelayMs: 10 }, { attempts: 5, minDelayMs: 10, maxDelayMs: 10 }],
    [{ minDelayMs: 0, maxDelayMs: 0 }, { attempts: 5, minDelayMs: 0, maxDelayMs: 0 }],
  ];
  for (const [given, expected] of cases) {
    test(`${JSON.stringify(given)} is filled in`, () => {
      assertEquals(resolveOptions({ retry: given! }).retry, expected);
      const { attempts = Infinity } = given!;
      const { maxDelayMs } = expected;
      assertEquals(resolveOptions({ reconnect: given! }).reconnect, {
        ...expected,
        attempts,
        maxDelayMs: maxDelayMs === 2000 ? 5000 : maxDelayMs,
      });
    });
  }

  test("a limit that is undefined is left out", () => {
    const retry = { attempts: undefined, minDelayMs: undefined } as unknown;
    assertEquals(
      resolveOptions({ retry: retry as NonNullable<PgStreamOptions["retry"]> }).retry,
      DEFAULTS.retry,
    );
  });

  test("reconnect: false is not at all", () => {
    assertEquals(resolveOptions({ reconnect: false }).reconnect, null);
  });

  test("a limit that cannot be is an error that names it", () => {
    const wrong: [string, unknown[]][] = [
      ["attempts", [0, -1, 1.5, NaN, "5", null, 5n, true]],
      ["minDelayMs", [-1, NaN, Infinity, "100", null, 10n, true]],
      ["maxDelayMs", [-1, NaN, Infinity, "100", null, 10n, true]],
    ];
    for (const option of ["retry", "reconnect"]) {
      for (const [limit, values] of wrong) {
        for (const value of values) {
          const what = `${option}.${limit}: ${typeof value} ${value}`;
          const error = assertThrows(
            () => resolveOptions({ [option]: { [limit]: value } }),
            PgStreamError,
            `${option}.${limit}`,
            what,
          );
          assertEquals(error.kind, "invalid-option", what);
        }
      }
    }
  });
});

describe("the limits of batches", () => {
  test("have the defaults that the documentation names", () => {
    const defaults = { maxEvents: 100, maxBytes: 1024 * 1024, maxDelayMs: 50 };
    assertEquals(resolveBatch(), defaults);
    assertEquals(resolveBatch({}), defaults);
    assertEquals(resolveBatch({ maxEvents: 7 }), { ...defaults, maxEvents: 7 });
    assertEquals(resolveBatch({ maxDelayMs: 0 }), { ...defaults, maxDelayMs: 0 });
    assertEquals(resolveBatch({ maxBytes: 1 }), { ...defaults, maxBytes: 1 });
  });

  test("are errors that name them where they cannot be", () => {
    const wrong: [string, unknown[]][] = [
      ["maxEvents", [0, -1, 1.5, NaN, Infinity, "5", 5n, true]],
      ["maxBytes", [0, -1, NaN, "5", 5n, true]],
      ["maxDelayMs", [-1, NaN, Infinity, "5", 5n, true]],
    ];
    for (const [limit, values] of wrong) {
      for (const value of values) {
        const what = `${limit}: ${typeof value} ${value}`;
        const stream = new PgStream({ logger: false });
        const error = assertThrows(
          () => stream.onBatch(() => {}, { [limit]: value }),
          PgStreamError,
          limit,
          what,
        );
        assertEquals(error.kind, "invalid-option", what);
        assert(error.hint !== undefined);
      }
    }
  });
});

test("parsers that would never be called are an error", () => {
  const parse = (text: string) => text;
  const wrong: [PgStreamOptions, RegExp][] = [
    [{ parsers: {} }, /values: "js"/],
    [{ values: "text", parsers: { int8: Number } }, /values: "js"/],
    ...[
      ...["integer", "INT", "bigint", "double precision", "timestamp with time zone", "int4[]"],
      ...["numeric(10, 2)", "vector(3)", "pg_catalog.numeric", "decimal"],
    ]
      .map((name): [PgStreamOptions, RegExp] => [
        { values: "js", parsers: { [name]: parse } },
        /pg_type\.typname/,
      ]),
    [{ values: "js", parsers: { int8: "number" as unknown as typeof Number } }, /\(text\) =>/],
    [{ values: "js", parsers: null as unknown as Record<string, typeof Number> }, /typname/],
    [{ values: "js", parsers: "int8" as unknown as Record<string, typeof Number> }, /typname/],
  ];
  for (const [options, hint] of wrong) {
    const error = assertThrows(() => resolveOptions(options), PgStreamError, "parsers");
    assertEquals(error.kind, "invalid-option");
    assertMatch(error.hint!, hint);
  }
  const parsers = { int8: Number, 20: Number, _int4: parse, geometry: parse, "my type": parse };
  assertEquals(resolveOptions({ values: "js", parsers }).parsers, parsers);
  assertEquals(resolveOptions({ values: "js" }).parsers, {});
});

test("a queue without a bound, or of none, is an error that names the option", () => {
  for (const maxQueueBytes of [0, -1, NaN, Infinity, -Infinity]) {
    const error = assertThrows(
      () => resolveOptions({ maxQueueBytes }),
      PgStreamError,
      `maxQueueBytes cannot be ${maxQueueBytes}`,
    );
    assertEquals(error.kind, "invalid-option");
  }
});

test("an option that cannot be is an error that names it, whatever its type", () => {
  const circular: Record<string, unknown> = {};
  circular.self = circular;
  const odd = [2n, Symbol("x"), circular, { toJSON: () => undefined }, Object.create(null), null];
  const wrong: [keyof PgStreamOptions, unknown[]][] = [
    ["values", ["json", "", "TEXT", 1, ...odd]],
    ["backfill", ["always", true, "", ...odd]],
    ["concurrency", [0, -1, 1.5, NaN, Infinity, 1e9, "2", ...odd]],
    ["key", ["id", 1, {}, ["id"], ...odd]],
    ["maxQueueBytes", ["8", true, ...odd]],
    ["retry", ["x", 5, true, null, 2n, () => {}]],
    ["onFailure", ["ignore", "skip", true, ...odd]],
    ["onSlotLost", ["x", true, ...odd]],
    ["whenSlotInUse", ["x", true, ...odd]],
    ["reconnect", ["x", true, 5, null, 2n, () => {}]],
    ["failover", ["yes", 1, ...odd]],
    ["temporary", ["yes", 0, ...odd]],
  ];
  for (const [name, values] of wrong) {
    for (const value of values) {
      const what = `${name}: ${typeof value}`;
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
  for (const option of [{ concurrency: 0 }, { maxQueueBytes: -1 }] as const) {
    const error = assertThrows(() => resolveOptions({ ...secret, ...option }), PgStreamError);
    assert(!`${error} ${error.hint} ${JSON.stringify(error)}`.includes("canary"));
  }
});
