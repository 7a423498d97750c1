/** Whether two parts of a configuration say the same. */

/** The same for objects with the same members, in whatever order; a function is the same as itself only. */
export function sameKey(value: object): string {
  return JSON.stringify(value, (_key, item) => {
    if (typeof item === "function") return `function ${numberOf(item)}`;
    if (typeof item !== "object" || item === null || Array.isArray(item)) return item;
    return Object.fromEntries(Object.entries(item).sort(([a], [b]) => a < b ? -1 : 1));
  });
}

const numbers = new WeakMap<object, number>();
let last = 0;

function numberOf(value: object): number {
  const number = numbers.get(value) ?? ++last;
  numbers.set(value, number);
  return number;
}
