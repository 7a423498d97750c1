import {
  assert,
  assertEquals,
  assertGreaterOrEqual,
  assertLess,
  assertRejects,
  assertStrictEquals,
} from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { Attempts, type AttemptsOptions, type GoOn } from "../../../src/delivery/attempts.ts";
import { DeliveryError, HandlerError } from "../../../src/delivery/errors.ts";
import type { Failure, Handler } from "../../../src/delivery/handler.ts";
import { PgStreamError } from "../../../src/errors.ts";
import { silentLogger } from "../../../src/logger.ts";
import { batch, insertOf, inTime, single, turn } from "./harness.ts";

/** One use of `Attempts`, and all that can be seen of it. */
class Trial {
  readonly stop = new AbortController();
  /** Keys of what was settled; those that were skipped with a `!`. */
  readonly settled: string[] = [];
  readonly warnings: [message: string, ...details: unknown[]][] = [];
  readonly errors: unknown[][] = [];
  readonly failures: Failure[] = [];
  retries = 0;
  goOn: GoOn = () => Promise.resolve(true);
  readonly #attempts: Attempts;

  constructor(handlers: Handler[], options: Partial<AttemptsOptions> = {}) {
    this.#attempts = new Attempts({
      handlers,
      retry: { attempts: 3, minDelayMs: 0, maxDelayMs: 0 },
      onFailure: (failure) => {
        this.failures.push(failure);
        return "skip";
      },
      logger: {
        ...silentLogger,
        warn: (...args) => this.warnings.push(args),
        error: (...args) => this.errors.push(args),
      },
      onRetry: () => this.retries++,
      random: () => 0.5,
      ...options,
    });
  }

  /** Milliseconds of each wait, as the log tells them. */
  get waits(): number[] {
    return this.warnings.flatMap(([message]) => /in (\S+) ms/.exec(message)?.[1] ?? [])
      .map(Number);
  }

  handle(...keys: string[]): Promise<boolean> {
    const events = keys.map((key, ordinal) => insertOf(key, { ordinal }));
    let next = 0;
    return inTime(
      "the end",
      this.#attempts.handle(events, this.stop.signal, () => this.goOn(), (count, skipped) => {
        for (let i = 0; i < count; i++) {
          this.settled.push(`${events[next++]!.key}${skipped ? "!" : ""}`);
        }
      }),
    );
  }
}

const cause = new Error("the store said no");
const fail = () => {
  throw cause;
};
const keysOf = (events: readonly ChangeEvent[]) => events.map((event) => event.key).join(" ");

describe("a handler that fails", () => {
  test("is called as often as is allowed, told which try it is, and each retry is logged and counted", async () => {
    const tries: number[] = [];
    const trial = new Trial([single((_event, { attempt }) => {
      tries.push(attempt);
      fail();
    })], { retry: { attempts: 4, minDelayMs: 0, maxDelayMs: 0 } });
    assertEquals(await trial.handle("1"), true);
    assertEquals(tries, [1, 2, 3, 4]);
    assertEquals(trial.retries, 3);
    assertEquals(trial.warnings.length, 4, "three retries and the event that is skipped");
    for (const [message, error] of trial.warnings) {
      assert(message.includes("insert of public.documents at 0/1A3F28"), message);
      assertStrictEquals(error, cause);
    }
    assertEquals(trial.settled, ["1!"]);
  });

  test("and then does not, has handled the event, once", async () => {
    for (const wrap of [single, batch] as const) {
      let calls = 0;
      const trial = new Trial([wrap(() => ++calls < 3 ? Promise.reject(cause) : undefined)]);
      assertEquals(await trial.handle("1"), true);
      assertEquals([calls, trial.retries, trial.settled], [3, 2, ["1"]]);
      assertEquals(trial.failures, []);
    }
  });

  test("is not called again where there is one try", async () => {
    let calls = 0;
    const retry = { attempts: 1, minDelayMs: 0, maxDelayMs: 0 };
    const trial = new Trial([single(() => {
      calls++;
      fail();
    })], { retry });
    await trial.handle("1");
    assertEquals([calls, trial.retries], [1, 0]);
  });

  test("for good is an error with its event and its last cause, where nothing else is asked for", async () => {
    let calls = 0;
    const trial = new Trial([single(() => Promise.reject(new Error(`${++calls}`)))], {
      onFailure: "stop",
    });
    const error = await assertRejects(() => trial.handle("1"), HandlerError);
    assertEquals((error.cause as Error).message, "3");
    assertEquals(trial.settled, []);
  });
});

