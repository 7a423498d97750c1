/**
 * A stream from start to stop: one queue, and as many connections as it takes. A little longer than other
 * files: what is lost, remade and decided on the way is one story, and is read as one.
 */
import { backoffMs, pause } from "../backoff.ts";
import { isRetryable, PgStreamError } from "../errors.ts";
import { formatLsn, INVALID_LSN, type Lsn } from "../lsn.ts";
import { connectForReplication } from "../replication/connect.ts";
import { withDeadline } from "../replication/deadline.ts";
import { SlotError } from "../replication/errors.ts";
import type { Backend } from "../replication/backend.ts";
import { currentDatabase, type SystemIdentity } from "../replication/server.ts";
import type { StreamStart } from "../replication/start.ts";
import type { Connection } from "../wire/connection.ts";
import type { Continuation, KnownSystem } from "./continuation.ts";
import { messageOf } from "./errors.ts";
import type { Gap } from "./options.ts";
import type { Patience } from "./patience.ts";
import { isInUse, isSlotLost } from "./position.ts";
import type { RunBackfill } from "./run_backfill.ts";
import type { RunOptions } from "./run_options.ts";
import type { Pipeline, SessionOptions } from "./session.ts";
import type { OpenSession } from "./source.ts";

/** What a handler gets to finish its event where nobody says how long. */
export const DEFAULT_FINISH_MS = 10_000;
/** How long another session may hold the slot: the server takes a moment to see that one has ended. */
const SLOT_IN_USE_MS = 5_000;
/** Between two tries for a slot that is free, and then is not. */
const SLOT_RACE_MS = 100;
/** Unanswered status updates after which a server is looked at. */
const MOST_UNANSWERED = 3;
/** What a connection has to last to count as one that works. */
const PROVEN_MS = 5_000;
/** Sessions of one's own that the server may still hold for alive. */
const MOST_BACKENDS = 64;
/** How long `onSlotLost: "recreate"` waits for writing transactions to end. */
const RECREATE_MS = 60_000;

/** What a new connection found, and what it means for what is queued: done once the slot is this stream's. */
interface Arrival extends Continuation {
  system: SystemIdentity;
  start: StreamStart;
  /** Changes were missed. */
  gap: SlotError | null;
  /** What was read up to here happened on this timeline, too; null: all of it. */
  validUntil: Lsn | null;
}

/** Runs once. */
export class StreamRun {
  readonly #options: RunOptions;
  readonly #pipeline: Pipeline;
  readonly #backfill: RunBackfill;
  #session: OpenSession | null = null;
  #known: KnownSystem | null;
  /** True once a connection has streamed. */
  #streamed = false;
  /** True once it has streamed, or stood by for it: what is lost from then on is remade. */
  #comeSoFar = false;
  /** True once the frontier is a position of the slot. */
  #positioned = false;
  #target: Lsn | null = null;
  #arrival: Arrival | null = null;
  #receivedLsn: Lsn = INVALID_LSN;
  #confirmedLsn: Lsn = INVALID_LSN;
  /** Connections lost, or not made, in a row. */
  #failures = 0;
  /** Connections in a row that fell silent. */
  #silences = 0;
  #unfinished: Promise<unknown> | null = null;

  /** Connects to nothing yet. */
  constructor(options: RunOptions, pipeline: Pipeline, backfill: RunBackfill) {
    this.#options = options;
    this.#pipeline = pipeline;
    this.#backfill = backfill;
    this.#known = options.known;
  }

  /** Positions as they are now, and what waits for the handlers, decoded or not. */
  get progress(): { receivedLsn: Lsn; handledLsn: Lsn; confirmedLsn: Lsn; queueBytes: number } {
    this.#note();
    return {
      queueBytes: this.#pipeline.queue.queueBytes + (this.#session?.waitingBytes ?? 0),
      receivedLsn: this.#receivedLsn,
      handledLsn: this.#pipeline.frontier.confirmed,
      confirmedLsn: this.#confirmedLsn,
    };
  }

  /** The server, once it is known. */
  get known(): KnownSystem | null {
    return this.#known;
  }

  /** Resolves when the handlers end that were given up at the end of `run`; null where none were. */
  get unfinished(): Promise<unknown> | null {
    return this.#unfinished;
  }

  /** Events were handled: the frontier may have moved. */
  handled(): void {
    this.#session?.confirm();
    this.#backfill.progressed();
  }

  /** Asks the server how far it has sent. */
  ask(): void {
    this.#session?.ask();
  }

