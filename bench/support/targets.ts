/** What benchmarks aim at: the one place where targets stand. */

import type { Report } from "./report.ts";

/** What a figure is to be. */
export interface Target {
  /** What it tells. */
  question: string;
  /** `">="`: at least; `"<="`: at most. */
  is: ">=" | "<=";
  value: number;
  /** Where another one holds on Bun. */
  onBun?: number;
}

/** By the key of the report. */
export const TARGETS: Readonly<Record<string, Target>> = {
  decode_vs_pg_logical_replication: {
    question: "messages/s, every value read as text",
    is: ">=",
    value: 5,
    onBun: 3,
  },
  decode_vs_pgwire: { question: "the same", is: ">=", value: 3.5 },
  decode_js_vs_pg_logical_replication: {
    question: '`values: "js"` against its typed values',
    is: ">=",
    value: 2,
  },
  stream_wall_vs_raw: {
    question: "800,000 changes through `PgStream`, confirmed, against a raw socket: seconds",
    is: "<=",
    value: 1.1,
  },
  stream_cpu_vs_raw: { question: "the same in CPU seconds", is: "<=", value: 1.4 },
  stream_cpu_vs_pg_logical_replication: {
    question: "the same against pg-logical-replication",
    is: "<=",
    value: 0.9,
  },
  latency_p50_ms: {
    question: "commit known to the writer → handler called, 1,000 transactions/s",
    is: "<=",
    value: 0.1,
  },
  latency_p99_ms: { question: "the same", is: "<=", value: 0.5 },
  latency_p99_vs_pg_logical_replication: { question: "the same", is: "<=", value: 1.2 },
  pgvector_vs_row_by_row: {
    question: "points/s at 384 dimensions into a native server",
    is: ">=",
    value: 4,
  },
  pgvector_vs_copy_merge: { question: "the same", is: ">=", value: 0.9 },
  qdrant_vs_one_by_one: { question: "points/s into a stand-in", is: ">=", value: 10 },
  backfill_vs_copy: { question: "rows/s against a raw COPY", is: ">=", value: 0.5 },
  pgvector_sync_vs_row_a_call: {
    question: "rows/s through `sync`, a free embedder, into a native pgvector",
    is: ">=",
    value: 4,
  },
  qdrant_sync_vs_row_a_call: {
    question: "the same into a stand-in for Qdrant",
    is: ">=",
    value: 10,
  },
  big_tx_rss_mb: {
    question: "memory above idle in a transaction of 1 M rows, slow handler",
    is: "<=",
    value: 48,
  },
  big_tx_rss_vs_pg_logical_replication: { question: "the same", is: "<=", value: 1.2 },
  cpu_per_event_10m_vs_1m: { question: "how cost grows with events", is: "<=", value: 1.1 },
  cpu_per_event_1000_tables_vs_1: { question: "… with tables", is: "<=", value: 1.2 },
  cpu_per_event_200_columns_vs_20: { question: "… with columns", is: "<=", value: 10 },
  tail_wall_vs_handler: {
    question:
      "a large transaction through `pgstream tail --json` against a handler that does nothing",
    is: "<=",
    value: 1.5,
  },
  first_event_ms: { question: "process start → first event, slot in place", is: "<=", value: 300 },
  core_bundle_gzip_kb: { question: "size of the core", is: "<=", value: 40 },
  pgoutput_bundle_gzip_kb: { question: "size of the decoder alone", is: "<=", value: 5 },
};

/** What a target comes to on a runtime, and whether a figure meets it; null where a key has none. */
export function judge(
  key: string,
  figure: string | number,
  runtime: string,
): { target: string; met: boolean } | null {
  const target = TARGETS[key];
  if (target === undefined) return null;
  const { is, value, onBun = value } = target;
  const wanted = runtime.startsWith("Bun") ? onBun : value;
  const met = is === ">=" ? Number(figure) >= wanted : Number(figure) <= wanted;
  return { target: `${is === ">=" ? "≥" : "≤"} ${wanted}`, met };
}

/** Rows of a table in Markdown: of reports of one benchmark each, the keys that have a target. */
export function markdown(reports: readonly Report[]): string[] {
  const runtimes = [...new Set(reports.map(({ runtime }) => `${runtime}`))];
  const lines = [
    `| key | question | target | ${runtimes.join(" | ")} |`,
    `| --- | --- | --- |${" --- |".repeat(runtimes.length)}`,
  ];
  for (const [key, { question, is, value, onBun }] of Object.entries(TARGETS)) {
    const cells = runtimes.map((runtime) => {
      const report = reports.find((report) => report.runtime === runtime && key in report);
      if (report === undefined) return "";
      const figure = report[key]!;
      return judge(key, figure, runtime)!.met ? `${figure}` : `**${figure}**`;
    });
    if (cells.every((cell) => cell === "")) continue;
    const bun = onBun === undefined ? "" : ` (Bun ${onBun})`;
    const target = `${is === ">=" ? "≥" : "≤"} ${value}${bun}`;
    lines.push(`| \`${key}\` | ${question} | ${target} | ${cells.join(" | ")} |`);
  }
  return lines;
}
