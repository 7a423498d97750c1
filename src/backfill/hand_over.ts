/**
 * Where rows that were read meet changes that are streamed: the one place that decides which of a
 * chunk's rows are handed out, and when. No I/O; the reader and the stream call it.
 *
 * A chunk is read in a snapshot S at a position L. It shows all transactions that were over for
 * snapshots by then; each of them has its commit record before L. So: what commits before L is handed
 * out before the chunk, the rest after it. What commits before L and is not shown (a commit record is
 * written, and decoded, before snapshots see it) is handed out before the chunk too, and is newer than
 * it: rows that it touched are left out of the chunk. And what was handed out before S was taken has to
 * be shown by S, or S is taken again.
 *
 * A primary lists what S does not show. A standby cannot; but it streams nothing that it has not replayed, and
 * shows all that it has. So what was handed out before S was taken is shown by S, and so is what commits before R,
 * up to which it had replayed just before. Of what commits between R and L it is not known. It counts as not shown:
 * if S does show it, the rows that are left out for it are those that it made, and were handed out with it. L is behind
 * the record that is replayed while S is taken, which S may show, and before the next, which it cannot.
 */
import type { ChangeEvent } from "../change.ts";
import type { EventTable } from "../delivery/event_builder.ts";
import type { Frontier, TrackedTransaction } from "../delivery/frontier.ts";
import type { HandOut } from "../delivery/hand_out.ts";
import { INVALID_LSN, type Lsn } from "../lsn.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import { isVisible, shows, type Snapshot } from "./snapshot.ts";

/** Keys that hidden transactions may touch before the chunk is read anew, when they are hidden no more. */
const MOST_TOUCHED = 10_000;

/** A key that has to be read again, and the transactions that are not confirmed before it is handled. */
export type Reread = readonly [key: string, holds: ReadonlySet<TrackedTransaction>];

/** A chunk's place in the stream, from its snapshot to the time when its rows are queued. */
export class Window {
  /** The table of the chunk, as `formatTableName` writes it. */
  readonly table: string;
  readonly snapshot: Snapshot;
  readonly lsn: Lsn;
  /** Resolves to true when the stream has come to it, to false where it never will. */
  readonly arrived: Promise<boolean>;
  /** Resolves when the stream may go on. */
  readonly closed: Promise<void>;
  readonly #arrival: PromiseWithResolvers<boolean> = Promise.withResolvers();
  readonly #closing: PromiseWithResolvers<void> = Promise.withResolvers();
  #there = false;
  readonly #touched = new Set<string>();
  #emptied = false;
  #spoilt = false;

  /** Made by `HandOver.open()`. */
  constructor(table: string, snapshot: Snapshot, lsn: Lsn) {
    this.table = table;
    this.snapshot = snapshot;
    this.lsn = lsn;
    this.arrived = this.#arrival.promise;
    this.closed = this.#closing.promise;
  }

  /** True where the stream has come to it. */
  get there(): boolean {
    return this.#there;
  }

  /** The stream has come to it. */
  arrive(): void {
    this.#there = true;
    this.#arrival.resolve(true);
  }

  /** Nobody has to wait for it any more. */
  close(): void {
    this.#arrival.resolve(false);
    this.#closing.resolve();
  }

  /** True where it cannot be said which rows are stale: the chunk has to be read anew. */
  get spoilt(): boolean {
    return this.#spoilt;
  }

  /** True where rows are left out of the chunk, or all are. */
  get isTouched(): boolean {
    return this.#emptied || this.#touched.size > 0;
  }

  /** True where the snapshot's row is as new as anything that was handed out of its key. */
  isCurrent(key: string): boolean {
    // To look a new text up is to hash it, which costs as much as to read the row.
    return !this.#emptied && (this.#touched.size === 0 || !this.#touched.has(key));
  }

  /** A transaction has changed the table that the snapshot does not show, as far as is known. */
  touch(event: ChangeEvent, { keyed }: EventTable): void {
    if (event.operation === "truncate") {
      this.#emptied = true;
    } else if (!keyed || this.#touched.size >= MOST_TOUCHED) {
      this.#spoilt = true;
    } else {
      this.#touched.add(event.key);
      if (event.oldKey !== null) this.#touched.add(event.oldKey);
    }
  }
}

/** Stands beside the intake of one run. Without a table to follow it costs a look or two a transaction. */
export class HandOver implements HandOut {
  readonly #frontier: Frontier;
  /** Keys to be read again, by table: those of the tables that are followed. */
  readonly #rereads = new Map<string, Map<string, Set<TrackedTransaction>>>();
  /** Transactions that were handed out and that no snapshot has shown yet. */
  #unseen: number[] = [];
  #pause: PromiseWithResolvers<void> | null = null;
  /** The first is the one that the stream comes to next, or has come to. */
  readonly #windows: Window[] = [];
  /** How far the stream has come. */
  #reached: Lsn = INVALID_LSN;
  #transaction: TrackedTransaction | null = null;
  /** The table of the last event. */
  #named: { table: EventTable; name: string } | null = null;
  /** The window's snapshot does not show the transaction at hand, or it is not known whether it does. */
  #hidden = false;

  /** @param frontier keeps back what is not to be confirmed before a key was read again */
  constructor(frontier: Frontier) {
    this.#frontier = frontier;
  }

