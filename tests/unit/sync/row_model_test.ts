/**
 * Histories of a small table, cut into batches, stopped, begun again from earlier and failing at random: the
 * store ends as the table does, and no text is embedded that need not be. `PGSTREAM_SEED=n` plays a seed again.
 */

import { assert, assertEquals } from "@std/assert";
import process from "node:process";
import { test } from "node:test";
import type { AnyRow, ChangeEvent } from "../../../src/change.ts";
import { formatLsn, parseLsn } from "../../../src/lsn.ts";
import { rowPointId, type StreamPosition } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import type { SyncContext } from "../../../src/sync/context.ts";
import { EmbedError } from "../../../src/sync/embedder.ts";
import { seededRandom } from "../../support/random.ts";
import { deleteOf, insertOf, truncateOf, updateOf } from "../delivery/harness.ts";
import { positionAt, RecordingSink, RowsOnlySink, Synced, SYSTEM, vectorOf } from "./synced.ts";

const ROUNDS = 150;
const TABLE = "public.documents";
const KEYS = ["1", "2", "3", "4", "5", '["6","x"]'];
/** So few that rows share texts, so many that one which is embedded again for nothing is seen. */
const WORDS = Array.from({ length: 40 }, (_, n) => "w".repeat(n % 7) + n);

const chunk = Object.defineProperty((text: string) => text.split("|"), "name", {
  value: "bars@1",
});

/** A table, and the events of what is done to it. */
class Source {
  readonly rows = new Map<string, AnyRow>();
  readonly events: ChangeEvent[] = [];
  /** By the events' LSN: where their commit ends. */
  readonly ends = new Map<string, string>();
  readonly #below: (n: number) => number;
  readonly #full: boolean;
  #lsn = 0xffff_f000n;
  #ordinal = 0;
  #serial = 0;

  /** @param full REPLICA IDENTITY FULL, and a DEFERRABLE primary key */
  constructor(below: (n: number) => number, full: boolean) {
    this.#below = below;
    this.#full = full;
  }

