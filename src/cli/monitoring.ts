/** Metrics and probes of a stream that runs, over HTTP, where they are asked for. */

import type { StreamMetrics } from "../inspect/metrics.ts";
import type { PgStream } from "../stream/pg_stream.ts";
import type { Invocation } from "./command.ts";
import type { Config } from "./config.ts";
import { usageError } from "./errors.ts";
import type { MetricsServer } from "./metrics_server.ts";
import { pick } from "./pick.ts";
import type { Settings } from "./settings.ts";

/** Where they are served. */
export interface MonitoringOptions {
  /** 0: one that is free. */
  port: number;
  host: string;
  /** Beyond that the stream is not ready. */
  maxLagSeconds: number;
}

/** Flags come before the file. Null: they are not asked for. @throws {CliError} of kind `usage` */
export function monitoringOptions(
  values: Invocation["values"],
  { metrics }: Config,
): MonitoringOptions | null {
  const port = numberOf(values, "metrics-port") ?? metrics?.port;
  if (port === undefined) {
    for (const name of ["metrics-host", "max-lag"]) {
      if (values[name] !== undefined) {
        throw usageError(`--${name} is for metrics, and no port is named`, "Add --metrics-port");
      }
    }
    return null;
  }
  if (!(Number.isInteger(port) && port <= 65_535)) {
    throw usageError("--metrics-port is no port", "0, for one that is free, to 65535");
  }
  return {
    port,
    host: values["metrics-host"] as string | undefined ?? metrics?.host ?? "127.0.0.1",
    maxLagSeconds: numberOf(values, "max-lag") ?? metrics?.maxLagSeconds ?? 60,
  };
}

/** What is to be served of the stream that it observes. Loaded where it is asked for. */
export async function metricsOf(settings: Settings): Promise<StreamMetrics> {
  const { StreamMetrics } = await import("../inspect/metrics.ts");
  const { slotName, logger } = settings;
  return new StreamMetrics({ slot: { ...pick(settings, "dsn"), slotName, logger } });
}

/** Serves them. @throws {CliError} of kind `metrics-port` */
export async function serve(
  options: MonitoringOptions,
  stream: PgStream,
  metrics: StreamMetrics,
): Promise<MetricsServer> {
  const { serveMetrics } = await import("./metrics_server.ts");
  return await serveMetrics({ ...options, stream, metrics });
}

function numberOf(values: Invocation["values"], name: string): number | undefined {
  const text = values[name] as string | undefined;
  if (text === undefined) return undefined;
  const number = text.trim() === "" ? NaN : Number(text);
  if (Number.isFinite(number) && number >= 0) return number;
  throw usageError(`--${name} is no number`, `--${name} 60, for one`);
}
