/** Any calls in any order, beside a model that is a few lines long. */

import { assertEquals } from "@std/assert";
import { test } from "node:test";
import type { RowWrite, SourcePosition } from "../../../src/sinks/rows.ts";
import { seededRandom } from "../../support/random.ts";
import {
  assertRows,
  at,
  canonical,
  newSystem,
  newTable,
  row,
  type RowSinkUnderTest,
  scanAll,
  statesOf,
} from "./rows.ts";

const TEXTS = ["a", "b", "c", "d"];
const LSNS = ["0/FFFFFFFE", "0/FFFFFFFF", "1/0", "1/1", "2/0"];
const CALLS = 80;

/** What is there, and of rows that are gone the position of that: an older write of theirs is not tried. */
class Model {
  readonly rows = new Map<string, RowWrite>();
  readonly gone = new Map<string, SourcePosition>();

  write(written: RowWrite): void {
    const { key, position, points } = written;
    const old = this.rows.get(key);
    if (old !== undefined && isEarlier(position, old.position)) return;
    if (points.length === 0) this.remove(key, position);
    else this.rows.set(key, written);
  }

  empty(position: SourcePosition): void {
    for (const [key, old] of this.rows) {
      if (!isEarlier(position, old.position)) this.remove(key, position);
    }
  }

  remove(key: string, position: SourcePosition): void {
    this.rows.delete(key);
    this.gone.set(key, position);
  }
}

function isEarlier(a: SourcePosition, b: SourcePosition): boolean {
  return a.systemId === b.systemId && place(a) < place(b);
}

/** As text that sorts: the timelines, ordinals and upper halves of LSNs here are digits. */
function place({ timeline, lsn, ordinal }: SourcePosition): string {
  const [high, low] = lsn.split("/");
  return [timeline, high, low!.padStart(8, "0"), ordinal + 1].join();
}

export function describeRandom(made: () => RowSinkUnderTest, emptiesTables: boolean): void {
  for (const seed of [1, 2, 3]) {
    test(`any writes in any order leave what the last of each row left (seed ${seed})`, async () => {
      const { sink } = made();
      const table = newTable();
      const systems = [newSystem(), newSystem()];
      const random = seededRandom(seed);
      const below = (end: number) => Math.floor(random() * end);
      const pick = <T>(from: readonly T[]): T => from[below(from.length)]!;
      const model = new Model();
      // Ever later, or the latest of all would soon refuse the rest.
      const anyPosition = (call: number) =>
        at(pick(LSNS), below(3) - 1, {
          systemId: random() < 0.9 ? systems[0]! : systems[1]!,
          timeline: 1 + Math.floor(call / 20) + below(2),
        });

      for (let call = 0; call < CALLS; call++) {
        if (emptiesTables && random() < 0.05) {
          const position = anyPosition(call);
          await sink.deleteTable!(table, position);
          model.empty(position);
          continue;
        }
        const keys = new Set(Array.from({ length: 1 + below(5) }, () => `key ${below(8)}`));
        const rows = [...keys].map((key): RowWrite => {
          const had = model.rows.get(key)?.points.map(({ payload }) => payload.text) ?? [];
          const texts = Array.from({ length: below(4) }, () => pick(TEXTS));
          let position = anyPosition(call);
          const gone = model.gone.get(key);
          if (gone !== undefined && isEarlier(position, gone)) position = gone;
          const written = row(table, key, position, texts, {
            payload: { call },
            model: pick(["model@1", "model@2"]),
            surplus: texts.length < had.length || random() < 0.5,
          });
          const points = written.points.map((point, chunk) =>
            texts[chunk] === had[chunk] ? { ...point, vector: null } : point
          );
          return { ...written, points };
        });
        await sink.apply!(rows, null);
        for (const written of rows) model.write(written);
        if (call % 10 === 9 || call === CALLS - 1) {
          await assertRows(made(), ...model.rows.values());
          for (const key of model.gone.keys()) {
            if (!model.rows.has(key)) await assertRows(made(), row(table, key, at("0/0"), []));
          }
          if (sink.scan === undefined) continue;
          const wanted = [...model.rows.values()].flatMap(statesOf).map(canonical).sort();
          const found = await scanAll(sink, table, { limit: 1 + below(20) });
          assertEquals(found.map(canonical).sort(), wanted);
        }
      }
    });
  }
}