  /**
   * Streams until it is told to stop, has caught up, or something fails that does not pass. Either way
   * what is in hand is finished, as far as `patience` goes, and what is handled is confirmed.
   *
   * @throws what made it fail
   */
  async run(signal: AbortSignal, patience: Patience): Promise<void> {
    const { queue } = this.#pipeline;
    const stop = new AbortController();
    const tell = () => stop.abort(signal.reason);
    if (signal.aborted) tell();
    signal.addEventListener("abort", tell);
    const delivering = queue.run(stop);
    const delivered = delivering.catch(() => {});
    let failed = false;
    const filling = this.#backfill.run(stop.signal).catch((error) => stop.abort(error));
    try {
      this.#known ??= await this.#backfill.load();
      await this.#follow(stop.signal);
      if (!stop.signal.aborted) await queue.drained();
    } finally {
      signal.removeEventListener("abort", tell);
      // By the queue itself, then, and not by the one who told us to stop.
      failed = stop.signal.aborted && stop.signal.reason !== signal.reason;
      stop.abort();
      await filling;
      await this.#finish(delivered, patience);
      await this.#session?.close();
      this.#dropSession();
    }
    if (failed) throw stop.signal.reason;
  }

  async #finish(delivering: Promise<void>, patience: Patience): Promise<void> {
    if (patience.limitMs === null) patience.limit(DEFAULT_FINISH_MS);
    if (await patience.settled(delivering)) return;
    this.#pipeline.queue.abandon();
    this.#unfinished = delivering;
    this.#options.connector.logger.warn(
      `The handler did not finish within ${patience.limitMs} ms of being told to stop: ` +
        "its event comes again",
    );
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { onState, onReconnect, onLost, connector } = this.#options;
    const { intake, queue } = this.#pipeline;
    for (;;) {
      const session = await this.#connect(signal);
      if (session === null) return;
      try {
        await this.#arrive();
      } catch (error) {
        await session.discard();
        if (signal.aborted) return;
        throw error;
      }
      // Not before: what is handled until then may be a position of another server.
      this.#session = session;
      if (this.#streamed) onReconnect();
      this.#streamed = true;
      this.#comeSoFar = true;
      if (!signal.aborted) onState("streaming");
      // What was handled while there was no connection.
      session.confirm();
      const before = intake.commitLsn;
      const began = performance.now();
      const over = new AbortController();
      this.#watchPromotion(over.signal).catch((error) => session.break(error));
      try {
        return await session.follow(signal);
      } catch (error) {
        if (signal.aborted) return;
        this.#note();
        if (!this.#comesBack(error)) throw error;
        // Until the slot is this stream's again, another may have it, and be further.
        queue.hold();
        this.#backfill.lost();
        const proven = intake.commitLsn > before || performance.now() - began > PROVEN_MS;
        if (proven) this.#failures = 0;
        const silent = isKind(error, "connection-silent");
        this.#silences = silent ? (proven ? 1 : this.#silences + 1) : 0;
        onLost(error);
        onState("reconnecting");
        connector.logger.warn(`Lost the connection, reconnecting: ${messageOf(error)}`);
        await session.discard();
        this.#dropSession();
        await this.#backOff(error, signal);
      } finally {
        over.abort();
      }
    }
  }

  /** Null where it was told to stop. */
  async #connect(signal: AbortSignal): Promise<OpenSession | null> {
    const { onLost, connector } = this.#options;
    let inUseUntil: number | null = null;
    for (;;) {
      try {
        return await this.#options.open(this.#sessionOptions(), signal);
      } catch (error) {
        if (signal.aborted) return null;
        try {
          if (isInUse(error)) {
            inUseUntil ??= performance.now() + SLOT_IN_USE_MS;
            await this.#waitForSlot(error, inUseUntil, signal);
            this.#failures = 0;
          } else if (isSlotLost(error) && this.#options.onSlotLost === "recreate") {
            await this.#recreate(error, signal);
          } else {
            throw error;
          }
        } catch (error) {
          if (signal.aborted) return null;
          if (!this.#comeSoFar || !this.#comesBack(error)) throw error;
          if (isKind(error, "walsenders-exhausted")) await this.#endOwn(signal);
          onLost(error);
          connector.logger.debug(`Not reconnected yet: ${messageOf(error)}`);
          await this.#backOff(error, signal);
        }
      }
    }
  }

  /** A slot that another consumer holds is waited for in a way of its own; what else passes is tried again. */
  #comesBack(error: unknown): boolean {
    return this.#options.reconnect !== null && isRetryable(error) &&
      !(isInUse(error) && !this.#isOwn(error));
  }

  /** True where a session of this very stream holds the slot, though it is of no use any more. */
  #isOwn({ activePid }: SlotError): boolean {
    return this.#options.own.some((backend) => backend.processId === activePid);
  }

  /** @throws the error, once it was tried often enough */
  async #backOff(error: unknown, signal: AbortSignal): Promise<void> {
    const limits = this.#options.reconnect!;
    if (++this.#failures > limits.attempts) throw error;
    await pause(backoffMs(this.#failures, limits), signal);
  }

  async #waitForSlot(error: SlotError, until: number, signal: AbortSignal): Promise<void> {
    const { connector, slotName, whenSlotInUse, own } = this.#options;
    if (whenSlotInUse === "fail" && !this.#isOwn(error)) throw error;
    const wait = whenSlotInUse === "wait";
    if (wait) {
      connector.logger.info(`${error.summary}: standing by`);
      this.#comeSoFar = true;
    }
    const { waitForSlot } = await import("../replication/slot.ts");
    await waitForSlot(connector, slotName, {
      timeoutMs: wait ? Infinity : Math.max(0, until - performance.now()),
      signal,
      own,
    });
    await pause(SLOT_RACE_MS * Math.random(), signal);
  }

  /** A session of this stream's that holds the slot takes a walsender's place too. */
  async #endOwn(signal: AbortSignal): Promise<void> {
    const { connector, slotName, own } = this.#options;
    const { waitForSlot } = await import("../replication/slot.ts");
    // Who else holds it, and whether the server can be asked, comes out at the next try.
    await waitForSlot(connector, slotName, { timeoutMs: 0, signal, own }).catch(() => {});
  }

  async #recreate(cause: SlotError, signal: AbortSignal): Promise<void> {
    const { connector, slotName, failover } = this.#options;
    const recreate = async (signal: AbortSignal) => {
      const { recreateSlot } = await import("../replication/slot.ts");
      const connection = await connectForReplication(connector, { signal });
      try {
        const database = await currentDatabase(connection, signal);
        const options = { timeoutMs: RECREATE_MS, signal, failover, logger: connector.logger };
        return await recreateSlot(connection, slotName, database, options);
      } finally {
        await connection.close();
      }
    };
    await this.#backfill.beforeGap();
    const limitMs = RECREATE_MS * 1.5;
    await this.#gap(cause, await withDeadline("making the slot anew", limitMs, signal, recreate));
  }

  /** Goes on behind a gap, and says so. */
  async #gap(cause: SlotError, position: Lsn): Promise<void> {
    const { connector, slotName, onGap } = this.#options;
    const { frontier, intake, queue } = this.#pipeline;
    await this.#backfill.missed();
    // What was received before the gap is handled before what comes after it.
    queue.release();
    await queue.drained();
    const gap: Gap = {
      slotName,
      reason: cause.kind,
      fromLsn: this.#positioned ? formatLsn(frontier.confirmed) : null,
      toLsn: formatLsn(position),
    };
    this.#known = null;
    this.#positioned = false;
    // On another server it would be any position.
    this.#target = null;
    intake.restart(position);
    connector.logger.warn(
      `${cause.summary}. Going on behind the gap: changes from ${
        gap.fromLsn ?? "its last position"
      } ` +
        `to ${gap.toLsn} were missed`,
    );
    onGap(gap);
  }

  #sessionOptions(): SessionOptions {
    return {
      ...this.#pipeline,
      connector: this.#options.connector,
      slotName: this.#options.slotName,
      publicationName: this.#options.publicationName,
      tables: this.#options.tables,
      temporary: this.#options.temporary,
      loadTypes: this.#options.loadTypes,
      messages: this.#options.messages,
      maxQueueBytes: this.#options.maxQueueBytes,
      mostUnanswered: MOST_UNANSWERED * 2 ** this.#silences,
      catchUp: this.#options.catchUp,
      target: () => this.#backfill.idle ? this.#target : null,
      goOn: (start, identity, backend, connection) =>
        this.#goOn(start, identity, backend, connection),
    };
  }

  /** Decides where to start. Nothing is done about it yet: another session may hold the slot. */
  async #goOn(
    start: StreamStart,
    identity: SystemIdentity,
    backend: Backend,
    connection: Connection | null,
  ): Promise<Lsn> {
    const { slotName, temporary, onSlotLost, whenSlotInUse, own } = this.#options;
    // Now, and not when it streams: the connection may be lost on the answer, and the slot held by then.
    own.push(backend);
    if (own.length > MOST_BACKENDS) own.shift();
    const { continueAt, temporaryLost } = await import("./continuation.ts");
    const behindGap = (gap: SlotError): Lsn => {
      if (onSlotLost === "error") throw gap;
      const startLsn = start.confirmedLsn;
      const validUntil = startLsn;
      this.#arrival = { startLsn, queued: "finish", system: identity, start, gap, validUntil };
      return start.confirmedLsn;
    };
    if (temporary && this.#positioned) return behindGap(temporaryLost(slotName));
    let known = this.#known;
    let validUntil: Lsn | null = start.confirmedLsn;
    const promoted = known?.standbyStartedAt !== undefined && known.timeline !== identity.timeline;
    if (connection !== null && known !== null && promoted) {
      const position = this.#positioned ? this.#receivedLsn : start.confirmedLsn;
      const found = { identity, startedAt: start.startedAt, position };
      const { commonHistory } = await import("./promotion.ts");
      const common = await commonHistory(connection, known, found);
      if (common !== undefined) {
        known = { ...known, timeline: identity.timeline };
        validUntil = common;
      }
    }
    try {
      const continuation = continueAt(
        { slotName, identity, ...start },
        known,
        this.#positioned ? this.#pipeline.frontier : null,
        whenSlotInUse === "wait",
      );
      this.#arrival = { ...continuation, system: identity, start, gap: null, validUntil };
      // Where a stream starts counts as confirmed; what is handled and not stored by then is left out when it comes.
      const confirmable = this.#pipeline.stores.confirmable(continuation.startLsn);
      return confirmable > start.confirmedLsn ? confirmable : start.confirmedLsn;
    } catch (error) {
      // The slot is sound, whoever moved it: it needs not be made anew.
      if (error instanceof SlotError && error.kind === "slot-moved") return behindGap(error);
      throw error;
    }
  }

  /** The slot is this stream's: what is queued is handed out again, or is not. */
  async #arrive(): Promise<void> {
    const { frontier, intake, queue } = this.#pipeline;
    const { connector, slotName, catchUp } = this.#options;
    const { startLsn, queued, system, start, gap, validUntil } = this.#arrival!;
    if (gap !== null) await this.#gap(gap, startLsn);
    if (queued === "drop") {
      connector.logger.warn(
        `Slot "${slotName}" is at ${formatLsn(startLsn)}, this stream was at ` +
          `${formatLsn(frontier.confirmed)}: going on behind what another consumer has confirmed`,
      );
      queue.drop();
      await this.#backfill.overtaken();
    }
    queue.release();
    if (queued !== "keep") {
      await queue.drained();
      intake.restart(startLsn);
      this.#receivedLsn = startLsn;
      this.#confirmedLsn = startLsn;
    }
    this.#positioned = true;
    const standby = start.replayedLsn === null ? {} : { standbyStartedAt: start.startedAt };
    this.#known = { systemId: system.systemId, timeline: system.timeline, ...standby };
    // What a standby has received and not replayed yet, nobody sees there.
    if (catchUp) this.#target ??= start.replayedLsn ?? system.walLsn;
    await this.#backfill.arrived({ ...start, known: this.#known, validUntil });
    await this.#options.onArrived({
      system,
      startedAt: start.startedAt,
      confirmedLsn: start.confirmedLsn,
      continues: gap === null && !this.#options.temporary,
    });
  }

  /** The stream goes on when its standby is promoted: who connects later finds another timeline. */
  async #watchPromotion(signal: AbortSignal): Promise<void> {
    const known = this.#known!;
    if (known.standbyStartedAt === undefined) return;
    const { promoted } = await import("./promotion.ts");
    const timeline = await promoted(this.#options.connector, known.standbyStartedAt, signal);
    if (timeline === null) return;
    this.#known = { systemId: known.systemId, timeline };
    await this.#backfill.promoted(this.#known);
  }

  /** Keeps what is to be known of a connection beyond its end. */
  #note(): void {
    if (this.#session === null) return;
    const { receivedLsn, confirmedLsn } = this.#session;
    if (receivedLsn > this.#receivedLsn) this.#receivedLsn = receivedLsn;
    if (confirmedLsn > this.#confirmedLsn) this.#confirmedLsn = confirmedLsn;
  }

  #dropSession(): void {
    this.#note();
    this.#session = null;
  }
}

function isKind(error: unknown, kind: string): error is PgStreamError {
  return error instanceof PgStreamError && error.kind === kind;
}
