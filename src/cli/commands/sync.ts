/** `pgstream sync`: keeps a store in step with tables, as a file says. */

import { observeAll } from "../../inspect/observe_all.ts";
import type { PgStream } from "../../stream/pg_stream.ts";
import type { Command, Invocation } from "../command.ts";
import type { MetricsServer } from "../metrics_server.ts";
import { metricsOf, type MonitoringOptions, monitoringOptions, serve } from "../monitoring.ts";
import type { Settings } from "../settings.ts";
import { streamOf } from "../streams.ts";
import { EmbeddedTexts, tellOf } from "../watched_stream.ts";

/** `pgstream sync`. */
export const sync: Command = {
  summary: "Keeps a vector store in step with tables, as a file says",
  operands: "",
  description: "Makes slot and publication where they are missing, embeds the rows that are " +
    "there already, then all that is committed, until Ctrl+C. What is in hand is finished then, " +
    "the exit status is 0, and the next start goes on from there; a second Ctrl+C ends it at " +
    "once. A lost connection is made anew.",
  options: {
    once: { type: "boolean", help: "end when all is done that is committed by now: for cron" },
    "no-setup": { type: "boolean", help: "make nothing: slot and publication are there" },
    "metrics-port": {
      type: "string",
      value: "N",
      help: "serve /metrics, /healthz and /readyz there; 0: on a port that is free",
    },
    "metrics-host": { type: "string", value: "HOST", help: "Default: 127.0.0.1" },
    "max-lag": {
      type: "string",
      value: "SECONDS",
      help: "/readyz says 503 where it is further behind. Default: 60",
    },
    json: { type: "boolean", help: "its status as JSON lines, at each change and once a minute" },
  },
  examples: [
    ["pgstream sync", "what pgstream.json in this folder says, until Ctrl+C"],
    [
      "pgstream sync --once --config docs.json",
      "what was committed since the last time; then it ends",
    ],
    [
      "pgstream sync --json | jq -c '[.state, .lagSeconds, .textsEmbedded]'",
      "how it is doing, for a program",
    ],
  ],
  run,
};

async function run(invocation: Invocation): Promise<void> {
  const { values, settings, signal } = invocation;
  const told = await settings();
  const monitored = monitoringOptions(values, told.config);
  try {
    await synced(invocation, told, monitored);
  } catch (error) {
    // Nothing was in hand yet, so that all is as after any other end.
    if (values.once !== true && signal.aborted && error === signal.reason) return;
    throw error;
  }
}

async function synced(
  invocation: Invocation,
  told: Settings,
  monitored: MonitoringOptions | null,
): Promise<void> {
  const { values, terminal, signal } = invocation;
  const embedded = new EmbeddedTexts();
  const metrics = monitored === null ? null : await metricsOf(told);
  const observer = metrics === null ? embedded : observeAll(embedded, metrics);
  const stream = await streamOf(told, { stream: { observer }, signal });
  let server: MetricsServer | undefined;
  const telling = tellOf(stream, terminal, { json: values.json === true, embedded });
  try {
    if (monitored !== null && metrics !== null) {
      server = await serve(monitored, stream, metrics);
      terminal.note(`Metrics and probes are at ${server.url}`);
    }
    await runStream(stream, told.slotName, invocation);
  } finally {
    telling.end();
    await stream.stop();
    await server?.close();
  }
}

async function runStream(
  stream: PgStream,
  slotName: string,
  { values, terminal, signal }: Invocation,
): Promise<void> {
  if (values["no-setup"] !== true) await stream.setup({ signal });
  if (values.once !== true) return await stream.start({ signal });
  const report = await stream.catchUp({ signal });
  terminal.endProgress();
  if (report.busy) {
    terminal.note(`Another session holds the slot "${slotName}": nothing was done`);
  } else if (values.json !== true) {
    await terminal.print(`Handled ${report.events} changes, up to ${report.lsn}`);
  }
}
