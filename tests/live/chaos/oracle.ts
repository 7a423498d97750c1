/** Says what is wrong with what consumers handled, given what was committed. */

import { parseLsn } from "../../../mod.ts";
import type { Change, WrittenTransaction } from "./writer.ts";

/** An event as a consumer logs it. */
export type LoggedEvent = [
  xid: number,
  ordinal: number,
  lsn: string,
  table: string,
  operation: string,
  key: string | null,
  oldKey: string | null,
  version: number | null,
];

/** One call of a handler: a line of a consumer's log. */
export interface LoggedCall {
  /** `failed`: it wrote, and then threw. `parked`: given up by `onFailure`. */
  outcome: "handled" | "failed" | "parked";
  events: LoggedEvent[];
}

/** What was found. */
export interface Verdict {
  /** Changes that were committed. */
  committed: number;
  /** Committed changes that were never handled. */
  lost: number;
  /** Events that were not the next of their key, or of the stream. */
  misordered: number;
  /** Events that nobody committed, or that say something else than was written. */
  wrong: number;
  /** Events that were handled again in a later life. */
  duplicates: number;
  /** Those of them that were confirmed before, or came twice in one life. */
  unexplained: number;
  /** Events that a handler gave up by `onFailure`. */
  parked: number;
  /** The first violations, in words. */
  complaints: string[];
}

/** A verdict of which only this much is said. */
export function verdictOf(known: Partial<Verdict>): Verdict {
  return {
    committed: 0,
    lost: 0,
    misordered: 0,
    wrong: 0,
    duplicates: 0,
    unexplained: 0,
    parked: 0,
    complaints: [],
    ...known,
  };
}

/** Of one key. */
export interface History {
  /** Index of the last one that any life has handled. */
  reached: number;
  length: number;
}

/** A change that was committed. */
export interface Expected {
  change: Change;
  /** Where it stands in the history of each key that it concerns. */
  places: [history: History, index: number][];
  /** Of its commit; null as long as nobody has handled it. */
  lsn: bigint | null;
}

/** Knows all that was committed, and hears of the lives of one consumer, one after the other. */
export class Oracle {
  readonly #expected = new Map<string, Expected>();
  /** The last position that any life has handled. */
  lastLsn = 0n;
  readonly verdict: Verdict;

  /** @param xids by the transaction's number */
  constructor(transactions: readonly WrittenTransaction[], xids: ReadonlyMap<number, number>) {
    const tables = new Map<string, Map<string, History>>();
    const start = new Map<string, Expected[]>();
    for (const { number, changes } of transactions) {
      changes.forEach((change, ordinal) => {
        const { table, key, oldKey } = change;
        const keys = tables.get(table) ?? new Map<string, History>();
        tables.set(table, keys);
        const expected: Expected = { change, places: [], lsn: null };
        this.#expected.set(`${xids.get(number)} ${ordinal}`, expected);
        for (const concerned of key === null ? keys.keys() : new Set([key, oldKey])) {
          if (concerned === null) continue;
          const history = keys.get(concerned) ?? { reached: -1, length: 0 };
          if (!keys.has(concerned)) {
            keys.set(concerned, history);
            // A key's history begins with the table's last TRUNCATE, which it must not overtake.
            for (const before of start.get(table) ?? []) {
              before.places.push([history, history.length++]);
            }
          }
          expected.places.push([history, history.length++]);
        }
        if (key === null) start.set(table, [expected]);
      });
    }
    const { size } = this.#expected;
    this.verdict = verdictOf({ committed: size, lost: size });
  }

