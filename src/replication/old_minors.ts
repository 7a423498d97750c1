/** What old releases of PostgreSQL get wrong. */

/**
 * The first release in which ALTER PUBLICATION reaches transactions that are open, where the server is
 * older; the release notes of 17.5 tell of it. Null where it does.
 */
export function fixedMinor(serverVersion: number): string | null {
  const fixes: Record<number, number> = { 13: 21, 14: 18, 15: 13, 16: 9, 17: 5 };
  const major = Math.floor(serverVersion / 10_000);
  if (major > 17) return null;
  const minor = fixes[major];
  if (minor === undefined) return "13.21";
  return serverVersion % 10_000 < minor ? `${major}.${minor}` : null;
}
