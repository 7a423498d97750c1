/** What a scraper reads, and what a forecast says. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import parsePrometheus from "parse-prometheus-text-format";
import { describe, test } from "node:test";
import { DURATION_BUCKETS, Histogram } from "../../../src/inspect/histogram.ts";
import {
  observeAll,
  readiness,
  secondsUntilLost,
  StreamMetrics,
} from "../../../src/inspect/mod.ts";
import { MetricsText } from "../../../src/inspect/open_metrics.ts";
import type { Observe } from "../../../src/observer.ts";

const STATUS = {
  state: "streaming",
  lagBytes: 120,
  lagSeconds: 1.5,
  queueBytes: 64,
  transactions: 3,
  messages: 0,
  retries: 2,
  skipped: 1,
  reconnects: 0,
  backfill: { table: "public.documents", rows: 10, estimatedRows: null },
};
const stream = { status: () => STATUS };

interface Family {
  name: string;
  type: string;
  metrics: {
    value?: string;
    labels?: Record<string, string>;
    buckets?: Record<string, string>;
    count?: string;
    sum?: string;
  }[];
}

async function parsed(metrics: StreamMetrics): Promise<Map<string, Family>> {
  const families = parsePrometheus(await metrics.text(stream, "prometheus")) as Family[];
  return new Map(families.map((family) => [family.name, family]));
}

describe("metrics", () => {
  test("of work are how long it took, of how much, and how often it failed", async () => {
    let now = 0;
    const metrics = new StreamMetrics({ now: () => now });
    const took = (ms: number) => () => {
      now += ms;
      return Promise.resolve(ms);
    };
    assertEquals(await metrics.observe({ kind: "embed", size: 96 }, took(40)), 40);
    await metrics.observe({ kind: "embed", size: 4 }, took(90_000));
    const failure = new Error("no");
    assertEquals(
      await assertRejects(() =>
        metrics.observe({ kind: "embed", size: 5 }, () => Promise.reject(failure))
      ),
      failure,
    );
    const found = await parsed(metrics);
    const [duration] = found.get("pgstream_embed_duration_seconds")!.metrics;
    assertEquals(duration!.count, "3");
    assertEquals(Number(duration!.sum), 90.04);
    const buckets = duration!.buckets!;
    assertEquals([buckets["0.025"], buckets["0.05"], buckets["60"], buckets["+Inf"]], [
      "1",
      "2",
      "2",
      "3",
    ]);
    assertEquals(found.get("pgstream_embedded_texts_total")!.metrics[0]!.value, "100");
    assertEquals(found.get("pgstream_embed_failures_total")!.metrics[0]!.value, "1");
  });

  test("of changes are by table and operation, and leave out what was given up", async () => {
    const metrics = new StreamMetrics();
    const event = { schema: "public", table: 'odd "name"\\\n', operation: "update" } as const;
    metrics.settled(event, false);
    metrics.settled(event, false);
    metrics.settled(event, true);
    const text = await metrics.text(stream, "prometheus");
    assert(
      text.includes(
        'pgstream_changes_total{table="public.odd \\"name\\"\\\\\\n",operation="update"} 2',
      ),
      text,
    );
  });

  test("of a stream are what its status says; what is not known is left out", async () => {
    const found = await parsed(new StreamMetrics());
    const value = (name: string) => Number(found.get(`pgstream_${name}`)!.metrics[0]!.value);
    assertEquals(
      ["lag_bytes", "lag_seconds", "queue_bytes", "retries_total", "skipped_changes_total"].map(
        value,
      ),
      [120, 1.5, 64, 2, 1],
    );
    const states = found.get("pgstream_state")!.metrics;
    assertEquals(states.filter(({ value }) => value === "1").map(({ labels }) => labels!.state), [
      "streaming",
    ]);
    assertEquals(found.get("pgstream_backfill_rows")!.metrics[0]!.labels, {
      table: "public.documents",
    });
    for (const name of ["slot_lag_bytes", "backfill_estimated_rows"]) {
      assert(!found.has(`pgstream_${name}`), name);
    }
  });

  test("are OpenMetrics where that is asked for: units, an end, counters by their bare names", async () => {
    const text = await new StreamMetrics().text(stream);
    assertMatch(text, /# TYPE pgstream_retries counter\n# HELP .*\npgstream_retries_total 2\n/);
    assertMatch(text, /# TYPE pgstream_lag_seconds gauge\n# UNIT pgstream_lag_seconds seconds\n/);
    assertMatch(text, /pgstream_batch_duration_seconds_bucket\{le="1\.0"\} 0\n/);
    assert(text.endsWith("\n# EOF\n"));
    // Each family once, its samples together.
    const families = [...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
    assertEquals(families.length, new Set(families).size);
    for (const line of text.trimEnd().split("\n")) {
      assertMatch(
        line,
        /^(# (TYPE|UNIT|HELP|EOF).*|pgstream_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? \S+)$/,
      );
    }
  });

  test("count a value in the first bucket that holds it", () => {
    const histogram = new Histogram();
    for (const bound of DURATION_BUCKETS) histogram.add(bound);
    assertEquals(
      histogram.cumulative().map(([, count]) => count),
      [...DURATION_BUCKETS.keys(), DURATION_BUCKETS.length - 1].map((count) => count + 1),
    );
  });

  test("without a value are no family", () => {
    const text = new MetricsText("openmetrics");
    text.gauge("nothing", "None.", [[{}, null]]);
    assertEquals(`${text}`, "# EOF\n");
  });
});

describe("a stream", () => {
  test("is ready while it streams and is near enough, and else says why it is not", () => {
    const of = (state: string, lagSeconds: number) =>
      readiness({ state, lagSeconds }, { maxLagSeconds: 60 });
    assertEquals(of("streaming", 60), null);
    assertEquals(of("streaming", 61), "the stream is 61 s behind, more than 60 s");
    for (const state of ["idle", "connecting", "reconnecting", "stopping", "stopped", "failed"]) {
      assertEquals(of(state, 0), `the stream is ${state}`);
    }
  });
});

describe("a slot", () => {
  const reading = (atMs: number, retainedWalBytes: number | null, safeWalBytes: number | null) => ({
    atMs,
    retainedWalBytes,
    safeWalBytes,
  });

  test("is lost when what is safe is written, at the rate between two readings", () => {
    assertEquals(secondsUntilLost(reading(0, 1000, 9000), reading(2000, 3000, 7000)), 7);
  });

  test("is not known to be lost where there is no limit, or nothing is written", () => {
    assertEquals(secondsUntilLost(reading(0, 1, null), reading(1000, 2, null)), null);
    assertEquals(secondsUntilLost(reading(0, 2, 10), reading(1000, 2, 10)), null);
    assertEquals(secondsUntilLost(reading(0, 2, 10), reading(1000, 1, 11)), null);
    assertEquals(secondsUntilLost(reading(0, 1, 10), reading(0, 2, 9)), null);
    assertEquals(secondsUntilLost(reading(0, null, 10), reading(1000, 2, 9)), null);
  });
});

describe("several observers", () => {
  test("are all told, each within the one before, and the work is done once", async () => {
    const told: string[] = [];
    const observer = (name: string) => ({
      observe: (async (_work, run) => {
        told.push(`${name} begins`);
        try {
          return await run();
        } finally {
          told.push(`${name} ends`);
        }
      }) as Observe,
      settled: () => void told.push(`${name} settled`),
    });
    const all = observeAll(observer("a"), {}, observer("b"));
    const result = await all.observe!({ kind: "sink", size: 1 }, () => {
      told.push("work");
      return Promise.resolve(7);
    });
    all.settled!({ schema: "public", table: "t", operation: "insert" }, false);
    assertEquals(result, 7);
    assertEquals(told, [
      ...["a begins", "b begins", "work", "b ends", "a ends"],
      ...["a settled", "b settled"],
    ]);
  });
});