  /**
   * A process begins.
   *
   * @param confirmed what the slot held for confirmed before
   * @param inOrder whether it handles in commit order, as with one lane
   */
  life(confirmed: bigint, inOrder: boolean): Life {
    return new Life(this, this.#expected, confirmed, inOrder);
  }

  /** Keeps the first few. */
  complain(kind: "misordered" | "wrong" | "unexplained", text: string): void {
    this.verdict[kind]++;
    if (this.verdict.complaints.length < 10) this.verdict.complaints.push(`${kind}: ${text}`);
  }

  /**
   * Of a life that ended in order, the events that the next one handled again, though the one before
   * could have confirmed them: nothing up to them was left. Look when nothing is lost.
   */
  needlesslyAgain(before: Life, next: Life): bigint[] {
    let unfinished: bigint | null = null;
    for (const expected of this.#expected.values()) {
      const lsn = expected.lsn!;
      if (lsn < before.confirmed || before.handled.has(expected)) continue;
      if (unfinished === null || lsn < unfinished) unfinished = lsn;
    }
    return [...next.handled]
      .filter((expected) => before.handled.has(expected))
      .map(({ lsn }) => lsn!)
      .filter((lsn) => unfinished === null || lsn < unfinished);
  }

  /** Some that were never handled. */
  lost(): string[] {
    const lost = [...this.#expected].filter(([, { lsn }]) => lsn === null);
    return lost.slice(0, 5).map(([id, { change }]) =>
      `lost: ${JSON.stringify(change)} (xid, ordinal ${id})`
    );
  }
}

/** One process of a consumer. */
export class Life {
  readonly #oracle: Oracle;
  readonly #expected: Map<string, Expected>;
  /** What was confirmed before it began. */
  readonly confirmed: bigint;
  readonly #inOrder: boolean;
  /** By key's history: the last that this life has handled. */
  readonly #at = new Map<History, number>();
  #last: [lsn: bigint, ordinal: number] = [0n, -1];
  /** What it has handled. */
  readonly handled = new Set<Expected>();

  constructor(
    oracle: Oracle,
    expected: Map<string, Expected>,
    confirmed: bigint,
    inOrder: boolean,
  ) {
    this.#oracle = oracle;
    this.#expected = expected;
    this.confirmed = confirmed;
    this.#inOrder = inOrder;
  }

  /** The next call of its handler. */
  call({ outcome, events }: LoggedCall): void {
    for (const event of events) this.#event(event, outcome);
  }

  #event(event: LoggedEvent, outcome: LoggedCall["outcome"]): void {
    const [xid, ordinal, lsnText, table, operation, key, oldKey, version] = event;
    const id = `${xid} ${ordinal}`;
    const found = this.#expected.get(id);
    const told = JSON.stringify({ table, operation, key, oldKey, version });
    if (found === undefined || told !== JSON.stringify(found.change)) {
      const wanted = found === undefined ? "nothing" : JSON.stringify(found.change);
      return this.#oracle.complain(
        "wrong",
        `${JSON.stringify(event)}, where ${wanted} was written`,
      );
    }
    if (this.handled.has(found)) {
      return this.#oracle.complain("unexplained", `${JSON.stringify(event)} twice in one process`);
    }
    // What a handler wrote before it failed is tried again, and judged then.
    if (outcome === "failed") return;
    this.handled.add(found);
    const lsn = parseLsn(lsnText);
    this.#order(event, found, lsn);
    if (lsn > this.#oracle.lastLsn) this.#oracle.lastLsn = lsn;
    const { verdict } = this.#oracle;
    if (outcome === "parked") verdict.parked++;
    if (found.lsn === null) {
      found.lsn = lsn;
      verdict.lost--;
      return;
    }
    verdict.duplicates++;
    // A transaction is confirmed where its commit record begins before the confirmed position.
    if (lsn < this.confirmed) {
      this.#oracle.complain("unexplained", `${JSON.stringify(event)} was confirmed before`);
    }
  }

  #order(event: LoggedEvent, { places }: Expected, lsn: bigint): void {
    let right = true;
    for (const [history, index] of places) {
      const at = this.#at.get(history);
      // A life begins where the one before was confirmed; from there on it leaves nothing out.
      right &&= at === undefined ? index <= history.reached + 1 : index === at + 1;
      this.#at.set(history, Math.max(at ?? -1, index));
      history.reached = Math.max(history.reached, index);
    }
    const ordinal = event[1];
    const [lastLsn, lastOrdinal] = this.#last;
    if (this.#inOrder) right &&= lsn > lastLsn || (lsn === lastLsn && ordinal > lastOrdinal);
    this.#last = [lsn, ordinal];
    if (!right) this.#oracle.complain("misordered", JSON.stringify(event));
  }
}
