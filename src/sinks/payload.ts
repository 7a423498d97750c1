/** Payloads as JSON: one rule for every store. */

import { SinkError } from "./sink.ts";

/**
 * Writes a payload as the text of a JSON object; `{}` where there is none. What JSON has no form for
 * is written as Postgres' `to_jsonb` writes it: NaN and the infinities as text, bytes as `\x…`.
 *
 * @throws {SinkError} `sink-payload` where the payload is no object, or contains itself.
 */
export function formatPayload(payload: Record<string, unknown> | undefined, sink: string): string {
  if (payload === undefined) return "{}";
  let text: string | undefined;
  let cause: unknown;
  try {
    text = JSON.stringify(payload, safeValue);
  } catch (error) {
    cause = error;
  }
  if (text?.startsWith("{")) return text;
  throw new SinkError("A payload cannot be written as a JSON object", {
    kind: "sink-payload",
    sink,
    hint: "Give a plain object that does not contain itself",
    cause,
  });
}

/**
 * A copy of a payload as a store gives it back. Its properties are its own, also one that is called
 * `__proto__`.
 */
export function copyPayload(
  payload: Record<string, unknown> | undefined,
  sink: string,
): Record<string, unknown> {
  return JSON.parse(formatPayload(payload, sink));
}

// `this` is the object that holds the value, before any `toJSON` of it was called: a `Buffer` has one,
// and a program may have given one to `BigInt.prototype`.
function safeValue(this: unknown, key: string, converted: unknown): unknown {
  const value = (this as Record<string, unknown>)[key];
  if (typeof value === "bigint") {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : String(value);
  }
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (value instanceof Uint8Array) return formatBytes(value);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return Array.from(value as unknown as ArrayLike<number | bigint>);
  }
  return converted;
}

function formatBytes(bytes: Uint8Array): string {
  let text = "\\x";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}
