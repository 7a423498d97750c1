/** What came, held to what was expected, and to the tables. */

import { assert, assertEquals } from "@std/assert";
import { type Content, Model, sorted } from "./model.ts";
import type { Seen } from "./seen.ts";
import type { Change, Script } from "./shape.ts";
import { MARKER } from "./world.ts";

/** Who saw it. */
export type Witness =
  | "the stream that ran"
  | "the stream that came late"
  | "the stream with lanes"
  | "the bytes"
  | "the bytes in parts"
  | "the bytes in the smallest parts";

/** Where each change stood: the same for every witness. */
export function coordinates(seen: Seen[]): Omit<Seen, "change" | "schema" | "table">[] {
  return seen.map(({ lsn, ordinal, xid, commitTimeMs }) => ({ lsn, ordinal, xid, commitTimeMs }));
}

/** @throws where anything of it is otherwise. */
export function compare(who: Witness, seen: Seen[], script: Script, contents: Content[]): void {
  const transactions = transactionsOf(who, seen);
  const marker = transactions.pop();
  assertEquals(marker?.map(({ table }) => table), [MARKER], `${who}: the marker`);
  if (script.transactions !== null) {
    const wanted = script.transactions.map((changes) => changes.map((change) => told(change, who)));
    assertEquals(transactions, wanted, who);
  }
  for (const content of contents) compareLeft(who, transactions.flat(), script, content);
}

/** In the order of their commits, each with its changes numbered from 0. */
function transactionsOf(who: Witness, seen: Seen[]): Change[][] {
  const transactions: Change[][] = [];
  let lsn: bigint | null = null;
  for (const { change, schema, table, lsn: at, ordinal } of seen) {
    if (at !== lsn) {
      assert(lsn === null || at > lsn, `${who}: commits go backwards`);
      lsn = at;
      transactions.push([]);
    }
    assertEquals(ordinal, transactions.at(-1)!.length, `${who}: ordinal of ${schema}.${table}`);
    transactions.at(-1)!.push(change);
  }
  return transactions;
}

function compareLeft(
  who: Witness,
  changes: Change[],
  script: Script,
  { table, keyColumns, identity, columns, rows }: Content,
): void {
  // Where there is no primary key, a store has nothing to go by but what is told of the old row.
  const keyed = !isBytes(who) && script.by !== "row" && keyColumns.length > 0;
  const model = new Model(keyed ? "key" : "row", keyed ? keyColumns : identity);
  try {
    for (const change of changes) if (change.table === table) model.apply(change);
  } catch (error) {
    throw new Error(`${who}, kept in step with ${table}: ${(error as Error).message}`);
  }
  const left = `${who}: what is left of ${table}`;
  assertEquals(sorted(model.rows, columns), sorted(rows, columns), left);
}

/** What of a change each level tells. */
function told(change: Change, who: Witness): Change {
  return isBytes(who) ? { ...change, key: null, oldKey: null } : { ...change, options: null };
}

function isBytes(who: Witness): boolean {
  return who.startsWith("the bytes");
}

/**
 * What came by lanes, in the order of the commits.
 *
 * @throws where changes of one key were not in that order.
 */
export function inOrder(seen: Seen[]): Seen[] {
  const after = (a: Seen, b: Seen) =>
    a.lsn === b.lsn ? a.ordinal - b.ordinal : a.lsn < b.lsn ? -1 : 1;
  const last = new Map<string, Seen>();
  for (const each of seen) {
    const { key, oldKey } = each.change;
    for (const known of [key, oldKey]) {
      if (known === null) continue;
      const name = JSON.stringify([each.schema, each.table, known]);
      const before = last.get(name);
      assert(before === undefined || after(before, each) < 0, `key ${name} is out of order`);
      last.set(name, each);
    }
  }
  return seen.toSorted(after);
}
