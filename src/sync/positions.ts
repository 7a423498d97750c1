/**
 * How far the stores are that keep the stream's position with what they store, and how far the server may
 * therefore be told that the stream is: what is confirmed is stored before. So a store whose position is
 * behind the server's has lost something, and what the server sends again is known to be there.
 */

import type { ChangeEvent } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import type { Logger } from "../logger.ts";
import { formatLsn, INVALID_LSN, type Lsn, parseLsn } from "../lsn.ts";
import { compareStreamPositions } from "../sinks/positions.ts";
import type { StreamPosition } from "../sinks/rows.ts";
import type { SinkLike } from "../sinks/sink.ts";
import type { Timers } from "./timers.ts";

/** Where nothing was handled, positions are stored this often at most: a store in the source feeds itself. */
const IDLE_MS = 60_000;
/** Or behind so much WAL, which the server would have to keep. */
const IDLE_BYTES = 16n * 1024n * 1024n;
/** Where something was handled, and the server's Commit came after it. */
const BUSY_MS = 1_000;

/** What positions are kept for. */
export interface PositionsOptions {
  slotName: string;
  sinks: readonly SinkLike[];
  logger: Logger;
  timers: Timers;
}

/** Where a run is. */
export interface PositionsRun {
  system: { readonly systemId: string; readonly timeline: number };
  /** What the server holds for confirmed. */
  confirmedLsn: Lsn;
  /** False where it may be anywhere: changes were missed, or the slot begins anew. */
  continues: boolean;
  /** True where a store says that it has all rows of some table. */
  isFilled: (sink: SinkLike) => boolean;
  /** True where events are handled one after the other. */
  oneLane: boolean;
  /** All that is before it is handled. */
  frontier: () => Lsn;
  /** Confirms what may be confirmed. */
  confirm: () => void;
}

/** What is known of one store. */
interface Kept {
  sink: SinkLike;
  /** Of the run's system and timeline; null where there is none. */
  position: StreamPosition | null;
  endLsn: Lsn;
  storedMs: number;
  storing: Promise<void> | null;
}

/** For all stores of a stream. */
export class Positions {
  readonly #options: PositionsOptions;
  readonly #kept: readonly Kept[];
  #run: PositionsRun | null = null;
  /** The last event that was handled, of those that come one after the other. */
  #reached: { lsn: Lsn; ordinal: number } | null = null;
  #handledMs = -Infinity;
  /** How many batches of events are on their way into the stores. */
  #handling = 0;
  #timer: unknown = null;

  /** Asks nobody yet. */
  constructor(options: PositionsOptions) {
    this.#options = options;
    this.#kept = options.sinks
      .filter((sink) => sink.position !== undefined && sink.apply !== undefined)
      .map((sink) => ({
        sink,
        position: null,
        endLsn: INVALID_LSN,
        storedMs: -Infinity,
        storing: null,
      }));
  }

