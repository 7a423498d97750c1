/**
 * Says what is wrong with what a consumer was handed, given what its tables hold at the end.
 *
 * A change stands in one line with all others by (LSN of its commit, ordinal). A row that a backfill
 * read has two places in that line: the one that it says it has, its consistent point, and the one at
 * which its version was written, which column `v` tells. It must fit by both.
 */

import { parseLsn } from "../../../mod.ts";
import {
  type BackfillEvent,
  identitiesOf,
  KeyedModel,
  KeylessModel,
  type LoggedRow,
  type TableFacts,
} from "./backfill_model.ts";
import { type Verdict, verdictOf } from "./oracle.ts";

const MOST_OF_A_KIND = 4;

/** What one process of a consumer was handed, in order. */
export interface LifeLog {
  /** What the slot held for confirmed before. */
  confirmed: bigint;
  events: readonly BackfillEvent[];
}

/** How the consumer was set up. */
export interface Manner {
  /** One lane: all events come in one order, not only those of each key. */
  inOrder: boolean;
  /** The most rows of a chunk; null: a backfill was repeated on purpose. */
  chunkRows: number | null;
}

/** What was found. `lost` counts what differs at the end, `misordered` what went back in time. */
export function judge(
  tables: readonly TableFacts[],
  lives: readonly LifeLog[],
  truth: ReadonlyMap<string, readonly LoggedRow[]>,
  manner: Manner,
): Verdict {
  const bench = new Bench(tables, lives, manner);
  lives.forEach((life, index) => bench.hear(life, index));
  bench.compare(truth);
  return bench.verdict;
}

/** A change's place in the line of all. */
function placeOf({ lsn, ordinal }: BackfillEvent): bigint {
  return (parseLsn(lsn) << 32n) + BigInt(ordinal);
}

function idOf({ table, lsn, ordinal }: BackfillEvent): string {
  return `${lsn} ${ordinal} ${table}`;
}

function versionOf({ table, row }: BackfillEvent): string {
  return `${table} ${row.find(([name]) => name === "v")?.[1]}`;
}

class Bench {
  readonly verdict: Verdict = verdictOf({});
  readonly #facts: ReadonlyMap<string, TableFacts>;
  readonly #manner: Manner;
  /** What wrote each version; those not here were written before anybody looked. */
  readonly #versions = new Map<string, BackfillEvent>();
  /** Changes that were handed out so far. */
  readonly #seen = new Map<string, BackfillEvent>();
  /** Rows that were read so far, with their versions. */
  readonly #read = new Set<string>();
  /** One applies all that comes, as a store by keys does; the other one knows what it had. */
  readonly #models: { name: string; of: Map<string, KeyedModel>; remembers: boolean }[];
  readonly #keyless = new Map<string, KeylessModel>();
  /** How far each key has come in this life, and each table by a TRUNCATE. */
  #floors = new Map<string, bigint>();
  #labels = new Map<string, bigint>();

