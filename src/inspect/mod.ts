/**
 * What is to be known of a source, a slot and a stream beside its changes: what is not as it should be and how to mend
 * it, how far slots are behind, and metrics.
 *
 * @module
 */
export type { Finding } from "../finding.ts";
export type { Incident, StreamObserver, Work } from "../observer.ts";
export { diagnose, type DiagnoseOptions } from "./diagnose.ts";
export type { TablePart } from "../replication/slot_manager.ts";
export type { ConnectorOptions } from "../wire/connector.ts";