describe("the wait between two tries", () => {
  const limits = { attempts: 6, minDelayMs: 4, maxDelayMs: 16 };

  test("doubles up to its limit, and chance takes off half of it at most", async () => {
    for (const [chance, waits] of [[0, [2, 4, 8, 8, 8]], [0.9999, [4, 8, 16, 16, 16]]] as const) {
      const trial = new Trial([single(fail)], { retry: limits, random: () => chance });
      const began = performance.now();
      await trial.handle("1");
      assertEquals(trial.waits, [...waits]);
      const sum = waits.reduce<number>((a, b) => a + b, 0);
      // A timer may be a moment early.
      assertGreaterOrEqual(performance.now() - began, sum - waits.length);
    }
  });

  test("is as long as the error asks for, also beyond the limit", async () => {
    for (const wrap of [single, batch] as const) {
      let calls = 0;
      const trial = new Trial([wrap(() => {
        if (++calls === 1) throw Object.assign(new Error("429"), { retryAfterMs: 60 });
      })], { retry: limits });
      const began = performance.now();
      await trial.handle("1");
      assertGreaterOrEqual(performance.now() - began, 58);
      assertEquals(trial.waits, [60]);
    }
  });

  test("is never shorter for what an error asks for, nor longer for what is no number", async () => {
    const asked = [1, 0, -5, NaN, "9999", null, undefined, 9999n, { valueOf: () => 9999 }];
    for (const retryAfterMs of asked) {
      const error = Object.assign(new Error("429"), { retryAfterMs });
      const trial = new Trial([single(() => Promise.reject(error))], { retry: limits });
      await trial.handle("1");
      assertEquals(trial.waits, [3, 6, 12, 12, 12], `${typeof retryAfterMs}`);
    }
  });

  test("is none to speak of for an error that is no object", async () => {
    for (const thrown of [undefined, null, "text", 7]) {
      const trial = new Trial([single(() => Promise.reject(thrown))]);
      await trial.handle("1");
      assertEquals(trial.waits, [0, 0]);
      assertStrictEquals(trial.failures[0]!.error, thrown);
    }
  });

  test("is honoured before the parts of a batch are tried, too", async () => {
    const times: number[] = [];
    const trial = new Trial([batch(() => {
      times.push(performance.now());
      if (times.length === 1) throw Object.assign(new Error("429"), { retryAfterMs: 60 });
    })], { retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 } });
    await trial.handle("1", "2");
    assertGreaterOrEqual(times[1]! - times[0]!, 58);
    assertEquals(trial.settled, ["1", "2"]);
  });

  test("ends at once when the stream is told to stop, and nothing is settled", async () => {
    const error = Object.assign(new Error("429"), { retryAfterMs: 3_600_000 });
    for (const wrap of [single, batch] as const) {
      const trial: Trial = new Trial([wrap(() => {
        setTimeout(() => trial.stop.abort(), 5);
        throw error;
      })]);
      assertEquals(await trial.handle("1", "2"), false);
      assertEquals([trial.settled, trial.failures, trial.retries], [[], [], 0]);
    }
  });
});

describe("an error of this library", () => {
  const errorOf = (retryable: boolean) => new PgStreamError("x", { kind: "test", retryable });

  test("that cannot pass is not tried again, alone or in a batch", async () => {
    const calls: string[] = [];
    const trial = new Trial([batch((events) => {
      calls.push(keysOf(events));
      if (events.some((event) => event.key === "2")) throw errorOf(false);
    })]);
    await trial.handle("1", "2");
    assertEquals(calls, ["1 2", "1", "2"]);
    assertEquals(trial.settled, ["1", "2!"]);
  });

  test("that may pass is tried again", async () => {
    let calls = 0;
    await new Trial([single(() => {
      calls++;
      throw errorOf(true);
    })]).handle("1");
    assertEquals(calls, 3);
  });
});

