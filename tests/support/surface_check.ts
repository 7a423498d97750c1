/**
 * Holds what the main module exports to the surface that was promised. It is compiled, never run: a
 * name that is missing, or a shape that differs, is an error of `deno check`.
 */
import type * as Ours from "@pgstream/pgstream";
import type * as Promised from "./surface.ts";

/** Does not compile where an `A` cannot be used as a `B`. */
type Fits<A extends B, B> = [A, B];
/** Does not compile unless each can be used as the other. */
type Same<A extends B, B extends C, C = A> = [A, B, C];

interface Tables {
  documents: { id: string; content: string };
  "blog.articles": { id: bigint; title: string };
}
type OurStream = Ours.PgStream<Tables>;
type PromisedStream = Promised.PgStream<Tables>;
type Row = { id: string; content: string | null };

/** `T` with no more of its fields than `Keys`: what is added is no concern of the promise. */
type Only<T, Keys extends PropertyKey> = T extends unknown ? Pick<T, Keys & keyof T> : never;
type Shared<A, B> = keyof A & keyof B;
type OurStatus = Only<Ours.StreamStatus, keyof Promised.StreamStatus>;
type OurSetup = Only<Ours.SetupReport, keyof Promised.SetupReport>;
type OurOptions = Only<Required<Ours.PgStreamOptions>, keyof Promised.PgStreamOptions>;
type AllOptions = Required<Promised.PgStreamOptions>;
type SlotLost = Promised.PgStreamOptions["onSlotLost"];

/** The parameters of both overloads of a method. */
// deno-lint-ignore no-explicit-any -- any parameters are what is looked for
type Overloads<F> = F extends { (...a: infer A): any; (...b: infer B): any } ? [A, B] : never;
// deno-lint-ignore no-explicit-any -- any parameters are what is looked for
type Method<T, Name extends keyof T> = T[Name] extends (...args: any[]) => any ? T[Name] : never;
type ParametersOf<T, Name extends keyof T> = Parameters<Method<T, Name>>;
type ResultOf<T, Name extends keyof T> = Awaited<ReturnType<Method<T, Name>>>;

/** Methods whose parameters and results are compared one by one. */
type Compared =
  | "setup"
  | "start"
  | "catchUp"
  | "changes"
  | "backfill"
  | "status"
  | "stop"
  | "teardown";
type AllParameters<T extends Record<Compared, unknown>> = {
  [Name in Compared]: ParametersOf<T, Name>;
};
type AllResults<T extends Record<Compared, unknown>> = { [Name in Compared]: ResultOf<T, Name> };

export type Values = [
  Same<Ours.PointId, Promised.PointId>,
  Same<Ours.VectorPoint, Promised.VectorPoint>,
  Same<Ours.AnyRow, Promised.AnyRow>,
  Same<Ours.Logger, Promised.Logger>,
];

export type Events = [
  Same<Ours.InsertEvent, Promised.InsertEvent>,
  Same<Ours.UpdateEvent, Promised.UpdateEvent>,
  Same<Ours.DeleteEvent, Promised.DeleteEvent>,
  Same<Ours.TruncateEvent, Promised.TruncateEvent>,
  Same<Ours.ChangeEvent, Promised.ChangeEvent>,
  Same<Ours.InsertEvent<Row, "a.b">, Promised.InsertEvent<Row, "a.b">>,
  Same<Ours.UpdateEvent<Row, "a.b">, Promised.UpdateEvent<Row, "a.b">>,
  Same<Ours.DeleteEvent<Row, "a.b">, Promised.DeleteEvent<Row, "a.b">>,
  Same<Ours.TruncateEvent<"a.b">, Promised.TruncateEvent<"a.b">>,
  Same<Ours.ChangeEvent<Row, "documents">, Promised.ChangeEvent<Row, "documents">>,
  Same<Ours.EventOf<Tables>, Promised.EventOf<Tables>>,
  Same<Ours.EventOf<Record<string, Ours.AnyRow>>, Promised.EventOf<Record<string, Ours.AnyRow>>>,
];

