/** Whether a store has a payload as it is to be. */

/**
 * True for values of JSON that mean the same: the order of properties does not count, since stores have
 * orders of their own.
 */
export function isSameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    return Array.isArray(a) && Array.isArray(b) && a.length === b.length &&
      a.every((value, at) => isSameJson(value, b[at]));
  }
  const names = Object.keys(a);
  return names.length === Object.keys(b).length && names.every((name) =>
    Object.hasOwn(b, name) &&
    isSameJson((a as Record<string, unknown>)[name], (b as Record<string, unknown>)[name])
  );
}
