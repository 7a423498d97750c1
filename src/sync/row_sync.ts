/** Brings what events did to rows of synced tables into their stores. */

import type { ChangeEvent } from "../change.ts";
import type { Observe } from "../observer.ts";
import { PgStreamError } from "../errors.ts";
import type { RowState, RowVector, RowWrite, SourcePosition } from "../sinks/rows.ts";
import type { SinkLike } from "../sinks/sink.ts";
import { formatTableName } from "../table_name.ts";
import type { BatchEmbedder } from "./batched_embedder.ts";
import type { SyncContext } from "./context.ts";
import { settled } from "./failures.ts";
import { writePoints } from "./plain_points.ts";
import type { TableSync } from "./resolve_options.ts";
import { rowChanges, type TableChanges } from "./row_changes.ts";
import type { WantedPoint } from "./row_maker.ts";
import {
  formerIdsOf,
  furtherIdsOf,
  idsOf,
  isTaken,
  type MadeRow,
  planRow,
  type RowPlan,
  rowWrite,
} from "./row_plan.ts";
import { type KnownStates, RowsAhead } from "./rows_ahead.ts";
import { KeptVectors, TextVectors } from "./text_vectors.ts";

/** The texts of one call. */
type Texts = ReadonlyMap<BatchEmbedder, TextVectors>;

/** What the events of one call did to a table. */
interface SyncedChanges extends TableChanges {
  readonly sync: TableSync;
}

/**
 * The tables of a stream. Calls with events of one key have to come one after the other; others may overlap.
 */
export class RowSync {
  /** By sink, then by table. */
  readonly #sinks = new Map<SinkLike, Map<string, TableSync>>();
  readonly #kept = new Map<BatchEmbedder, KeptVectors>();
  readonly #ahead = new Map<SinkLike, RowsAhead>();

  readonly #observe: Observe;

  /**
   * @param syncs one for each table and sink, at most
   * @param observe does what is written into stores
   */
  constructor(syncs: readonly TableSync[], observe: Observe = (_work, run) => run()) {
    this.#observe = observe;
    for (const sync of syncs) {
      const tables = this.#sinks.get(sync.sink) ?? new Map<string, TableSync>();
      this.#sinks.set(sync.sink, tables.set(sync.table, sync));
      if (!this.#kept.has(sync.embed)) this.#kept.set(sync.embed, new KeptVectors());
    }
    for (const [sink, tables] of this.#sinks) this.#ahead.set(sink, new RowsAhead(sink, tables));
  }

  /** What the stores are known to have is not known any more: somebody else may have been there. */
  forget(): void {
    for (const ahead of this.#ahead.values()) ahead.forget();
  }

  /**
   * Brings all sinks to where these events leave the rows. What is there already is neither embedded nor
   * written again, so that the same events may come any number of times. Those of other tables are left out.
   *
   * @param events in order
   * @throws {PgStreamError} `sync-text`, `sync-chunk`, `sync-payload`, `sync-key`, `unsupported`;
   * {EmbedError}; what a sink throws; the signal's reason. Nothing is under way any more then, and what was
   * embedded is not embedded again where the events come again, all or some of them.
   */
  async handle(events: readonly ChangeEvent[], context: SyncContext): Promise<void> {
    const texts = new Map<BatchEmbedder, TextVectors>();
    for (const [embed, kept] of this.#kept) {
      texts.set(embed, new TextVectors(embed, kept, context.signal));
    }
    let failed = true;
    try {
      const all = [...this.#sinks].map(([sink, tables]) =>
        this.#handle(sink, tables, events, texts, context)
      );
      await settled(all);
      failed = false;
    } finally {
      for (const vectors of texts.values()) vectors.end(failed);
    }
  }

  async #handle(
    sink: SinkLike,
    tables: ReadonlyMap<string, TableSync>,
    events: readonly ChangeEvent[],
    texts: Texts,
    context: SyncContext,
  ): Promise<void> {
    const missing = events.filter((event) =>
      tables.has(formatTableName(event)) && !context.isStored(sink, event)
    );
    const changes: SyncedChanges[] = [];
    for (const [table, change] of rowChanges(missing)) {
      changes.push({ sync: tables.get(table)!, ...change });
    }
    const ahead = this.#ahead.get(sink)!;
    const made = await makeRows(changes, context, ahead);
    for (const { sync, truncated } of changes) {
      if (truncated === null) continue;
      if (sink.deleteTable === undefined) throw truncateUnsupported(sync.table);
      await sink.deleteTable(sync.table, positionOf(context, truncated));
    }
    const states = await readStates(sink, made, ahead.takeStates());
    const plans: RowPlan[] = [];
    for (const row of made) {
      if (row.change.left !== null && await isTaken(row, states)) continue;
      const plan = planRow(row, states);
      if (plan !== null) plans.push(plan);
    }
    const rows = await addVectors(plans, texts, sink, states);
    const written = this.#write(sink, rows, context);
    await settled([written, ahead.prepare(context.upcoming(), made)]);
  }

  async #write(
    sink: SinkLike,
    rows: readonly RowWrite[],
    context: SyncContext,
  ): Promise<void> {
    // How far the stream is where it has nothing for this store, the store is told in time.
    if (rows.length === 0) return;
    const position = sink.apply === undefined ? null : context.position(sink);
    await this.#observe(
      { kind: "sink", size: rows.length },
      () => sink.apply === undefined ? writePoints(sink, rows) : sink.apply(rows, position),
    );
    if (position !== null) context.stored(sink, position);
  }
}

