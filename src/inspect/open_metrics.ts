/**
 * Writes metrics as text.
 * https://prometheus.io/docs/specs/om/open_metrics_spec/
 * https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
 */

import type { Histogram } from "./histogram.ts";

/** `openmetrics`, or `prometheus`: what came before it, and is understood by everybody. */
export type MetricsFormat = "openmetrics" | "prometheus";

/** What an answer is to be called. */
export const CONTENT_TYPES: Readonly<Record<MetricsFormat, string>> = {
  openmetrics: "application/openmetrics-text; version=1.0.0; charset=utf-8",
  prometheus: "text/plain; version=0.0.4; charset=utf-8",
};

/** Labels by name. */
export type Labels = Readonly<Record<string, string>>;

/** Gathers families of metrics, in the order in which they are added. */
export class MetricsText {
  readonly #format: MetricsFormat;
  readonly #lines: string[] = [];

  /** Empty. */
  constructor(format: MetricsFormat) {
    this.#format = format;
  }

  /** What goes up only. @param name without `_total` */
  counter(name: string, help: string, values: readonly (readonly [Labels, number])[]): void {
    // What it is of is named without `_total` in the one format, with it in the other.
    const family = this.#format === "openmetrics" ? name : `${name}_total`;
    this.#family(family, "counter", help);
    for (const [labels, value] of values) this.#sample(`${name}_total`, labels, value);
  }

  /** What goes up and down. Null: not known, and left out. */
  gauge(
    name: string,
    help: string,
    values: readonly (readonly [Labels, number | null])[],
  ): void {
    const known = values.filter(([, value]) => value !== null);
    if (known.length === 0) return;
    this.#family(name, "gauge", help);
    for (const [labels, value] of known) this.#sample(name, labels, value!);
  }

  /** How long things took. */
  histogram(name: string, help: string, histogram: Histogram): void {
    this.#family(name, "histogram", help);
    const buckets = histogram.cumulative();
    for (const [bound, count] of buckets) {
      const le = bound === Infinity
        ? "+Inf"
        : this.#format === "openmetrics"
        ? float(bound)
        : `${bound}`;
      this.#sample(`${name}_bucket`, { le }, count);
    }
    this.#sample(`${name}_sum`, {}, histogram.sum);
    this.#sample(`${name}_count`, {}, buckets.at(-1)![1]);
  }

  /** All of it. */
  toString(): string {
    const end = this.#format === "openmetrics" ? ["# EOF"] : [];
    return [...this.#lines, ...end, ""].join("\n");
  }

  #family(name: string, type: string, help: string): void {
    this.#lines.push(`# TYPE ${name} ${type}`);
    const unit = /_(seconds|bytes)$/.exec(name)?.[1];
    if (unit !== undefined && this.#format === "openmetrics") {
      this.#lines.push(`# UNIT ${name} ${unit}`);
    }
    this.#lines.push(`# HELP ${name} ${help}`);
  }

  #sample(name: string, labels: Labels, value: number): void {
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
    this.#lines.push(`${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}`);
  }
}

/** OpenMetrics wants a point in bounds: two writers write one bound the same. */
function float(value: number): string {
  return Number.isInteger(value) ? `${value}.0` : `${value}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
}
