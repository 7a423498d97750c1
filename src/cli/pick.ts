/** For options that may be left out, but not be undefined. */

/** An object with one of its members, where it has it. */
export function pick<T extends object, K extends keyof T>(
  from: T,
  key: K,
): { [P in K]?: Exclude<T[P], undefined> } {
  return (from[key] === undefined ? {} : { [key]: from[key] }) as {
    [P in K]?: Exclude<T[P], undefined>;
  };
}
