/** `pgstream doctor`: what is not as it should be, and what mends it. */

import type { Finding } from "../../finding.ts";
import { diagnose } from "../../inspect/diagnose.ts";
import type { SinkLike } from "../../sinks/sink.ts";
import type { Command, Invocation } from "../command.ts";
import type { Settings } from "../settings.ts";
import { sinkOf, tableParts } from "../streams.ts";
import { printable, type Terminal, type Tone } from "../terminal.ts";

const MARKS: Readonly<Record<Finding["level"], readonly [string, Tone]>> = {
  ok: ["ok  ", "good"],
  warning: ["warn", "warning"],
  problem: ["FAIL", "bad"],
};

/** `pgstream doctor`. */
export const doctor: Command = {
  summary: "Checks server, tables, publication, slot and store; says what mends them",
  operands: "[TABLE…]",
  description: "Of the tables that are named, else those of the file, else those of the " +
    "publication. It changes nothing.\n\n" +
    "Exit status: 0 where a stream can run; 1 with --strict where there are warnings; 2 where " +
    "there are problems.",
  options: {
    strict: { type: "boolean", help: "warnings count, too" },
    temporary: { type: "boolean", help: "for a stream with a temporary slot" },
    json: { type: "boolean", help: "all findings, as one line of JSON" },
  },
  examples: [
    ["pgstream doctor documents --dsn postgresql://app@db/app", "can documents be streamed there?"],
    ["pgstream doctor --strict --json", "what pgstream.json says, for a script that deploys it"],
  ],
  run,
};

async function run(
  { values, positionals, settings, terminal, signal }: Invocation,
): Promise<number> {
  const told = await settings();
  const { dsn, slotName, publicationName, config } = told;
  const findings = await diagnose({
    ...dsn === undefined ? {} : { dsn },
    slotName,
    publicationName,
    tables: positionals.length > 0 ? positionals : tableParts(config),
    temporary: values.temporary === true,
    failover: config.failover ?? false,
    // What a file says is synced.
    readsUnchanged: config.tables !== undefined,
    // What it would warn of is found.
    logger: false,
    signal,
  });
  findings.push(...await findStores(told));
  const count = (level: Finding["level"]) =>
    findings.filter((finding) => finding.level === level).length;
  const [warnings, problems] = [count("warning"), count("problem")];
  if (values.json === true) {
    await terminal.printJson({ ok: count("ok"), warnings, problems, findings });
  } else await print(findings, terminal);
  if (problems > 0) return 2;
  return warnings > 0 && values.strict === true ? 1 : 0;
}

/** Of the file's stores, each once. */
async function findStores(settings: Settings): Promise<Finding[]> {
  const { config } = settings;
  const all = [config.sink, ...Object.values(config.tables ?? {}).map(({ sink }) => sink)];
  const different = new Map(
    all.filter((sink) => sink !== undefined).map((sink) => [JSON.stringify(sink), sink]),
  );
  const findings: Finding[] = [];
  for (const configured of different.values()) {
    const sink: SinkLike = await sinkOf(configured, settings);
    findings.push(...await sink.inspect?.() ?? []);
    if (sink !== configured) await sink.close?.();
  }
  return findings;
}

async function print(findings: readonly Finding[], terminal: Terminal): Promise<void> {
  for (const { level, subject, message, fix } of findings) {
    const [mark, tone] = MARKS[level];
    const about = subject === null ? "" : `${terminal.tone("strong", printable(subject))}: `;
    await terminal.print(`${terminal.tone(tone, mark)}  ${about}${printable(message)}`);
    if (fix !== undefined) {
      await terminal.print(`      ${terminal.tone("accent", printable(fix))}`);
    }
  }
  const count = (level: Finding["level"]) =>
    findings.filter((finding) => finding.level === level).length;
  const [problems, warnings] = [count("problem"), count("warning")];
  const many = (number: number, word: string) => `${number} ${word}${number === 1 ? "" : "s"}`;
  await terminal.print();
  await terminal.print(
    problems + warnings === 0
      ? "All is as it should be"
      : `${many(problems, "problem")}, ${many(warnings, "warning")}`,
  );
}
