/** Reads the JUnit reports that Deno, Bun and Node write: the one format that all three have. */

/** One test. */
export interface JunitCase {
  name: string;
  result: "passed" | "failed" | "skipped";
  /** Why it was skipped, where the runtime tells. */
  reason: string;
}

/** The tests of a report, without the groups that hold them; none where the report is cut short. */
export function readJunit(xml: string): JunitCase[] {
  if (!xml.includes("</testsuites>")) return [];
  const cases: (JunitCase & { group: boolean })[] = [];
  for (
    const [, attributes, body = ""] of xml.matchAll(
      /<testcase\b((?:[^>"]|"[^"]*")*?)(?:\/>|>([^]*?)<\/testcase>)/g,
    )
  ) {
    const skipped = /<skipped\b([^>]*)/.exec(body);
    cases.push({
      name: attribute(attributes!, "name"),
      result: /<(failure|error)\b/.test(body) ? "failed" : skipped === null ? "passed" : "skipped",
      reason: attribute(skipped?.[1] ?? "", "message").replace(/^true$/, ""),
      // A group that fails for its own sake, as by a hook, is no mere sum of its tests.
      group: !/<failure\b/.test(body) || /<failure message="\d+ test steps? failed"/.test(body),
    });
  }
  // Deno lists a group as a test beside its own tests, which are called "group > test".
  const groups = new Set<string>();
  for (const { name } of cases) {
    for (let at = name.indexOf(" > "); at !== -1; at = name.indexOf(" > ", at + 1)) {
      groups.add(name.slice(0, at));
    }
  }
  return cases
    .filter(({ name, group }) => !(group && groups.has(name)))
    .map(({ name, result, reason }) => ({ name, result, reason }));
}

const ENTITIES: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };

function attribute(attributes: string, name: string): string {
  const value = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "";
  return value.replaceAll(/&(lt|gt|quot|apos|amp);/g, (_, entity: string) => ENTITIES[entity]!);
}