  /** From now on the table's changes are watched. Before the first of them is handed out. */
  follow(name: TableName): void {
    const table = formatTableName(name);
    if (!this.#rereads.has(table)) this.#rereads.set(table, new Map());
  }

  /** The table is read to its end, or given up. */
  unfollow(name: TableName): void {
    const table = formatTableName(name);
    for (const [, holds] of this.#rereads.get(table) ?? []) this.#release(holds);
    this.#rereads.delete(table);
    if (this.#rereads.size === 0) this.#unseen = [];
  }

  /** Nothing is handed out until `open()` says yes, or `abandon()`. */
  pause(): void {
    this.#pause ??= Promise.withResolvers();
  }

  /**
   * Opens the window of a chunk.
   *
   * @returns null where something was handed out that the snapshot does not show, or the stream was lost
   * since `pause()`: take another one
   */
  open(name: TableName, snapshot: Snapshot, lsn: Lsn): Window | null {
    if (this.#pause === null) return null;
    this.#unseen = "replayed" in snapshot
      ? []
      : this.#unseen.filter((xid) => !isVisible(snapshot, xid));
    if (this.#unseen.length > 0) return null;
    const window = new Window(formatTableName(name), snapshot, lsn);
    this.#windows.push(window);
    if (this.#windows.length === 1) this.#hidden = false;
    this.#arrive();
    this.#go();
    return window;
  }

  /** The chunk is queued: the stream goes on behind it, to the next one. */
  close(window: Window): void {
    window.close();
    const place = this.#windows.indexOf(window);
    if (place !== -1) this.#windows.splice(place, 1);
    this.#arrive();
  }

  /** Gives up the pause and all windows. */
  abandon(): void {
    for (const window of this.#windows.splice(0)) window.close();
    this.#go();
  }

  /**
   * There is no stream any more. A window that it has come to keeps its place: what comes next stays behind
   * it. Any other is void, for what its snapshot shows may have been lost with the server.
   */
  lose(): void {
    for (const window of this.#windows.filter(({ there }) => !there)) this.close(window);
    this.#reached = INVALID_LSN;
    this.#go();
  }

  /** True where keys of the table have to be read again. */
  wants(name: TableName): boolean {
    return (this.#rereads.get(formatTableName(name))?.size ?? 0) > 0;
  }

  /** Keys of the table that have to be read again, at most so many; they are the caller's from here on. */
  take(name: TableName, most: number): Reread[] {
    const rereads = this.#rereads.get(formatTableName(name));
    if (rereads === undefined) return [];
    const taken: Reread[] = [];
    for (const reread of rereads) {
      if (taken.length === most) break;
      taken.push(reread);
    }
    for (const [key] of taken) rereads.delete(key);
    return taken;
  }

  /** What was taken is still to be read. */
  putBack(name: TableName, taken: readonly Reread[]): void {
    const rereads = this.#rereads.get(formatTableName(name));
    if (rereads === undefined) return this.done(taken);
    for (const [key, holds] of taken) {
      const others = rereads.get(key);
      rereads.set(key, new Set([...others ?? [], ...holds]));
      // One that is there already holds its transaction itself.
      this.#release([...holds].filter((hold) => others?.has(hold) === true));
    }
  }

  /** What was taken is read, and handled. */
  done(taken: readonly Reread[]): void {
    for (const [, holds] of taken) this.#release(holds);
  }

  gate(commitLsn: Lsn): Promise<void> | null {
    if (this.#pause !== null) return this.#pause.promise;
    const [window] = this.#windows;
    if (window === undefined || commitLsn < window.lsn) return null;
    window.arrive();
    return window.closed;
  }

  begin(transaction: TrackedTransaction, xid: number, commitLsn: Lsn): void {
    this.#transaction = transaction;
    if (this.#rereads.size === 0) return;
    this.#unseen.push(xid);
    const [window] = this.#windows;
    this.#hidden = window !== undefined && !shows(window.snapshot, xid, commitLsn);
  }

  event(event: ChangeEvent, table: EventTable): void {
    if (this.#rereads.size === 0) return;
    const name = this.#nameOf(table);
    const rereads = this.#rereads.get(name);
    if (rereads === undefined) return;
    const [window] = this.#windows;
    const hidden = this.#hidden && window?.table === name;
    if (hidden) window!.touch(event, table);
    if (event.operation !== "update" || event.unchanged.length === 0) return;
    // Nobody was given the unchanged values where the row moves to a place that was read before it came
    // there, or where the chunk's row, which has them, is left out.
    if (event.oldKey !== null || hidden) this.#hold(rereads, event.key);
  }

  reached(lsn: Lsn): void {
    this.#reached = lsn;
    this.#arrive();
  }

  /** Changes of one table mostly come in a row. */
  #nameOf(table: EventTable): string {
    if (this.#named?.table !== table) {
      this.#named = { table, name: formatTableName(table.name) };
    }
    return this.#named.name;
  }

  #arrive(): void {
    const [window] = this.#windows;
    if (window !== undefined && this.#reached >= window.lsn) window.arrive();
  }

  #hold(rereads: Map<string, Set<TrackedTransaction>>, key: string): void {
    const transaction = this.#transaction!;
    let holds = rereads.get(key);
    if (holds === undefined) rereads.set(key, holds = new Set());
    if (holds.has(transaction)) return;
    holds.add(transaction);
    this.#frontier.expect(transaction);
  }

  #release(holds: Iterable<TrackedTransaction>): void {
    for (const transaction of holds) this.#frontier.handled(transaction);
  }

  #go(): void {
    this.#pause?.resolve();
    this.#pause = null;
  }
}
