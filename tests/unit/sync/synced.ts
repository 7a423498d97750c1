/** Rows that are synced with no stream around: events, what is told with them, and all that can be seen of it. */

import type { AnyRow, ChangeEvent } from "../../../src/change.ts";
import { MemorySink } from "../../../src/sinks/memory.ts";
import type {
  RowState,
  RowWrite,
  SourcePosition,
  StreamPosition,
} from "../../../src/sinks/rows.ts";
import type { PointId, SinkLike, VectorPoint } from "../../../src/sinks/sink.ts";
import { isBatchEmbedder } from "../../../src/sync/batched_embedder.ts";
import type { SyncContext } from "../../../src/sync/context.ts";
import type { Embedder } from "../../../src/sync/embedder.ts";
import type { SyncOptions } from "../../../src/sync/options.ts";
import { resolveSync, type TableSync } from "../../../src/sync/resolve_options.ts";
import { RowSync } from "../../../src/sync/row_sync.ts";

export const SYSTEM = { systemId: "7000000000000000001", timeline: 1 };

/** A vector that tells the text that it was made of. */
export function vectorOf(text: string): number[] {
  let hash = 7;
  for (let at = 0; at < text.length; at++) hash = (hash * 31 + text.charCodeAt(at)) % 1_000_003;
  return [hash, text.length, 1];
}

/** An embedder that writes down what it was asked for; `refuse` throws what it is to be refused with. */
export class RecordingEmbedder {
  /** Each text that it made a vector of, in order. */
  readonly texts: string[] = [];
  calls = 0;
  refuse: (texts: readonly string[]) => void = () => {};

  readonly embed: Embedder = Object.assign(
    // deno-lint-ignore require-await -- what it throws must reject
    async (texts: readonly string[]) => {
      this.calls++;
      this.refuse(texts);
      this.texts.push(...texts);
      return texts.map(vectorOf);
    },
    { model: "m@1" },
  );

  /** What was embedded since this was called last. */
  take(): string[] {
    return this.texts.splice(0).sort();
  }
}

/** What a store was asked, in short. */
export type Call =
  | { method: "apply"; rows: readonly RowWrite[]; position: StreamPosition | null }
  | { method: "fingerprints"; ids: readonly string[] }
  | { method: "deleteTable"; table: string; position: SourcePosition };

/** A store that keeps rows; `fail` throws what a call is to fail with. */
export class RecordingSink extends MemorySink {
  readonly calls: Call[] = [];
  fail: (call: Call) => void = () => {};

  override async apply(
    rows: readonly RowWrite[],
    position: StreamPosition | null,
  ): Promise<void> {
    this.#called({ method: "apply", rows, position });
    await super.apply(rows, position);
  }

  override fingerprints(ids: readonly string[]): Promise<Map<string, RowState>> {
    this.#called({ method: "fingerprints", ids });
    return super.fingerprints(ids);
  }

  override async deleteTable(table: string, position: SourcePosition): Promise<void> {
    this.#called({ method: "deleteTable", table, position });
    await super.deleteTable(table, position);
  }

  /** The rows of the calls since this was called last. */
  take(): RowWrite[] {
    return this.calls.splice(0).flatMap((call) => call.method === "apply" ? call.rows : []);
  }

  /** Points as `["id", payload, vector]`, by id. */
  contents(): unknown[] {
    return this.points()
      .map(({ id, payload, vector }) => [id, payload, [...vector]])
      .sort(([a], [b]) => (a as string) < (b as string) ? -1 : 1);
  }

  #called(call: Call): void {
    this.calls.push(call);
    this.fail(call);
  }
}

/** One that keeps no position of the stream. */
export class RowsOnlySink extends RecordingSink {
  override position = undefined as unknown as MemorySink["position"];
}

/** A custom sink of two methods. */
export class PlainSink implements SinkLike {
  readonly points = new Map<PointId, VectorPoint>();

  upsert(point: VectorPoint): Promise<void> {
    this.points.set(point.id, point);
    return Promise.resolve();
  }

  delete(id: PointId): Promise<void> {
    this.points.delete(id);
    return Promise.resolve();
  }
}

/** What fails is not tried again, unless by who calls. */
const ONCE = { maxDelayMs: 1, retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 } };

/** Options of a table whose rows have `id` and `body`, and `title` as their payload. */
export function synced(
  sink: SinkLike,
  embed: Embedder,
  options: Partial<SyncOptions> = {},
  table = "documents",
): TableSync {
  return resolveSync(
    { schema: "public", table },
    {
      text: (row) => row.body,
      embed,
      payload: ["title"],
      ...(isBatchEmbedder(embed) ? {} : { batch: ONCE }),
      sink,
      ...options,
    },
    { sink: null, embedders: new WeakMap() },
  );
}

/** What a stream tells: no position, unless one is given. */
export function contextOf(fields: Partial<SyncContext> = {}): SyncContext {
  return {
    signal: new AbortController().signal,
    system: SYSTEM,
    isStored: () => false,
    position: () => null,
    upcoming: () => [],
    stored: () => {},
    ...fields,
  };
}

/** A position of the stream whose last whole transaction ends there. */
export function positionAt(endLsn: string, fields: Partial<StreamPosition> = {}): StreamPosition {
  return { ...SYSTEM, slotName: "s", endLsn, commitLsn: null, ordinal: null, ...fields };
}

export function rowOf(id: string, body: string | null, title = `t${id}`): AnyRow {
  return { id, title, body };
}

/** A table, its sink and its embedder. */
export class Synced<S extends SinkLike = RecordingSink> {
  readonly embedder = new RecordingEmbedder();
  readonly sink: S;
  readonly rows: RowSync;

  constructor(sink: S, options: Partial<SyncOptions> = {}) {
    this.sink = sink;
    this.rows = new RowSync([synced(sink, this.embedder.embed, options)]);
  }

  handle(events: readonly ChangeEvent[], context: Partial<SyncContext> = {}): Promise<void> {
    return this.rows.handle(events, contextOf(context));
  }
}