export type Options = [
  // What the promise lets one pass can be passed; what is read back is as it was passed.
  Same<Ours.PgStreamOptions, Promised.PgStreamOptions>,
  Same<OurOptions, AllOptions>,
  Same<keyof Promised.PgStreamOptions, Shared<Ours.PgStreamOptions, Promised.PgStreamOptions>>,
  Same<Ours.WatchOptions<Row>, Promised.WatchOptions<Row>>,
  Same<Required<Ours.WatchOptions<Row>>, Required<Promised.WatchOptions<Row>>>,
  Same<Ours.Failure, Promised.Failure>,
  Same<Ours.HandlerContext, Promised.HandlerContext>,
];

export type Reports = [
  Same<OurSetup, Promised.SetupReport>,
  Same<Only<Ours.CatchUpReport, keyof Promised.CatchUpReport>, Promised.CatchUpReport>,
  Same<OurStatus, Promised.StreamStatus>,
  // What is added survives JSON.stringify too.
  Same<Ours.CatchUpReport["busy"], boolean>,
  Same<Ours.StreamStatus["handledLsn"], string>,
  Same<Ours.StreamStatus["lagSeconds"], number>,
  Same<Extract<Ours.Gap[keyof Ours.Gap], bigint>, never>,
  Same<Ours.StreamStatus["state"], Promised.StreamStatus["state"]>,
  Same<Ours.Transaction<Tables>, Promised.Transaction<Tables>>,
  Same<Ours.Transaction<Tables>["events"], Promised.Transaction<Tables>["events"]>,
];

export type Sinks = [
  Same<Ours.SinkLike, Promised.SinkLike>,
  Same<Required<Only<Ours.SinkLike, keyof Promised.SinkLike>>, Required<Promised.SinkLike>>,
  Same<keyof Promised.SinkLike, Shared<Ours.SinkLike, Promised.SinkLike>>,
  Same<Only<Ours.Sink, keyof Promised.Sink>, Promised.Sink>,
  Fits<Promised.Sink, Ours.Sink>,
  Fits<typeof Ours.Sink, typeof Promised.Sink>,
];

export type Errors = [
  Fits<Ours.PgStreamError, Promised.PgStreamError>,
  Same<Only<Ours.PgStreamError, "kind" | "hint">, Only<Promised.PgStreamError, "kind" | "hint">>,
];

export type Stream = [
  Fits<OurStream, PromisedStream>,
  Fits<Ours.PgStream, Promised.PgStream>,
  Same<keyof PromisedStream, Shared<OurStream, PromisedStream>>,
  Same<
    ConstructorParameters<typeof Ours.PgStream<Tables>>,
    ConstructorParameters<typeof Promised.PgStream<Tables>>
  >,
  Same<AllParameters<OurStream>, AllParameters<PromisedStream>>,
  Same<AllResults<OurStream>, AllResults<PromisedStream>>,
  Same<Overloads<OurStream["watch"]>, Overloads<PromisedStream["watch"]>>,
  Same<ParametersOf<OurStream, "sink">, ParametersOf<PromisedStream, "sink">>,
  Same<ParametersOf<OurStream, "onChange">, ParametersOf<PromisedStream, "onChange">>,
  Same<ParametersOf<OurStream, "onBatch">, ParametersOf<PromisedStream, "onBatch">>,
  Fits<ReturnType<OurStream["sink"]>, OurStream>,
  Fits<ReturnType<OurStream["onChange"]>, OurStream>,
];

// That these checks can fail at all: each line is an error, or this file does not compile.
export type Wrong = [
  // @ts-expect-error a field of another type
  Same<Omit<OurStatus, "retries"> & { retries: string }, Promised.StreamStatus>,
  // @ts-expect-error a field that is missing
  Same<Omit<OurSetup, "added">, Promised.SetupReport>,
  // @ts-expect-error a value that is not promised
  Same<Ours.StreamStatus["state"] | "lost", Promised.StreamStatus["state"]>,
  // @ts-expect-error a value that is promised and missing
  Same<Exclude<Ours.StreamStatus["state"], "idle">, Promised.StreamStatus["state"]>,
  // @ts-expect-error an optional field that is gone
  Same<Omit<OurOptions, "retry">, AllOptions>,
  // @ts-expect-error a value of an option that is gone
  Same<Exclude<Ours.PgStreamOptions["onSlotLost"], "recreate">, SlotLost>,
];
