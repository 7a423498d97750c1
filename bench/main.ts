/**
 * Runs a benchmark by its name, `deno task bench decode --json`, or all of them, one after the other, each in a process
 * of its own on the same runtime: `deno task bench [all] [--json]`, `deno task bench --only size,decode`.
 * Files with what `--json` has printed, of any number of runtimes, become the table of `bench/README.md`:
 * `deno task bench --markdown deno.json node.json bun.json`.
 */
import { spawn } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import process from "node:process";
import { parseArgs } from "node:util";
import { print, type Report } from "./support/report.ts";
import { markdown } from "./support/targets.ts";

const files = await readdir(new URL(".", import.meta.url));
const names = files.filter((file) => file.endsWith(".ts") && file !== "main.ts")
  .map((file) => file.replace(/\.ts$/, "")).sort();

/** What a benchmark prints as JSON; null where it fails, which it has said itself. */
function run(name: string): Promise<Report | null> {
  const script = process.argv[1]!;
  const deno = process.versions.deno === undefined ? [] : ["run", "-A"];
  const child = spawn(process.execPath, [...deno, script, name, "--json"], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 900_000,
  });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => output += text);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      const line = output.trim().split("\n").at(-1)!;
      resolve(code === 0 ? JSON.parse(line) : null);
    });
  });
}

async function all(): Promise<void> {
  const { values, positionals } = parseArgs({
    args: process.argv.slice(2),
    options: {
      json: { type: "boolean", default: false },
      markdown: { type: "boolean", default: false },
      only: { type: "string" },
    },
    allowPositionals: true,
  });
  if (values.markdown) {
    const texts = await Promise.all(positionals.map((file) => readFile(file, "utf8")));
    const reports = texts.flatMap((text) => Object.values<Report>(JSON.parse(text)));
    for (const line of markdown(reports)) console.log(line);
    return;
  }
  const wanted = values.only?.split(",") ?? names;
  const others = positionals.filter((name) => name !== "all");
  const unknown = [...others, ...wanted.filter((name) => !names.includes(name))];
  if (unknown.length > 0) {
    console.error(`No benchmark is called ${unknown.join(", ")}. There are: ${names.join(", ")}`);
    process.exitCode = 1;
    return;
  }
  const reports: Record<string, Report> = {};
  for (const name of wanted) {
    const report = await run(name);
    if (report === null) {
      console.error(`${name} failed`);
      process.exitCode = 1;
      continue;
    }
    reports[name] = report;
    if (values.json) continue;
    console.log(`\n${name}`);
    print(report, false);
  }
  if (values.json) console.log(JSON.stringify(reports));
}

const [name] = process.argv.slice(2);
if (name !== undefined && names.includes(name)) {
  process.argv.splice(2, 1);
  await import(`./${name}.ts`);
} else await all();