describe("a batch that fails is split until the poison stands alone (34):", () => {
  for (const size of [1, 2, 3, 4, 7, 8, 100]) {
    test(`one of ${size}, at each place`, async () => {
      for (let poison = 0; poison < size; poison++) {
        const handled: string[] = [];
        let calls = 0;
        const trial = new Trial([batch((events) => {
          calls++;
          if (events.some((event) => event.key === `${poison}`)) throw cause;
          handled.push(...events.map((event) => event.key!));
        })]);
        const keys = Array.from({ length: size }, (_, i) => `${i}`);
        assertEquals(await trial.handle(...keys), true);
        assertEquals(
          handled,
          keys.filter((key) => key !== `${poison}`),
          "each other one once, in order",
        );
        assertEquals(trial.settled, keys.map((key) => key === `${poison}` ? `${key}!` : key));
        assertEquals(trial.failures.map(({ events }) => keysOf(events)), [`${poison}`]);
        assertLess(calls, 3 + 3 + 2 * Math.ceil(Math.log2(size)) + 1, "halves, not one by one");
      }
    });
  }

  test("those before it are settled by then, and none behind it", async () => {
    const seen: string[] = [];
    const trial: Trial = new Trial([
      batch((events) => {
        if (keysOf(events).includes("3")) throw cause;
      }),
    ], {
      onFailure: () => {
        seen.push(trial.settled.join(" "));
        return "stop";
      },
    });
    const error = await assertRejects(
      () => trial.handle("0", "1", "2", "3", "4", "5"),
      HandlerError,
    );
    assertEquals(seen, ["0 1 2"]);
    assertEquals(error.ordinal, 3);
    assertEquals(trial.settled, ["0", "1", "2"]);
  });

  test("several of them, next to one another and at the ends", async () => {
    for (const poisons of [[0, 7], [0, 1, 2], [3, 4], [5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7]]) {
      const trial = new Trial([batch((events) => {
        if (events.some((event) => poisons.includes(Number(event.key)))) throw cause;
      })]);
      await trial.handle(..."01234567");
      assertEquals(
        trial.settled,
        [..."01234567"].map((key) => poisons.includes(Number(key)) ? `${key}!` : key),
      );
    }
  });

  test("what fails together and not apart is handled, and nothing is skipped", async () => {
    const trial = new Trial([batch((events) => {
      if (events.length > 2) throw new Error("too many at once");
    })]);
    await trial.handle(..."0123456");
    assertEquals(trial.settled, [..."0123456"]);
    assertEquals(trial.failures, []);
  });

  test("the event that is left alone has all its tries, and the failure tells how many there were", async () => {
    const tries: number[] = [];
    const trial = new Trial([batch((events, { attempt }) => {
      if (keysOf(events) === "0") tries.push(attempt);
      if (keysOf(events).includes("0")) throw cause;
    })]);
    await trial.handle("0", "1");
    assertEquals(tries, [4, 5, 6], "the batch was tried three times");
    assertEquals(trial.failures[0]!.attempts, 6);
  });

  test("a fault that passes meanwhile costs the event nothing", async () => {
    let down = true;
    const trial = new Trial([batch((events) => {
      if (events.length === 1) down = false;
      if (down) throw cause;
    })]);
    await trial.handle(..."0123");
    assertEquals(trial.settled, [..."0123"]);
  });

  test("the parts' tries are logged and counted as others are", async () => {
    const calls: string[] = [];
    const trial = new Trial([batch((events) => {
      calls.push(keysOf(events));
      if (keysOf(events).includes("2")) throw cause;
    })], { retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 } });
    await trial.handle(..."0123");
    assertEquals(calls, ["0 1 2 3", "0 1", "2 3", "2", "3"]);
    assertEquals(trial.retries, 4);
  });

  test("a stop between two parts leaves the rest to come again", async () => {
    const trial: Trial = new Trial([batch((events) => {
      if (events.length > 2) throw cause;
      trial.stop.abort();
    })]);
    assertEquals(await trial.handle(..."0123"), false);
    assertEquals(trial.settled, ["0", "1"], "the part that was in hand is done");
  });
});

