/** Connects in each of the ways that a file lists, and prints a line for each: `program.ts FILE`. */

import { readFile } from "node:fs/promises";
import process from "node:process";
import { outcomeOf } from "./outcome.ts";

const { dsns, secret } = JSON.parse(await readFile(process.argv[2]!, "utf8")) as {
  dsns: string[];
  secret: string;
};
for (const dsn of dsns) process.stdout.write(`${await outcomeOf(dsn, secret)}\n`);
