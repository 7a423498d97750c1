/** Runs a benchmark by its name: `deno task bench decode --json`. */
import { readdir } from "node:fs/promises";
import process from "node:process";

const files = await readdir(new URL(".", import.meta.url));
const names = files.filter((file) => file.endsWith(".ts") && file !== "main.ts")
  .map((file) => file.replace(/\.ts$/, ""));
const [name] = process.argv.splice(2, 1);
if (name === undefined || !names.includes(name)) {
  console.error(`Name a benchmark: ${names.join(", ")}`);
  process.exitCode = 1;
} else {
  await import(`./${name}.ts`);
}
