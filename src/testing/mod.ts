/**
 * Tests for handlers, in milliseconds and with no server: events as a stream makes them, and a
 * `TestServer` that feeds them to a stream of yours, wired up as in production.
 *
 * The server stands where a connection would: what it "sends" enters the very intake that a session with
 * PostgreSQL fills, and all behind it is the real thing: events, order, lanes, batches, retries, `onFailure`,
 * sinks, what is confirmed and what comes again. What is left out is the way from the socket to there. A
 * server that speaks the protocol in memory would have that too, but would have to answer SQL, catalogue and
 * backfills included: a second PostgreSQL, right only for as long as nobody changes a query. Nothing that
 * a handler can tell lies on that way.
 *
 * @example
 * ```ts
 * import { MemorySink, PgStream } from "@pgstream/pgstream";
 * import { insert, remove, TestServer, update } from "@pgstream/pgstream/testing";
 *
 * // Yours, as in production.
 * const stream = new PgStream({ concurrency: 4 });
 * stream.watch("documents");
 * stream.onChange(async (event, sink) => {
 *   if (event.operation === "truncate") return;
 *   if (event.oldKey !== null) await sink.delete(event.oldKey);
 *   if (event.operation === "delete") return await sink.delete(event.key);
 *   if (event.unchanged.includes("content")) return;
 *   await sink.upsert({ id: event.key, vector: [event.row.content.length] });
 * });
 *
 * // The test.
 * const sink = new MemorySink();
 * const server = new TestServer(stream.sink(sink));
 * await server.feed([
 *   insert("documents", { id: 1, content: "bread" }),
 *   insert("documents", { id: 2, content: "cheese" }),
 * ]);
 * await server.feed([update("documents", { id: 3, content: "bread" }, { oldRow: { id: 1 } })]);
 * await server.feed([remove("documents", { id: 2 })]);
 * await server.replay(); // all of it comes again, as it may after a crash
 *
 * const ids = sink.points().map(({ id }) => id);
 * if (`${ids}` !== "3") throw new Error(`stored: ${ids}`);
 * ```
 *
 * @module
 */
export {
  type ChangeOptions,
  type Columns,
  type ColumnValue,
  insert,
  type InsertOptions,
  type JsOf,
  remove,
  type RowOf,
  type TextOf,
  truncate,
  update,
  type UpdateOptions,
} from "./events.ts";
export { message, type MessageOptions } from "./message.ts";
export { type FedEvent, type FeedOptions, type FeedReport, TestServer } from "./test_server.ts";
