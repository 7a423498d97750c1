/** Serves metrics and probes over HTTP. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type MeasuredStream, readiness, type StreamMetrics } from "../inspect/metrics.ts";
import { CONTENT_TYPES, type MetricsFormat } from "../inspect/open_metrics.ts";
import { CliError } from "./errors.ts";

/** What is served, and where. */
export interface ServeMetricsOptions {
  /** 0: one that is free. */
  port: number;
  host: string;
  stream: MeasuredStream;
  metrics: StreamMetrics;
  /** Beyond that it is not ready. */
  maxLagSeconds: number;
}

/** What serves. */
export interface MetricsServer {
  /** `http://127.0.0.1:9090` */
  url: string;
  /** Ends it; answers under way are cut. */
  close(): Promise<void>;
}

/**
 * Serves `/metrics`; `/healthz`: 200 unless the stream has failed, or ended; `/readyz`: 200 while it streams and is not
 * too far behind, else 503 with the reason.
 *
 * @throws {CliError} of kind `metrics-port` where it cannot listen there
 */
export async function serveMetrics(
  { port, host, stream, metrics, maxLagSeconds }: ServeMetricsOptions,
): Promise<MetricsServer> {
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const plain = (status: number, text: string) =>
      response.writeHead(status, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
    const path = request.url?.split("?")[0];
    if (request.method !== "GET" && request.method !== "HEAD") return void plain(405, "GET only");
    if (path === "/metrics") {
      const format: MetricsFormat = request.headers.accept?.includes("application/openmetrics-text")
        ? "openmetrics"
        : "prometheus";
      const text = await metrics.text(stream, format);
      response.writeHead(200, { "content-type": CONTENT_TYPES[format] }).end(text);
    } else if (path === "/healthz") {
      const { state } = stream.status();
      const over = state === "failed" || state === "stopped";
      plain(over ? 503 : 200, over ? `the stream is ${state}` : "ok");
    } else if (path === "/readyz") {
      const reason = readiness(stream.status(), { maxLagSeconds });
      plain(reason === null ? 200 : 503, reason ?? "ok");
    } else plain(404, "There are /metrics, /healthz and /readyz");
  };
  const server = createServer((request, response) => {
    answer(request, response).catch(() => response.destroy());
  });
  server.listen(port, host);
  try {
    await once(server, "listening");
  } catch (cause) {
    const { code } = cause as { code?: string };
    throw new CliError(`Cannot serve metrics on ${host}, port ${port}: ${code ?? cause}`, {
      kind: "metrics-port",
      hint: code === "EADDRINUSE"
        ? "Another process listens there: choose another --metrics-port, or 0 for any"
        : "Choose another --metrics-port or --metrics-host",
      cause,
    });
  }
  const { address, port: found, family } = server.address() as AddressInfo;
  const name = `${family}` === "IPv6" || `${family}` === "6" ? `[${address}]` : address;
  return {
    url: `http://${name}:${found}`,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
