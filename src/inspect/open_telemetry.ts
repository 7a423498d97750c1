/** Spans of a stream's work, by OpenTelemetry's API, which the user brings. */

import type { StreamObserver } from "../observer.ts";

/** What is used of a span. https://opentelemetry.io/docs/specs/otel/trace/api/#span */
export interface TraceSpan {
  /** Adds what is known of it. */
  setAttribute(name: string, value: string | number): unknown;
  /** How it ended: 2 is an error. */
  setStatus(status: { code: number; message?: string }): unknown;
  /** It is over. */
  end(): void;
}

/** What is used of a tracer. */
export interface Tracer {
  /** Begins a span, within which the function runs. */
  startActiveSpan<T>(
    name: string,
    options: { attributes: Record<string, string | number> },
    run: (span: TraceSpan) => T,
  ): T;
}

/** What is used of `@opentelemetry/api`. */
export interface TraceApi {
  /** As `import { trace } from "@opentelemetry/api"` gives it. */
  trace: { getTracer(name: string): Tracer };
}

const ERROR = 2;

/**
 * An observer that makes spans: `pgstream.batch` of each call of a handler, `pgstream.embed` and `pgstream.sink` within.
 * They tell how many events, texts or rows they are of, and by which kind of error they failed: no value of a row, nor a
 * message that could hold one.
 *
 * @example
 * ```ts ignore
 * import * as api from "@opentelemetry/api";
 * import { PgStream } from "@pgstream/pgstream";
 * import { openTelemetry } from "@pgstream/pgstream/inspect";
 *
 * const stream = new PgStream({ observer: openTelemetry(api) });
 * ```
 */
export function openTelemetry({ trace }: TraceApi): StreamObserver {
  const tracer = trace.getTracer("pgstream");
  return {
    observe({ kind, size }, run) {
      const attributes = { "pgstream.size": size };
      return tracer.startActiveSpan(`pgstream.${kind}`, { attributes }, async (span) => {
        try {
          return await run();
        } catch (error) {
          const { kind, name } = (error ?? {}) as { kind?: unknown; name?: unknown };
          const type = typeof kind === "string" ? kind : typeof name === "string" ? name : "error";
          span.setAttribute("error.type", type);
          span.setStatus({ code: ERROR, message: type });
          throw error;
        } finally {
          span.end();
        }
      });
    },
  };
}