  constructor(tables: readonly TableFacts[], lives: readonly LifeLog[], manner: Manner) {
    this.#manner = manner;
    this.#facts = new Map(tables.map((facts) => [facts.table, facts]));
    const keyed = tables.filter(({ primaryKey }) => primaryKey.length > 0);
    const models = () => new Map(keyed.map((facts) => [facts.table, new KeyedModel(facts)]));
    this.#models = [
      { name: "", of: models(), remembers: true },
      { name: " (when all is applied again)", of: models(), remembers: false },
    ];
    for (const facts of tables) {
      if (facts.primaryKey.length === 0) this.#keyless.set(facts.table, new KeylessModel(facts));
    }
    for (const event of lives.flatMap(({ events }) => events)) {
      if (!event.backfill && (event.operation === "insert" || event.operation === "update")) {
        this.#versions.set(versionOf(event), event);
      }
    }
  }

  hear({ confirmed, events }: LifeLog, index: number): void {
    this.#floors = new Map();
    this.#labels = new Map();
    // What is confirmed does not come again: nothing puts right what falls behind it.
    for (const event of this.#seen.values()) {
      if (parseLsn(event.lsn) < confirmed) this.#raise(event, placeOf(event));
    }
    const mine = new Set<string>();
    let repeated = 0;
    for (const event of events) {
      if (!this.#facts.has(event.table)) {
        this.#complain("wrong", "of a table that nobody watches", event);
        continue;
      }
      this.#form(event);
      this.#label(event);
      const again = this.#seen.has(idOf(event)) && !event.backfill;
      if (event.backfill) {
        if (event.operation === "insert" && this.#readBefore(event, index)) repeated++;
      } else this.#change(event, { confirmed, again, mine });
      this.#floor(event);
      this.#apply(event, again);
    }
    const most = this.#manner.chunkRows;
    if (most !== null && repeated > 2 * most) {
      this.#say("wrong", `${repeated} rows were read again in life ${index}: a chunk is ${most}`);
    }
    for (const id of this.#fresh) this.#read.add(id);
    this.#fresh.clear();
  }

  readonly #fresh = new Set<string>();

  /** Rows that changes told a part of which were handed out again: they are read again with them. */
  readonly #wanted = new Set<string>();

  #readBefore(event: BackfillEvent, index: number): boolean {
    this.verdict.committed++;
    const facts = this.#facts.get(event.table)!;
    const { at } = identitiesOf(facts, event);
    const id = `${versionOf(event)} ${at}`;
    this.#fresh.add(id);
    return index > 0 && facts.primaryKey.length > 0 && this.#read.has(id) &&
      !this.#wanted.has(`${event.table} ${at}`);
  }

  #change(
    event: BackfillEvent,
    { confirmed, again, mine }: { confirmed: bigint; again: boolean; mine: Set<string> },
  ): void {
    const id = idOf(event);
    if (mine.has(id)) this.#complain("unexplained", "twice in one process", event);
    mine.add(id);
    if (!again) {
      this.verdict.committed++;
      this.#seen.set(id, event);
      return;
    }
    this.verdict.duplicates++;
    if (event.unchanged.length > 0) {
      const { at } = identitiesOf(this.#facts.get(event.table)!, event);
      this.#wanted.add(`${event.table} ${at}`);
    }
    if (JSON.stringify(event) !== JSON.stringify(this.#seen.get(id))) {
      this.#complain("wrong", "said something else before", event);
    }
    if (parseLsn(event.lsn) < confirmed) {
      this.#complain("unexplained", "was confirmed before", event);
    }
  }

  /** It stands behind what was handed out before, by its own account. */
  #label(event: BackfillEvent): void {
    const place = placeOf(event);
    for (const line of this.#manner.inOrder ? [""] : this.#linesOf(event)) {
      const last = this.#labels.get(line) ?? -1n;
      if (place < last || (place === last && !event.backfill)) {
        this.#complain("misordered", "stands before what came before it", event);
      }
      if (place > last) this.#labels.set(line, place);
    }
  }

  /** It is no older than what its key has come to. */
  #floor(event: BackfillEvent): void {
    const facts = this.#facts.get(event.table)!;
    if (facts.primaryKey.length === 0) return;
    const read = event.backfill && event.operation === "insert";
    const written = read ? this.#versions.get(versionOf(event)) : event;
    const place = written === undefined ? -1n : placeOf(written);
    if (read && written !== undefined) this.#sameValues(event, written);
    // All of a table's keys have come as far as its last TRUNCATE.
    const lines = [...this.#linesOf(event), event.table];
    const least = lines.reduce((most, line) => {
      const floor = this.#floors.get(line) ?? -1n;
      return floor > most ? floor : most;
    }, -1n);
    if (place < least) {
      this.#complain(
        "misordered",
        `takes its key back in time: ${place >> 32n}, after ${least >> 32n}`,
        event,
      );
    }
    this.#raise(event, place);
  }

  #sameValues(event: BackfillEvent, written: BackfillEvent): void {
    const values = new Map(event.row);
    if (written.row.every(([name, value]) => values.get(name) === value)) return;
    this.#complain("wrong", `is not the row of ${JSON.stringify(written.row)}`, event);
  }

  #raise(event: BackfillEvent, place: bigint): void {
    for (const line of this.#linesOf(event)) {
      if (place > (this.#floors.get(line) ?? -1n)) this.#floors.set(line, place);
    }
  }

  #linesOf(event: BackfillEvent): string[] {
    const { table, operation } = event;
    if (operation === "truncate") return [table];
    const { at, from } = identitiesOf(this.#facts.get(table)!, event);
    return [at, from].filter((identity) => identity !== null).map((id) => `${table} ${id}`);
  }

  /** What it says of itself fits together. */
  #form(event: BackfillEvent): void {
    const { operation, backfill, row, oldRow, unchanged, key, oldKey, ordinal, xid } = event;
    const { columns, primaryKey } = this.#facts.get(event.table)!;
    if (backfill) {
      const right = (operation === "insert" || operation === "truncate") && oldRow === null &&
        ordinal === -1 && xid === 0 && unchanged.length === 0 && oldKey === null;
      if (!right) this.#complain("wrong", "is no row of a backfill", event);
    } else if (ordinal < 0 || xid <= 0) this.#complain("wrong", "has no place", event);
    if (operation === "truncate") return;
    if (operation !== "delete") {
      const told = [...row.map(([name]) => name), ...unchanged].sort().join();
      if (told !== [...columns].sort().join()) {
        this.#complain("wrong", `has other columns than ${columns}`, event);
      }
    }
    const values = new Map(row);
    if (primaryKey.length === 0 || primaryKey.some((name) => !values.has(name))) return;
    if (key !== keyText(primaryKey, values)) {
      this.#complain("wrong", `has not the key ${keyText(primaryKey, values)}`, event);
    }
    if (operation !== "update" || oldRow === null) return;
    const before = new Map(oldRow);
    if (primaryKey.some((name) => !before.has(name))) return;
    const was = keyText(primaryKey, before);
    if (oldKey !== (was === key ? null : was)) {
      this.#complain("wrong", `has not the old key ${was}`, event);
    }
  }

  #apply(event: BackfillEvent, again: boolean): void {
    this.#keyless.get(event.table)?.apply(event, again);
    for (const { of, remembers } of this.#models) {
      if (!(again && remembers)) of.get(event.table)?.apply(event, again);
    }
  }

  compare(truth: ReadonlyMap<string, readonly LoggedRow[]>): void {
    for (const { table } of this.#facts.values()) {
      const rows = truth.get(table) ?? [];
      const found = this.#keyless.get(table)?.differences(rows) ??
        this.#models.flatMap(({ name, of, remembers }) =>
          remembers || this.verdict.duplicates > 0
            ? of.get(table)!.differences(rows).map((text) => `${text}${name}`)
            : []
        );
      for (const text of found) this.#say("lost", text);
    }
  }

  #complain(kind: "misordered" | "wrong" | "unexplained", text: string, event: BackfillEvent) {
    this.#say(kind, `${text}: ${JSON.stringify(event)}`);
  }

  #say(kind: "misordered" | "wrong" | "unexplained" | "lost", text: string): void {
    if (this.verdict[kind]++ >= MOST_OF_A_KIND) return;
    this.verdict.complaints.push(kind === "lost" ? text : `${kind}: ${text}`);
  }
}

function keyText(columns: readonly string[], values: ReadonlyMap<string, string | null>): string {
  const texts = columns.map((name) => values.get(name)!);
  return texts.length === 1 ? texts[0]! : JSON.stringify(texts);
}