  /**
   * The stream has its slot, and nothing of it was read yet.
   *
   * @throws {PgStreamError} `sync-behind` where a store lacks what the server holds for handled.
   */
  async arrived(run: PositionsRun): Promise<void> {
    this.#run = null;
    this.#reached = null;
    const { slotName } = this.#options;
    await Promise.all(this.#kept.map(async (kept) => {
      await kept.storing;
      const { systemId, timeline } = run.system;
      const stored = await kept.sink.position!({ systemId, slotName });
      const isBehind = stored !== null && parseLsn(stored.endLsn) < run.confirmedLsn;
      if (isBehind && run.continues && run.isFilled(kept.sink)) {
        throw behind(slotName, stored, run.confirmedLsn);
      }
      // On another timeline the same LSNs may be other changes.
      kept.position = stored?.timeline === timeline ? stored : null;
      kept.endLsn = kept.position === null ? INVALID_LSN : parseLsn(kept.position.endLsn);
    }));
    this.#run = run;
  }

  /** True where the store has this event from before. */
  isStored(sink: SinkLike, { lsn, ordinal }: ChangeEvent): boolean {
    const position = this.#of(sink)?.position ?? null;
    // A backfilled row stands in no transaction.
    if (position === null || ordinal < 0) return false;
    const place = parseLsn(lsn);
    if (place < parseLsn(position.endLsn)) return true;
    if (position.commitLsn === null) return false;
    const commitLsn = parseLsn(position.commitLsn);
    return place < commitLsn || place === commitLsn && ordinal <= position.ordinal!;
  }

  /**
   * What the store is to keep with these events; null where it keeps nothing, or other events are handled
   * beside these, whose stored position would be one that a later one refuses.
   *
   * @param endLsn what the frontier comes to with them
   */
  with(sink: SinkLike, events: readonly ChangeEvent[], endLsn: Lsn): StreamPosition | null {
    const kept = this.#of(sink);
    if (kept === undefined || this.#run === null || !this.#run.oneLane) return null;
    return this.#make(kept, endLsn, lastPlace(events) ?? this.#reached);
  }

  /**
   * Nothing else is stored while `work` brings events into stores: rows of a backfill hold no frontier back, so
   * that a position stored beside them could be later than theirs, and the store would refuse them.
   */
  async alone(work: () => Promise<void>): Promise<void> {
    this.#handling++;
    try {
      await work();
    } finally {
      this.#handling--;
    }
  }

  /** The store has it. */
  stored(sink: SinkLike, position: StreamPosition): void {
    const kept = this.#of(sink);
    if (kept === undefined || !isLater(position, kept.position)) return;
    kept.position = position;
    kept.endLsn = parseLsn(position.endLsn);
    kept.storedMs = this.#options.timers.now();
  }

  /** Events are in all stores that they belong to. */
  handled(events: readonly ChangeEvent[]): void {
    this.#handledMs = this.#options.timers.now();
    const place = lastPlace(events);
    if (place !== null && this.#run?.oneLane) this.#reached = place;
  }

  /** So much of it may be confirmed; the stores learn of the rest in time. */
  confirmable(frontier: Lsn): Lsn {
    let confirmable = frontier;
    let dueMs = Infinity;
    const now = this.#options.timers.now();
    for (const kept of this.#kept) {
      if (kept.endLsn >= frontier) continue;
      if (kept.endLsn < confirmable) confirmable = kept.endLsn;
      if (this.#run === null || kept.storing !== null) continue;
      const isFar = frontier - kept.endLsn >= IDLE_BYTES && kept.endLsn !== INVALID_LSN;
      const waitMs = isFar || this.#handledMs >= kept.storedMs ? BUSY_MS : IDLE_MS;
      let due = kept.storedMs + waitMs;
      if (this.#isAlone) due = Math.max(due, now + BUSY_MS);
      if (due <= now) void this.#store(kept);
      else dueMs = Math.min(dueMs, due);
    }
    this.#wakeAt(dueMs, now);
    return confirmable;
  }

  /** The stores learn now what is handled. What fails is logged: it comes again. */
  async flush(): Promise<void> {
    if (this.#run === null) return;
    await Promise.all(this.#kept.map(async (kept) => {
      await kept.storing;
      if (this.#run === null || this.#isAlone) return;
      if (kept.endLsn < this.#run.frontier()) await this.#store(kept);
    }));
  }

  /** The run is over. */
  end(): void {
    this.#options.timers.clearTimeout(this.#timer);
    this.#timer = null;
    this.#run = null;
  }

  /** Beside several lanes positions are stored by themselves only, and none comes with rows. */
  get #isAlone(): boolean {
    return this.#handling > 0 && this.#run!.oneLane;
  }

  #of(sink: SinkLike): Kept | undefined {
    return this.#kept.find((kept) => kept.sink === sink);
  }

  #make(kept: Kept, endLsn: Lsn, reached: { lsn: Lsn; ordinal: number } | null): StreamPosition {
    const isPart = reached !== null && reached.lsn >= endLsn;
    const position: StreamPosition = {
      ...this.#run!.system,
      slotName: this.#options.slotName,
      endLsn: formatLsn(endLsn),
      commitLsn: isPart ? formatLsn(reached.lsn) : null,
      ordinal: isPart ? reached.ordinal : null,
    };
    // What comes again after a crash is behind what is stored.
    return isLater(position, kept.position) ? position : kept.position!;
  }

  #store(kept: Kept): Promise<void> {
    const { sink } = kept;
    const { confirm, frontier, oneLane } = this.#run!;
    const position = this.#make(kept, frontier(), oneLane ? this.#reached : null);
    const storing = async () => {
      try {
        await sink.apply!([], position);
        this.stored(sink, position);
      } catch (error) {
        kept.storedMs = this.#options.timers.now();
        this.#options.logger.warn(
          "A store did not take the stream's position; it is not confirmed",
          error,
        );
      } finally {
        kept.storing = null;
      }
      confirm();
    };
    return kept.storing = storing();
  }

  #wakeAt(dueMs: number, now: number): void {
    const { timers } = this.#options;
    timers.clearTimeout(this.#timer);
    this.#timer = dueMs === Infinity
      ? null
      : timers.setTimeout(() => this.#run?.confirm(), Math.max(1, dueMs - now));
  }
}

/** The place of the last of them that stands in a transaction. */
function lastPlace(events: readonly ChangeEvent[]): { lsn: Lsn; ordinal: number } | null {
  const last = events.findLast(({ ordinal }) => ordinal >= 0);
  return last === undefined ? null : { lsn: parseLsn(last.lsn), ordinal: last.ordinal };
}

function isLater(position: StreamPosition, than: StreamPosition | null): boolean {
  return than === null || compareStreamPositions(position, than)! > 0;
}

function behind(slotName: string, { endLsn }: StreamPosition, confirmedLsn: Lsn): PgStreamError {
  return new PgStreamError(
    `A store has the changes of slot "${slotName}" up to ${endLsn}, but they were confirmed up to ` +
      `${formatLsn(confirmedLsn)}: those between are missing in it`,
    {
      kind: "sync-behind",
      hint:
        "It was restored from a backup, or is another one. Fill it anew: teardown(), setup() and start(); " +
        "then verify() with repair removes what was deleted meanwhile.",
    },
  );
}
