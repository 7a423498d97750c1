/**
 * What is to be known of a source, a slot and a stream beside its changes: what is not as it should be and how to mend
 * it, how far slots are behind, and metrics.
 *
 * @module
 */
export type { Finding } from "../finding.ts";
export type { Observe, StreamObserver, Work } from "../observer.ts";
export { openTelemetry, type TraceApi, type Tracer, type TraceSpan } from "./open_telemetry.ts";
export { type MeasuredStream, type MetricsOptions, readiness, StreamMetrics } from "./metrics.ts";
export { observeAll } from "./observe_all.ts";
export { readSlots, type ReadSlotsOptions, type SlotStatus } from "./slots.ts";
export type { MetricsFormat } from "./open_metrics.ts";
export { secondsUntilLost, type SlotReading } from "./slot_forecast.ts";
export { diagnose, type DiagnoseOptions } from "./diagnose.ts";
export type { TablePart } from "../replication/slot_manager.ts";
export type { ConnectorOptions } from "../wire/connector.ts";
export { publishes } from "./publishes.ts";