function positionOf(
  { system: { systemId, timeline } }: SyncContext,
  { lsn, ordinal }: { lsn: string; ordinal: number },
): SourcePosition {
  return { systemId, timeline, lsn, ordinal };
}

/** All of them, before anything is deleted, embedded or written. */
async function makeRows(
  changes: readonly SyncedChanges[],
  context: SyncContext,
  ahead: RowsAhead,
): Promise<MadeRow[]> {
  return await Promise.all(
    changes.flatMap(({ sync, rows }) =>
      [...rows.values()].map(async (change): Promise<MadeRow> => {
        const { key, row } = change;
        const wanted = row === null ? { points: [] } : await ahead.make(sync, key, row);
        return { sync, change, position: positionOf(context, change), wanted };
      })
    ),
  );
}

/** What the sink has of the rows; null where it does not tell. @param known what need not be read */
async function readStates(
  sink: SinkLike,
  made: readonly MadeRow[],
  known: KnownStates,
): Promise<ReadonlyMap<string, RowState> | null> {
  if (sink.apply === undefined || sink.fingerprints === undefined) return null;
  const former = sink.vectors === undefined ? [] : made.flatMap(formerIdsOf);
  const ids = [...made.flatMap(idsOf), ...former];
  const unknown = ids.filter((id) => !known.has(id));
  const states = unknown.length === 0 ? new Map() : await sink.fingerprints(unknown);
  for (const id of ids) {
    const state = known.get(id);
    if (state) states.set(id, state);
  }
  return states;
}

/** The rows with vectors of what the store lacks, embedded together, whatever tables they are of. */
async function addVectors(
  plans: readonly RowPlan[],
  texts: Texts,
  sink: SinkLike,
  states: ReadonlyMap<string, RowState> | null,
): Promise<RowWrite[]> {
  const missing = new Map<BatchEmbedder, WantedPoint[]>();
  for (const { made, kept } of plans) {
    const { embed } = made.sync;
    const points = missing.get(embed) ?? [];
    points.push(...made.wanted.points.filter((_, chunk) => !kept[chunk]));
    missing.set(embed, points);
  }
  const points = [...missing.values()].flat();
  for (const { fingerprint, vector } of await storedVectors(plans, points, sink, states)) {
    for (const vectors of texts.values()) vectors.put(fingerprint, vector);
  }
  await settled([...missing].map(([embed, points]) => texts.get(embed)!.embed(points)));
  return plans.map((plan) => rowWrite(plan, texts.get(plan.made.sync.embed)!));
}

/**
 * Vectors that the store has under other ids: of a row that has another key now, of chunks that have moved. A
 * fingerprint tells the model, too.
 */
async function storedVectors(
  plans: readonly RowPlan[],
  missing: readonly WantedPoint[],
  sink: SinkLike,
  states: ReadonlyMap<string, RowState> | null,
): Promise<RowVector[]> {
  if (sink.vectors === undefined || states === null) return [];
  const wanted = new Set(missing.map(({ fingerprint }) => fingerprint));
  const found = (states: ReadonlyMap<string, RowState>) =>
    [...states.values()].filter((state) => wanted.delete(state.fingerprint)).map(({ id }) => id);
  const ids = found(states);
  const further = wanted.size === 0 ? [] : plans
    .filter(({ made }) => made.wanted.points.some(({ fingerprint }) => wanted.has(fingerprint)))
    .flatMap(({ made }) => furtherIdsOf(made, states));
  if (further.length > 0) ids.push(...found(await sink.fingerprints!(further)));
  return ids.length === 0 ? [] : [...(await sink.vectors(ids)).values()];
}

function truncateUnsupported(table: string): PgStreamError {
  return new PgStreamError(
    `Table ${table} was truncated, and its sink cannot remove the points of a table`,
    {
      kind: "unsupported",
      hint: "Add the method deleteTable(table, position) to it, or publish no TRUNCATE",
    },
  );
}
