/**
 * A password that must be seen nowhere, and the one place that looks for it: in errors with all that
 * hangs on them, in log lines, in the objects that users hold.
 */
import { fail } from "@std/assert";
import { createHash } from "node:crypto";
import { inspect } from "node:util";
import type { Logger } from "../../mod.ts";
import { saslPrep } from "../../src/wire/sasl_prep.ts";

/** Begins every form of the password that is text; nothing else has it. */
const MARK = "canary-Zq7";

/** Needs percent-encoding in a DSN, quotes in SQL, and becomes another text by SASLprep. */
export const CANARY = `${MARK} ªⅨ:/?#@%41'&=w`;

/** Whose password it is where a server is scripted. */
export const CANARY_USER = "app";

const bytes = new TextEncoder().encode(CANARY);
const preparedBytes = new TextEncoder().encode(saslPrep(CANARY));

/** As text, encoded, as a list of bytes, and what stands for it in md5 authentication. */
const FORMS: readonly string[] = [
  MARK,
  encodeURIComponent(CANARY),
  ...[MARK, MARK.toUpperCase()].map((text) => [...text].map(percentEncoded).join("")),
  ...[bytes, preparedBytes].flatMap((text) => [0, 1, 2].map((shift) => base64Inside(text, shift))),
  Array.from(bytes.subarray(0, 6)).join(", "),
  Array.from(bytes.subarray(0, 6)).join(","),
  hex(bytes.subarray(0, 6)).join(""),
  hex(bytes.subarray(0, 6)).join(" "),
  createHash("md5").update(CANARY).update(CANARY_USER).digest("hex"),
];

function percentEncoded(character: string): string {
  return `%${character.charCodeAt(0).toString(16)}`;
}

function hex(part: Uint8Array): string[] {
  return Array.from(part, (byte) => byte.toString(16).padStart(2, "0"));
}

/** What of its base64 is the same whatever stands around it, at one of the three ways to fall into groups. */
function base64Inside(text: Uint8Array, shift: number): string {
  const encoded = Buffer.from([...new Uint8Array(shift), ...text]).toString("base64");
  return encoded.slice(4, 4 + 12);
}

/** Keeps all that is logged, details included. */
export class CanaryLog implements Logger {
  readonly lines: string[] = [];
  debug = (...parts: unknown[]): void => this.#add("debug", parts);
  info = (...parts: unknown[]): void => this.#add("info", parts);
  warn = (...parts: unknown[]): void => this.#add("warn", parts);
  error = (...parts: unknown[]): void => this.#add("error", parts);

  #add(level: string, parts: unknown[]): void {
    this.lines.push([level, ...parts.map(shown)].join(" "));
  }
}

/** Fails where the password is in what anything of this prints as: errors with their causes, objects, lines. */
export function assertNoCanary(what: string, ...values: unknown[]): void {
  for (const value of values) {
    for (const text of textsOf(value)) {
      const form = FORMS.find((form) => text.includes(form));
      if (form !== undefined) {
        const at = text.indexOf(form);
        fail(`${what} shows the password: …${text.slice(Math.max(0, at - 200), at + 200)}…`);
      }
    }
  }
}

function* textsOf(value: unknown): Generator<string> {
  if (typeof value === "string") {
    yield value;
    return;
  }
  yield shown(value);
  yield json(value);
  for (let error = value; error instanceof Error; error = error.cause) {
    const { hint, summary } = error as { hint?: string; summary?: string };
    yield [String(error), error.message, error.stack, hint, summary, json(error)].join("\n");
  }
}

function shown(value: unknown): string {
  if (typeof value === "string") return value;
  const all = { maxStringLength: Infinity, maxArrayLength: Infinity };
  return inspect(value, { depth: 20, showHidden: true, ...all });
}

function json(value: unknown): string {
  const seen = new Set<unknown>();
  return JSON.stringify(value, (_name, part) => {
    if (typeof part === "bigint") return String(part);
    if (typeof part !== "object" || part === null) return part;
    if (seen.has(part)) return undefined;
    seen.add(part);
    return part;
  }) ?? "";
}
