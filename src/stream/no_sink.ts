/** What a handler gets where no sink was attached. */
import { PgStreamError } from "../errors.ts";
import { type PointId, Sink, type VectorPoint } from "../sinks/sink.ts";

/** Says, when it is used, that there is none. */
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
