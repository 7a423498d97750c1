/** What somebody meant who wrote something else. */

/** The name that is nearest to what was written; null where none is near. */
export function nearest(written: string, names: Iterable<string>): string | null {
  let best: string | null = null;
  let least = Math.min(3, Math.floor(written.length / 2) + 1);
  for (const name of names) {
    const distance = edits(written.toLowerCase(), name.toLowerCase());
    if (distance < least) [best, least] = [name, distance];
  }
  return best;
}

/** Characters to add, to leave out and to change (Levenshtein). */
function edits(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (let i = 0; i < from.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      next.push(Math.min(row[j + 1]! + 1, next[j]! + 1, row[j]! + (from[i] === to[j] ? 0 : 1)));
    }
    row = next;
  }
  return row.at(-1)!;
}
