/** Which type of Postgres a value of a test belongs to, and its text as Postgres prints it. */
import { type LookUpTypes, RowValues } from "../delivery/row_values.ts";
import type { TableName } from "../table_name.ts";
import { builtInTypes, type CatalogType } from "../values/built_in_types.ts";
import { Types } from "../values/types.ts";
import { formatVector } from "../values/vector.ts";

/** Where types begin that Postgres does not ship. */
const FIRST_OWN_OID = 16384;

const byName = new Map<string, CatalogType>();
const byOid = builtInTypes();
for (const type of byOid.values()) byName.set(type.name, type);

/** The type of that name; one that Postgres does not ship is made up as soon as it is named. */
export function typeNamed(name: string): CatalogType {
  let type = byName.get(name);
  if (type === undefined) {
    const element = name.startsWith("_") ? typeNamed(name.slice(1)) : null;
    type = { oid: FIRST_OWN_OID + byName.size, name, kind: "b", element, delimiter: "," };
    byName.set(name, type);
    byOid.set(type.oid, type);
  }
  return type;
}

/** What a catalogue would say of types that were named. */
export const lookUpNamed: LookUpTypes = (oids) =>
  Promise.resolve(oids.flatMap((oid) => byOid.get(oid) ?? []));

const types = new Types();

/** What a stream with `values: "js"` and no parsers of its own makes of columns of these types. */
export function defaultValues(
  table: TableName,
  columns: ReadonlyMap<string, string>,
): RowValues {
  const read = [...columns].flatMap(([name, type]) => {
    const known = typeNamed(type);
    types.learn(known);
    const parse = types.parserOf(known.oid);
    return parse === null ? [] : [{ name, type, parse }];
  });
  return new RowValues(table, read);
}

/** The name of the type that a value has, by what it is in JavaScript; null where there is none. */
export function typeOfValue(value: unknown): string | null {
  switch (typeof value) {
    case "string":
      return "text";
    case "number":
      return "float8";
    case "bigint":
      return "int8";
    case "boolean":
      return "bool";
    case "object":
      break;
    default:
      return null;
  }
  if (value === null) return "text";
  if (value instanceof Date) return "timestamptz";
  if (value instanceof Uint8Array) return "bytea";
  if (value instanceof Float32Array) return "vector";
  if (!Array.isArray(value)) return "jsonb";
  if (lengthsOf(value) === null) return "jsonb";
  const leaves = value.flat(Infinity).filter((leaf) => leaf !== null);
  const types = new Set(leaves.map(typeOfValue));
  const [type = "text"] = types;
  return types.size > 1 || type === null || type === "jsonb" ? "jsonb" : `_${type}`;
}

/** By dimension, of an array of Postgres, whose parts are all alike; null where it cannot be one. */
function lengthsOf(array: readonly unknown[]): number[] | null {
  if (!array.some(Array.isArray)) return [array.length];
  const parts = array.map((part) => Array.isArray(part) ? lengthsOf(part) : null);
  const [first] = parts;
  if (first == null || first.includes(0)) return null;
  return parts.every((part) => `${part}` === `${first}`) ? [array.length, ...first] : null;
}

/**
 * A value as Postgres prints it in a column of this type: a string is taken for that text.
 *
 * @returns null for what has none, such as undefined
 */
export function textOfValue(value: unknown, type: string): string | null {
  if (typeof value === "string") return value;
  if (type === "json" || type === "jsonb") return jsonText(value) ?? null;
  if (type.startsWith("_") && Array.isArray(value)) return arrayText(value, type.slice(1));
  switch (typeof value) {
    case "number":
      return Object.is(value, -0) ? "-0" : `${value}`.replace(/(e[+-])(\d)$/, "$10$2");
    case "bigint":
      return `${value}`;
    case "boolean":
      return value ? "t" : "f";
  }
  if (value instanceof Date) return dateText(value, type === "timestamp");
  if (value instanceof Float32Array) return formatVector(value);
  if (value instanceof Uint8Array) {
    return `\\x${Array.from(value, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
  }
  return typeof value === "object" && value !== null ? jsonText(value) ?? null : null;
}

function arrayText(array: readonly unknown[], type: string): string {
  const delimiter = type === "box" ? ";" : ",";
  const elements = array.map((element) => {
    if (element === null || element === undefined) return "NULL";
    if (Array.isArray(element) && type !== "json" && type !== "jsonb") {
      return arrayText(element, type);
    }
    const text = textOfValue(element, type) ?? "";
    const quoted = /^$|[\s{}"\\]|^null$/i.test(text) || text.includes(delimiter);
    return quoted ? `"${text.replaceAll(/["\\]/g, "\\$&")}"` : text;
  });
  return `{${elements.join(delimiter)}}`;
}

/** In UTC, or without a time zone in the local time of the process. Throws for an Invalid Date. */
function dateText(date: Date, local: boolean): string {
  const shifted = local ? new Date(date.getTime() - offsetMs(date)) : date;
  const [, sign, years, rest, fraction] = /^([+-]?)(\d+)(-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{3})Z$/
    .exec(shifted.toISOString())!;
  const year = Number(`${sign}${years}`);
  const printed = `${year > 0 ? year : 1 - year}`.padStart(4, "0");
  const digits = fraction!.replace(/0+$/, "");
  return `${printed}${rest!.replace("T", " ")}${digits === "" ? "" : `.${digits}`}` +
    `${local ? "" : "+00"}${year > 0 ? "" : " BC"}`;
}

/** To the second: old offsets have them, and `getTimezoneOffset` has not. */
function offsetMs(date: Date): number {
  const utc = new Date(0);
  utc.setUTCFullYear(date.getFullYear(), date.getMonth(), date.getDate());
  utc.setUTCHours(date.getHours(), date.getMinutes(), date.getSeconds(), date.getMilliseconds());
  return date.getTime() - utc.getTime();
}

function byteLength(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** JSON as jsonb prints it: shorter keys first, blanks behind colons and commas. */
function jsonText(value: unknown): string | undefined {
  if (typeof value === "bigint") return `${value}`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if ("toJSON" in value && typeof value.toJSON === "function") return jsonText(value.toJSON());
  if (Array.isArray(value)) return `[${value.map((item) => jsonText(item) ?? "null").join(", ")}]`;
  const fields = Object.entries(value)
    .sort(([a], [b]) => byteLength(a) - byteLength(b) || (a < b ? -1 : 1))
    .map(([key, field]) => [JSON.stringify(key), jsonText(field)])
    .filter(([, field]) => field !== undefined);
  return `{${fields.map((pair) => pair.join(": ")).join(", ")}}`;
}
