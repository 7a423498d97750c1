/** What a row of a synced table is to have in the store: texts, fingerprints, payload. */

import type { AnyRow } from "../change.ts";
import { PgStreamError } from "../errors.ts";
import { copyPayload } from "../sinks/payload.ts";
import { rowPointId } from "../sinks/rows.ts";
import type { Chunker } from "./chunk_text.ts";
import { fingerprint } from "./fingerprint.ts";
import type { SyncOptions } from "./options.ts";

/** A point of a row, before its text is embedded. */
export interface WantedPoint {
  /** Its id in the store. */
  readonly id: string;
  /** What is embedded. */
  readonly text: string;
  /** Of text, model and chunker. */
  readonly fingerprint: string;
  /** As JSON gives it back. */
  readonly payload: Record<string, unknown>;
}

/** What a row is to have. */
export interface WantedRow {
  /** By chunk; none: the row has no vector. */
  readonly points: readonly WantedPoint[];
}

/** Makes it of a row that is whole. */
export interface RowMaker {
  /** As `formatTableName` writes it. */
  readonly table: string;
  /** What makes the vectors and cuts the texts, as the store keeps it. */
  readonly model: string;
  /** @throws {PgStreamError} `sync-text`, `sync-chunk`, `sync-payload`: what a function of the user's did. */
  make(key: string, row: AnyRow): Promise<WantedRow>;
}

/** What rows are made by. */
export interface RowMakerOptions extends Pick<SyncOptions, "text" | "payload" | "chunk"> {
  /** As `formatTableName` writes it. */
  table: string;
  /** What makes the vectors. */
  model: string;
}

/** The maker of a table's rows. */
export function rowMaker({ table, model, text, payload, chunk }: RowMakerOptions): RowMaker {
  const chunker = chunk?.name;
  return {
    table,
    model: chunker === undefined ? model : `${model} + ${chunker}`,
    make: async (key, row) => {
      const texts = chunksOf(table, textOf(table, text, row), chunk);
      if (texts.length === 0) return { points: [] };
      const payloads = payloadsOf(table, payload, row, texts);
      const points = await Promise.all(texts.map(async (text, at): Promise<WantedPoint> => ({
        id: rowPointId(table, key, at),
        text,
        fingerprint: await fingerprint({
          text,
          model,
          ...(chunker === undefined ? {} : { chunker }),
        }),
        payload: payloads[at]!,
      })));
      return { points };
    },
  };
}

function textOf(table: string, text: SyncOptions["text"], row: AnyRow): string {
  const given = call(() => text(row), "sync-text", `text() of ${table}`) ?? "";
  if (typeof given === "string") return given;
  throw failure("sync-text", `text() of ${table} returned ${nameOf(given)}`, {
    hint: "Return a text at once, or null where a row has no vector",
  });
}

/** White space alone has no meaning to embed, and some servers refuse it. */
function chunksOf(table: string, text: string, chunk: Chunker | undefined): string[] {
  if (text.trim() === "") return [];
  if (chunk === undefined) return [text];
  const given: unknown = call(() => chunk(text), "sync-chunk", `chunk() of ${table}`);
  if (!Array.isArray(given) || !given.every((piece) => typeof piece === "string")) {
    throw failure("sync-chunk", `chunk() of ${table} returned no array of texts`, {
      hint: "Return the chunks at once, in order",
    });
  }
  return given.filter((piece: string) => piece.trim() !== "");
}

/** Of each chunk: columns are the same for all. */
function payloadsOf(
  table: string,
  payload: SyncOptions["payload"],
  row: AnyRow,
  texts: readonly string[],
): Record<string, unknown>[] {
  if (typeof payload !== "function") {
    const copy = payloadOf(table, columnsOf(table, payload ?? [], row));
    return texts.map(() => copy);
  }
  const chunks = texts.length;
  return texts.map((text, chunk) =>
    payloadOf(
      table,
      call(() => payload(row, { text, chunk, chunks }), "sync-payload", `payload() of ${table}`),
    )
  );
}

function payloadOf(table: string, given: unknown): Record<string, unknown> {
  if (typeof given !== "object" || given === null || Array.isArray(given) || isPromise(given)) {
    throw failure("sync-payload", `payload() of ${table} returned ${nameOf(given)}`, {
      hint: "Return an object at once; {} where nothing is to be stored",
    });
  }
  try {
    return copyPayload(given as Record<string, unknown>, "sync");
  } catch (cause) {
    throw failure("sync-payload", `The payload of ${table} cannot be written as a JSON object`, {
      hint: "Give a plain object that does not contain itself",
      cause,
    });
  }
}

function columnsOf(
  table: string,
  columns: readonly string[],
  row: AnyRow,
): Record<string, unknown> {
  const missing = columns.find((column) => !Object.hasOwn(row, column));
  if (missing !== undefined) {
    throw failure("sync-payload", `Table ${table} has no column ${JSON.stringify(missing)}`, {
      hint: "Check payload, and which columns the publication has: names are taken literally",
    });
  }
  // By assignment, a column called __proto__ would be none.
  return Object.fromEntries(columns.map((column) => [column, row[column]]));
}

function call<T>(made: () => T, kind: string, name: string): T {
  try {
    return made();
  } catch (cause) {
    throw failure(kind, `${name} threw`, { hint: "Its cause says what", cause });
  }
}

function failure(
  kind: string,
  message: string,
  options: { hint: string; cause?: unknown },
): PgStreamError {
  return new PgStreamError(message, { kind, ...options });
}

function isPromise(value: unknown): boolean {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === "function";
}

function nameOf(value: unknown): string {
  if (isPromise(value)) return "a promise";
  if (value === null || value === undefined) return `${value}`;
  return Array.isArray(value) ? "an array" : `a value of type ${typeof value}`;
}
