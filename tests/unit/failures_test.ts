/** Holds the list of failures to the tests that carry their numbers. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const TESTS = fileURLToPath(new URL("../", import.meta.url));

/** All that is known to go wrong has a number. */
const LAST = 47;

interface Failure {
  number: number;
  files: string[];
}

async function listed(): Promise<Failure[]> {
  const text = await readFile(join(TESTS, "live/FAILURES.md"), "utf8");
  return [...text.matchAll(/^\| +(\d+) +\|.*\|(.*)\|$/gm)].map(([, number, files]) => ({
    number: Number(number),
    files: [...files!.matchAll(/`([^`]+)`/g)].map(([, file]) => file!),
  }));
}

/** The numbers in the names of a file's tests, `… (7)`. */
function numbersIn(source: string): Set<number> {
  const names = source.matchAll(
    /\b(?:test|testIt|describe|playAll)\(\s*(["'`])((?:(?!\1)[^])*)\1/g,
  );
  return new Set(
    [...names].flatMap(([, , name]) =>
      [...name!.matchAll(/\((\d{1,2})\)/g)].map(([, number]) => Number(number))
    ),
  );
}

test("each failure that is listed has tests that carry its number, in the files that it names", async () => {
  const failures = await listed();
  const numbers = failures.map(({ number }) => number);
  assertEquals(numbers, [...new Set(numbers)].sort((a, b) => a - b));
  for (let number = 1; number <= LAST; number++) {
    assert(numbers.includes(number), `${number} is not listed`);
  }
  for (const { number, files } of failures) {
    assertGreater(files.length, 0, `${number} names no file`);
    for (const file of files) {
      const numbers = numbersIn(await readFile(join(TESTS, file), "utf8"));
      assert(numbers.has(number), `${file} has no test named "… (${number})"`);
    }
  }
});

test("a test that carries a number shows a failure that is listed", async () => {
  const known = new Set((await listed()).map(({ number }) => number));
  assertEquals(
    numbersIn(`test("x (7)", …) describe(\`y (8), z\`, …) test('z (9)')`),
    new Set([7, 8, 9]),
  );
  for (const file of await readdir(TESTS, { recursive: true })) {
    if (!file.endsWith("_test.ts") || file.includes("failures_test")) continue;
    for (const number of numbersIn(await readFile(join(TESTS, file), "utf8"))) {
      assert(known.has(number), `${file} carries (${number}), which is not listed`);
    }
  }
});
