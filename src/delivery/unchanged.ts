/** Columns that the server did not send, and who reads them again before the event is handed out. */
import type { ChangeEvent } from "../change.ts";
import { DeliveryError } from "./errors.ts";
import type { EventTable } from "./event_builder.ts";
import type { Handler, HandlerContext } from "./handler.ts";
import type { Lane } from "./lane.ts";
import type { TableName } from "../table_name.ts";

/** An event some of whose columns were not sent. */
export interface UnreadEvent {
  event: ChangeEvent;
  table: EventTable;
}

/** Reads columns again by key. */
export interface UnchangedReader {
  /** How many events may be read at once; fewer where their values turn out to be large. */
  readonly limit: number;
  /** True where columns of this table are read. Left out: of every table. */
  wants?(table: TableName): boolean;
  /**
   * Puts the values into the rows of the events, and takes the columns out of `unchanged`. Those of a row that
   * is not there any more stay as they are.
   *
   * @throws {DeliveryError} of kind `read-unchanged`, whose cause says why; `signal.reason`
   */
  read(unread: readonly UnreadEvent[], signal: AbortSignal): Promise<void>;
}

/** Places of a lane that are looked at for events to be read with those in hand. */
const LOOK_AHEAD = 1000;

/** Reads for the events of a delivery, and ahead of them for those that wait behind them. */
export class ReadingAhead {
  readonly #reader: UnchangedReader;
  /** What was offered and is not read. */
  readonly #unread = new WeakMap<ChangeEvent, EventTable>();

  /** Nothing is to be read yet. */
  constructor(reader: UnchangedReader) {
    this.#reader = reader;
  }

  /** An event that lacks columns is queued. */
  expect(event: ChangeEvent, table: EventTable): void {
    if (this.#reader.wants?.(table.name) === false) return;
    fillFromOldRow(event);
    if (event.unchanged.length > 0) this.#unread.set(event, table);
  }

  /** True where its columns are still to be read. */
  expects(event: ChangeEvent): boolean {
    return this.#unread.has(event);
  }

  /** The handlers, behind one that reads where that is needed: it is tried again, and given up, as they are. */
  before(
    handlers: readonly Handler[],
    events: readonly ChangeEvent[],
    lane: Lane,
  ): readonly Handler[] {
    if (!events.some((event) => this.#unread.has(event))) return handlers;
    const call = (events: readonly ChangeEvent[], { signal, attempt }: HandlerContext) =>
      this.#read(events, attempt === 1 ? lane : null, signal);
    return [{ batch: true, call }, ...handlers];
  }

  /** @param lane null: no others are to fail with these. */
  async #read(
    events: readonly ChangeEvent[],
    lane: Lane | null,
    signal: AbortSignal,
  ): Promise<void> {
    const wanted = new Map<ChangeEvent, UnreadEvent>();
    const want = (event: ChangeEvent) => {
      const table = this.#unread.get(event);
      if (table !== undefined) wanted.set(event, { event, table });
    };
    events.forEach(want);
    for (let at = 0; lane !== null && at < LOOK_AHEAD && wanted.size < this.#reader.limit; at++) {
      const item = lane.peek(at);
      if (item === undefined) break;
      // Another lane may hand out what several meet for.
      if (item.event !== null && item.meeting === null && !item.dropped) want(item.event);
    }
    if (wanted.size > 0) await this.#reader.read([...wanted.values()], signal);
    for (const event of wanted.keys()) this.#unread.delete(event);
  }
}

/** What an old row that is whole has, REPLICA IDENTITY FULL, need not be read. */
function fillFromOldRow(event: ChangeEvent): void {
  const { operation, oldRow, row } = event;
  if (operation !== "update" || oldRow === null) return;
  const missing = event.unchanged.filter((column) => oldRow[column] === undefined);
  if (missing.length === event.unchanged.length) return;
  for (const column of event.unchanged) {
    if (oldRow[column] !== undefined) row[column] = oldRow[column];
  }
  event.unchanged = missing;
}

/** True for what a reader is rejected with: no handler has failed. */
export function isReadFailure(error: unknown): error is DeliveryError {
  return error instanceof DeliveryError && error.kind === "read-unchanged";
}