describe("several handlers", () => {
  test("one that is done with an event is not called again for it", async () => {
    const log: string[] = [];
    let failing = 2;
    const trial = new Trial([
      single((event, { attempt }) => log.push(`first ${event.key} ${attempt}`)),
      single((event, { attempt }) => {
        log.push(`second ${event.key} ${attempt}`);
        if (failing-- > 0) throw cause;
      }),
      single((event, { attempt }) => log.push(`third ${event.key} ${attempt}`)),
    ]);
    await trial.handle("1");
    assertEquals(log, ["first 1 1", "second 1 1", "second 1 2", "second 1 3", "third 1 3"]);
    assertEquals(trial.settled, ["1"]);
  });

  test("of both kinds: each sees each event once, though one of them fails in between", async () => {
    const seen: string[][] = [[], [], []];
    let failing = 4;
    const trial = new Trial([
      single((event) => {
        if (event.key === "2" && failing-- > 2) throw cause;
        seen[0]!.push(event.key!);
      }),
      batch((events) => {
        if (failing-- > 0) throw cause;
        seen[1]!.push(...events.map((event) => event.key!));
      }),
      single((event) => {
        seen[2]!.push(event.key!);
      }),
    ]);
    await trial.handle(..."0123");
    assertEquals(seen, [[..."0123"], [..."0123"], [..."0123"]]);
    assertEquals(trial.settled, [..."0123"]);
  });

  test("of both kinds: the poison of one of them stands alone for it, and others miss nothing", async () => {
    for (const [size, poison] of [[4, 0], [4, 2], [4, 3], [9, 5]] as const) {
      for (const stage of [0, 1, 2]) {
        const seen: string[][] = [[], [], []];
        const record = (at: number, events: readonly ChangeEvent[]) => {
          if (at === stage && events.some((event) => event.key === `${poison}`)) throw cause;
          seen[at]!.push(...events.map((event) => event.key!));
        };
        const trial = new Trial([
          single((event) => record(0, [event])),
          batch((events) => record(1, events)),
          single((event) => record(2, [event])),
        ]);
        const keys = Array.from({ length: size }, (_, i) => `${i}`);
        await trial.handle(...keys);
        const others = keys.filter((key) => key !== `${poison}`);
        for (const at of [0, 1, 2]) {
          const got = at < stage ? keys : others;
          assertEquals(seen[at], got, `handler ${at}, poison ${poison} of handler ${stage}`);
        }
        assertEquals(trial.settled, keys.map((key) => key === `${poison}` ? `${key}!` : key));
      }
    }
  });

  test("an outage ends the stream as soon as a batch was tried often enough, not event by event", async () => {
    let calls = 0;
    const outage = new PgStreamError("The store is away", { kind: "away", retryable: true });
    const away = batch(() => {
      calls++;
      throw outage;
    });
    const stopping = new Trial([away], { onFailure: "stop" });
    const error = await assertRejects(() => stopping.handle(..."01234567"), HandlerError);
    assertStrictEquals(error.cause, outage);
    assertEquals([calls, stopping.settled], [3, []]);
    // Who decides is asked for each event.
    calls = 0;
    const asking = new Trial([away]);
    await asking.handle(..."0123");
    assertEquals(asking.settled, ["0!", "1!", "2!", "3!"]);
    assert(calls > 3);
  });

  test("a stop in the middle of several events begins no other of them", async () => {
    const log: string[] = [];
    const trial: Trial = new Trial([
      single((event) => {
        log.push(event.key!);
        if (event.key === "1") trial.stop.abort();
      }),
      batch((events) => log.push(keysOf(events))),
    ]);
    await trial.handle(..."0123");
    assertEquals(log.filter((key) => ["2", "3"].includes(key)), []);
  });
});

