/**
 * Golden files: what real servers sent, captured by `tests/golden/capture.ts`. Each line is one
 * JSON value: first the server, then its messages in their order, then the tables as they were at
 * the end.
 */
import { readFileSync } from "node:fs";
import { formatLsn } from "../../src/lsn.ts";
import type { PgOutputMessage } from "../../src/pgoutput/mod.ts";

/** The first line. */
export interface GoldenServer {
  server: string;
}

/**
 * Which slot sent it: `text` with every table, `binary` with the option of that name. The others have
 * the same transactions: `plain` by protocol 1, `streamed` by 2, `prepared` by 3, `parallel` by 4.
 */
export type GoldenSlot = "text" | "binary" | "plain" | "streamed" | "prepared" | "parallel";

/** One message: its bytes, and what they mean in the form of `goldenOf`. */
export interface GoldenMessage {
  slot: GoldenSlot;
  hex: string;
  message: unknown;
}

/** A table after everything: rows of texts as the types write them, `shortened`. */
export interface GoldenTable {
  table: string;
  key: string[];
  columns: string[];
  rows: (string | null)[][];
}

/** A golden file, by the kind of its lines. */
export interface Golden {
  server: string;
  messages: GoldenMessage[];
  tables: GoldenTable[];
}

/** The major versions whose files are there. */
export const GOLDEN_MAJORS: readonly number[] = [10, 11, 12, 13, 14, 15, 16, 17, 18];

/** @param major one of `GOLDEN_MAJORS` */
export function readGolden(major: number): Golden {
  const text = readFileSync(new URL(`../golden/pg${major}.jsonl`, import.meta.url), "utf8");
  const lines: (GoldenServer | GoldenMessage | GoldenTable)[] = text.trimEnd().split("\n")
    .map((line) => JSON.parse(line));
  return {
    server: lines.flatMap((line) => "server" in line ? [line.server] : [])[0] ?? "",
    messages: lines.flatMap((line) => "hex" in line ? [line] : []),
    tables: lines.flatMap((line) => "table" in line ? [line] : []),
  };
}

/**
 * A message as JSON: LSNs as Postgres prints them, times as decimal texts, bytes as `\x…`, a
 * relation inside another message as its name, long texts `shortened`.
 */
export function goldenOf(message: PgOutputMessage): unknown {
  return JSON.parse(JSON.stringify(message, (key, value) => {
    if (typeof value === "bigint") return key.endsWith("Lsn") ? formatLsn(value) : `${value}`;
    if (value instanceof Uint8Array) return shortened(`\\x${hexOf(value)}`);
    if (key !== "" && value?.type === "relation") return `${value.schema}.${value.name}`;
    if (typeof value === "string") return shortened(value);
    return value;
  }));
}

/** A text above 100 characters by its beginning and its length. */
export function shortened<T extends string | null>(text: T): T | string {
  if (text === null || text.length <= 100) return text;
  return `${text.slice(0, 10)}… ${text.length} characters`;
}

/** Bytes as hexadecimal digits. */
export function hexOf(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Hexadecimal digits as bytes. */
export function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16));
}
