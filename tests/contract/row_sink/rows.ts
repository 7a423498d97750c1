/** Rows for the contract of row sinks, and a look at what came of them. Vectors have three dimensions. */

import { assertEquals } from "@std/assert";
import {
  type RowPage,
  rowPointId,
  type RowState,
  type RowWrite,
  type SourcePosition,
} from "../../../src/sinks/rows.ts";
import type { SinkLike } from "../../../src/sinks/sink.ts";

/** A sink that nobody else writes to, and a way to look into its store that goes past it. */
export interface RowSinkUnderTest {
  sink: SinkLike;
  /** What is stored under an id, without what the store keeps of the row. */
  read(id: string): Promise<{ vector: number[]; payload: Record<string, unknown> } | null>;
  /** How many points there are. */
  count(): Promise<number>;
  /** What a process has that starts now; null where the store ends with its process. */
  reopen: (() => Promise<SinkLike>) | null;
  /** Also after the sink was closed. */
  release(): Promise<void>;
}

export const SYSTEM = "7302345678901234567";

let named = 0;

/** A table that no other test writes to. */
export function newTable(): string {
  return `public.contract_${++named}`;
}

/** A system identifier that no other test has. */
export function newSystem(): string {
  return `73000000000000${String(++named).padStart(5, "0")}`;
}

export function at(
  lsn: string,
  ordinal = 0,
  { systemId = SYSTEM, timeline = 1 }: Partial<SourcePosition> = {},
): SourcePosition {
  return { systemId, timeline, lsn, ordinal };
}

/** Any text has a vector, which a 32-bit float holds exactly; equal texts have equal ones. */
export function vectorOf(text: string): number[] {
  let [a, b, c] = [1, 1, 1];
  for (const char of text) [a, b, c] = [b, c, (a * 31 + char.codePointAt(0)!) % 997];
  return [a, b, c];
}

export interface RowOptions {
  /** Beside the text. */
  payload?: Record<string, unknown>;
  /** Texts whose vectors the store has. */
  known?: readonly string[];
  surplus?: boolean;
  model?: string;
}

/** A row with a point for each text. */
export function row(
  table: string,
  key: string,
  position: SourcePosition,
  texts: readonly string[],
  { payload = {}, known = [], surplus = true, model = "model@1" }: RowOptions = {},
): RowWrite {
  const points = texts.map((text, chunk) => ({
    id: rowPointId(table, key, chunk),
    fingerprint: `of ${text}`,
    vector: known.includes(text) ? null : vectorOf(text),
    payload: { text, ...payload },
  }));
  return { table, key, position, model, points, surplus };
}

/** What `fingerprints` and `scan` are to give of a row that was written. */
export function statesOf({ table, key, position, model, points }: RowWrite): RowState[] {
  return points.map(({ id, fingerprint, payload }, chunk) => ({
    id,
    table,
    key,
    chunk,
    chunks: points.length,
    fingerprint,
    model,
    payload,
    position,
  }));
}

/** As text, with properties in order: stores keep another one, and `assertEquals` skips `__proto__`. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part) => {
    if (part === null || typeof part !== "object" || Array.isArray(part)) return part;
    const sorted = Object.create(null);
    for (const name of Object.keys(part).sort()) sorted[name] = part[name];
    return sorted;
  });
}

/** That the store has the points of these rows, to the last field, and no further ones of theirs. */
export async function assertRows(made: RowSinkUnderTest, ...rows: RowWrite[]): Promise<void> {
  const wanted = rows.flatMap(statesOf);
  const found = await made.sink.fingerprints!(wanted.map(({ id }) => id));
  assertEquals(found.size, wanted.length);
  for (const state of wanted) {
    assertEquals(canonical(found.get(state.id)), canonical(state));
    const { vector, payload } = (await made.read(state.id))!;
    assertEquals(vector, vectorOf(String(state.payload.text)), state.id);
    assertEquals(canonical(payload), canonical(state.payload));
  }
  for (const { table, key, points: { length } } of rows) {
    for (let chunk = length; chunk < length + 4; chunk++) {
      assertEquals(
        await made.read(rowPointId(table, key, chunk)),
        null,
        `chunk ${chunk} of ${key}`,
      );
    }
  }
}

/** All points of a table, in the order of the scan. */
export async function scanAll(
  sink: SinkLike,
  table: string,
  { limit = 1000, betweenPages = async () => {} }: {
    limit?: number;
    betweenPages?: (page: RowPage) => Promise<void>;
  } = {},
): Promise<RowState[]> {
  const points: RowState[] = [];
  let after: string | null = null;
  do {
    const page: RowPage = await sink.scan!(table, { after, limit });
    if (page.points.length > limit) throw new Error(`A page of ${page.points.length} points`);
    points.push(...page.points);
    if (points.length > 100_000) throw new Error("The scan does not end");
    after = page.next;
    await betweenPages(page);
  } while (after !== null);
  return points;
}