  transaction(): void {
    this.#lsn += BigInt(1 + this.#below(5000));
    this.#ordinal = 0;
    const lsn = formatLsn(this.#lsn);
    for (let left = 1 + this.#below(5); left > 0; left--) this.#change(lsn);
    this.#lsn += 48n;
    this.ends.set(lsn, formatLsn(this.#lsn));
  }

  #change(lsn: string): void {
    const key = this.#pick(KEYS);
    const other = this.#pick(KEYS);
    const row = this.rows.get(key);
    const place = () => ({ lsn, ordinal: this.#ordinal++ });
    const what = this.#below(20);
    if (what === 0) {
      this.rows.clear();
      this.events.push(truncateOf(place()));
    } else if (row === undefined) {
      const added = { id: key, title: `t${++this.#serial}`, body: this.#body() };
      this.rows.set(key, added);
      this.events.push(insertOf(key, { ...place(), row: added }));
    } else if (what < 5) {
      this.rows.delete(key);
      const oldRow = this.#old(row);
      this.events.push(deleteOf(key, { ...place(), row: oldRow, oldRow }));
    } else if (what < 9 && key !== other) {
      if (!this.rows.has(other)) this.#move([[key, other]], place);
      // All at once, or by way of a key that is free for as long.
      else if (this.#full) this.#move([[key, other], [other, key]], place);
      else {for (const way of [[key, "tmp"], [other, key], ["tmp", other]] as const) {
          this.#move([way], place);
        }}
    } else {
      const isText = this.#below(3) > 0;
      const changed = isText
        ? { ...row, body: this.#body() }
        : { ...row, title: `t${++this.#serial}` };
      this.#update(key, changed, null, place());
    }
  }

  /** Rows that take other keys in one statement. */
  #move(
    ways: readonly (readonly [string, string])[],
    place: () => { lsn: string; ordinal: number },
  ): void {
    const moved = ways.map(([key]) => this.rows.get(key)!);
    for (const [key] of ways) this.rows.delete(key);
    for (const [at, [key, other]] of ways.entries()) {
      this.#update(other, { ...moved[at], id: other }, { ...moved[at]!, id: key }, place());
    }
  }

  #update(
    key: string,
    row: AnyRow,
    moved: AnyRow | null,
    place: { lsn: string; ordinal: number },
  ): void {
    const before = moved ?? this.rows.get(key)!;
    this.rows.set(key, row);
    const oldRow = this.#full || moved !== null ? this.#old(before) : null;
    const oldKey = moved === null ? null : moved.id as string;
    this.events.push(updateOf(key, oldKey, { ...place, row, oldRow }));
  }

  #old(row: AnyRow): AnyRow {
    return this.#full ? row : { id: row.id };
  }

  #body(): string | null {
    const count = this.#below(5);
    if (count === 0) return this.#pick([null, "", "  "]);
    return Array.from({ length: count }, () => this.#pick(WORDS)).join("|");
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#below(from.length)]!;
  }
}

function chunksOf(row: AnyRow): string[] {
  return `${row.body ?? ""}`.split("|").filter((piece) => piece.trim() !== "");
}

/** What a store has to hold in the end. */
function expected(rows: ReadonlyMap<string, AnyRow>): unknown[] {
  return [...rows]
    .flatMap(([key, row]) =>
      chunksOf(row).map((text, at) => [
        rowPointId(TABLE, key, at),
        { title: row.title },
        vectorOf(text),
      ])
    )
    .sort(([a], [b]) => (a as string) < (b as string) ? -1 : 1);
}

async function play(seed: number): Promise<void> {
  const random = seededRandom(seed);
  const below = (n: number) => Math.floor(random() * n);
  const source = new Source(below, below(2) === 0);
  for (let left = 5 + below(30); left > 0; left--) source.transaction();
  const { events } = source;
  const sink: RecordingSink = below(2) === 0 ? new RowsOnlySink() : new RecordingSink();
  const failing = below(3) * 0.1;
  const begin = () => {
    const made = new Synced(sink, {
      chunk,
      batch: {
        maxTexts: 1 + below(8),
        maxDelayMs: 0,
        retry: { attempts: 1, minDelayMs: 0, maxDelayMs: 0 },
      },
    });
    made.embedder.refuse = () => {
      if (random() < failing) {
        throw new EmbedError("down", { kind: "embed-unavailable", retryable: true });
      }
    };
    return made;
  };
  sink.fail = () => {
    if (random() < failing) throw failure();
  };
  // Some calls succeed, and nobody is told.
  const apply = sink.apply.bind(sink);
  sink.apply = async (rows, position) => {
    await apply(rows, position);
    if (random() < failing) throw failure();
  };

  const positionOf = (end: number): StreamPosition => {
    const { lsn, ordinal } = events[end - 1]!;
    if (events[end]?.lsn !== lsn) return positionAt(source.ends.get(lsn)!);
    const before = events.findLast((event) => parseLsn(event.lsn) < parseLsn(lsn));
    return positionAt(before === undefined ? "0/1" : source.ends.get(before.lsn)!, {
      commitLsn: lsn,
      ordinal,
    });
  };
  let stored: StreamPosition | null = null;
  const isStored = ({ lsn, ordinal }: ChangeEvent): boolean =>
    stored !== null &&
    (parseLsn(lsn) < parseLsn(stored.endLsn) ||
      lsn === stored.commitLsn && ordinal <= stored.ordinal!);
  const contextOf = (end: number): Partial<SyncContext> => ({
    isStored: (_sink, event) => isStored(event),
    position: () => sink.position === undefined ? null : positionOf(end),
    // Which are handled next may be others: some have not come yet.
    upcoming: () => events.slice(end, end + below(20)),
  });

  let made = begin();
  let handled = 0;
  for (let at = 0; at < events.length;) {
    const end = Math.min(events.length, at + 1 + below(12));
    made.embedder.take();
    for (let tries = 0;; tries++) {
      assert(tries < 1000, "no try succeeds");
      try {
        await made.handle(events.slice(at, end), contextOf(end));
        break;
      } catch (error) {
        if (!(error instanceof SinkError || error instanceof EmbedError)) throw error;
      }
    }
    const texts = made.embedder.take();
    assertEquals(texts.length, new Set(texts).size, `a text twice in one batch: ${texts}`);
    handled = Math.max(handled, end);
    at = end;
    if (below(6) > 0) continue;
    // Another process goes on, from earlier: the server was not told of all that is done.
    at = Math.max(0, at - below(15));
    made = begin();
    if (sink.position !== undefined) stored = await sink.position({ ...SYSTEM, slotName: "s" });
  }
  assertEquals(handled, events.length);
  assertEquals(sink.contents(), expected(source.rows));
  for (const state of (await sink.scan(TABLE, { after: null, limit: 1000 })).points) {
    assertEquals(state.chunks, chunksOf(source.rows.get(state.key)!).length);
  }

  // All of it once more.
  sink.fail = () => {};
  sink.apply = apply;
  made = new Synced(sink, { chunk });
  sink.take();
  if (sink.position !== undefined) {
    stored = await sink.position({ ...SYSTEM, slotName: "s" });
    await made.handle(events, contextOf(events.length));
    assertEquals([sink.take(), made.embedder.take()], [[], []]);
    stored = null;
  }
  await made.handle(events);
  const gone = new Set(
    events.flatMap(({ key, row }) =>
      key !== null && chunksOf(source.rows.get(key) ?? {}).length === 0 ? chunksOf(row) : []
    ),
  );
  if (!events.some(({ operation }) => operation === "truncate")) {
    assertEquals(made.embedder.take(), [], "what is there was embedded again");
  }
  for (let at = 0; at < events.length;) {
    const end = at + 1 + below(12);
    await made.handle(events.slice(at, end), {
      upcoming: () => events.slice(end, end + below(20)),
    });
    at = end;
  }
  const again = made.embedder.take().filter((text) => !gone.has(text));
  assertEquals(again, [], "embedded again, though it is there from later");
  assertEquals(sink.contents(), expected(source.rows));
}

function failure(): SinkError {
  return new SinkError("gone", { kind: "sink-unreachable", sink: "memory", retryable: true });
}

test("a store ends as its table does, whatever fails and comes again, and what is there is not embedded again", async () => {
  const only = process.env.PGSTREAM_SEED;
  const seeds = only === undefined ? Array.from({ length: ROUNDS }, (_, at) => at) : [Number(only)];
  for (const seed of seeds) {
    try {
      await play(seed);
    } catch (cause) {
      throw new Error(`PGSTREAM_SEED=${seed} finds it`, { cause });
    }
  }
});
