/** What a handler is given to write to. */
import { PgStreamError } from "../errors.ts";
import { type PointId, Sink, type SinkLike, type VectorPoint } from "../sinks/sink.ts";

/**
 * The very object that was attached. Where it has no more than `upsert` and `delete`, the defaults of
 * `Sink` are added to it, since a handler may call any of them.
 *
 * @throws {PgStreamError} of kind `invalid-sink` where one of the two is missing.
 */
export function attachSink(sink: SinkLike): Sink {
  if (typeof sink?.upsert !== "function" || typeof sink.delete !== "function") {
    throw new PgStreamError("A sink needs the methods upsert and delete", {
      kind: "invalid-sink",
      hint: "Derive a class from Sink, or pass an object with the two.",
    });
  }
  if (!Object.isExtensible(sink)) return sink as Sink;
  for (const name of ["upsertMany", "deleteMany", "close", Symbol.asyncDispose] as const) {
    if (typeof (sink as Partial<Sink>)[name] === "function") continue;
    const value = Sink.prototype[name];
    Object.defineProperty(sink, name, { value, configurable: true, writable: true });
  }
  return sink as Sink;
}

/** What a handler gets where no sink was attached: it says so when it is used. */
export class NoSink extends Sink {
  /** @throws {PgStreamError} of kind `no-sink`. */
  override upsert(_point: VectorPoint): Promise<never> {
    return Promise.reject(missing());
  }

  /** @throws {PgStreamError} of kind `no-sink`. */
  override delete(_id: PointId): Promise<never> {
    return Promise.reject(missing());
  }

  /** @throws {PgStreamError} of kind `no-sink`. */
  override upsertMany(_points: readonly VectorPoint[]): Promise<never> {
    return Promise.reject(missing());
  }

  /** @throws {PgStreamError} of kind `no-sink`. */
  override deleteMany(_ids: readonly PointId[]): Promise<never> {
    return Promise.reject(missing());
  }
}

function missing(): PgStreamError {
  return new PgStreamError("The handler uses a sink, but none was attached", {
    kind: "no-sink",
    hint: "Call stream.sink(new MemorySink()), or another sink, before start().",
  });
}