describe("a consumer whose slot may be somebody else's", () => {
  for (const wrap of [single, batch] as const) {
    test(`does not go on before it is its own again (${wrap.name})`, async () => {
      let calls = 0;
      let mine = (_: boolean) => {};
      const trial = new Trial([wrap(() => {
        if (++calls === 1) throw cause;
      })]);
      trial.goOn = () => new Promise((resolve) => mine = resolve);
      const handled = trial.handle("1");
      for (let i = 0; i < 3; i++) await turn();
      assertEquals(calls, 1);
      mine(true);
      await handled;
      assertEquals([calls, trial.settled], [2, ["1"]]);
    });

    test(`gives up what another one has handled, and asks nobody about it (${wrap.name})`, async () => {
      let calls = 0;
      const trial = new Trial([wrap(() => {
        calls++;
        throw cause;
      })]);
      trial.goOn = () => Promise.resolve(false);
      assertEquals(await trial.handle("1", "2"), false);
      assertEquals([calls, trial.settled, trial.failures], [1, [], []]);
    });
  }

  test("neither stops nor keeps a dead letter for what another one has handled", async () => {
    for (const onFailure of ["stop", undefined] as const) {
      const trial = new Trial([single(fail)], {
        retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 },
        ...(onFailure === undefined ? {} : { onFailure }),
      });
      trial.goOn = () => Promise.resolve(false);
      assertEquals(await trial.handle("1"), false);
      assertEquals([trial.settled, trial.failures], [[], []]);
    }
  });

  test("does not hand on the next part of a batch that was split", async () => {
    const calls: string[] = [];
    const trial: Trial = new Trial([batch((events) => {
      calls.push(keysOf(events));
      if (events.length > 2) throw cause;
      trial.goOn = () => Promise.resolve(false);
    })], { retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 } });
    assertEquals(await trial.handle(..."0123"), false);
    assertEquals([calls, trial.settled], [["0 1 2 3", "0 1"], ["0", "1"]]);
  });
});

describe("what is done about an event that failed for good", () => {
  test("is decided with the error, the event and the number of tries, and waited for", async () => {
    let decide = (_: "skip") => {};
    const told: Failure[] = [];
    const trial = new Trial([single(fail)], {
      onFailure: (failure) => {
        told.push(failure);
        return new Promise((resolve) => decide = resolve);
      },
    });
    const handled = trial.handle("1");
    while (told.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(trial.settled, []);
    decide("skip");
    await handled;
    const [{ error, events, attempts }] = told as [Failure];
    assertStrictEquals(error, cause);
    assertEquals([keysOf(events), attempts], ["1", 3]);
    assertEquals(trial.settled, ["1!"]);
    assert(trial.warnings.at(-1)![0].startsWith("Skipped insert of public.documents"));
  });

  test("is to stop, unless the answer is to skip", async () => {
    for (const decision of ["stop", undefined, null, true, "SKIP", ["skip"]]) {
      for (const answer of [decision, Promise.resolve(decision)]) {
        const trial = new Trial([single(fail)], { onFailure: () => answer as "stop" });
        const error = await assertRejects(() => trial.handle("1"), HandlerError);
        assertStrictEquals(error.cause, cause);
        assertEquals(trial.settled, []);
      }
    }
  });

  test("is to stop where nobody can say: the error is that of onFailure, the other one is logged", async () => {
    const own = new Error("the dead-letter place is full");
    for (
      const onFailure of [() => Promise.reject(own), () => {
        throw own;
      }]
    ) {
      const trial = new Trial([single(fail)], { onFailure });
      const error = await assertRejects(() => trial.handle("canary"), DeliveryError);
      assertEquals(error.kind, "on-failure");
      assertStrictEquals(error.cause, own);
      assertStrictEquals(trial.errors[0]!.at(-1), cause);
      assert(!`${error} ${error.hint} ${trial.errors[0]![0]}`.includes("canary"));
      assertEquals(trial.settled, []);
    }
  });
});

test("no log line holds a key or a value of a row", async () => {
  const trial = new Trial([batch(fail)]);
  await trial.handle("canary1", "canary2", "canary3");
  for (const [message] of trial.warnings) assert(!message.includes("canary"), message);
});
