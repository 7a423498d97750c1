/** Filters of the Qdrant stand-in, made into functions once a request. */

import {
  beyond,
  type Json,
  type JsonObject,
  type QdrantPoint,
  QdrantRefusal,
  readPointId,
} from "./qdrant_point.ts";

/** Whether a point is what the filter asks for. */
export type Matches = (point: QdrantPoint) => boolean;

/** A payload field that a filter looks at, and the indexes any of which would serve it. */
export interface FilteredField {
  key: string;
  types: readonly string[];
}

/** `must`, `should`, `must_not` over match, range, has_id, is_empty, is_null and nested filters. */
export function compileFilter(filter: Json, fields: FilteredField[] = []): Matches {
  const { must, should, must_not: mustNot, ...rest } = filter as JsonObject;
  if (Object.keys(rest).length > 0) beyond(`filter clause ${Object.keys(rest)}`);
  const compile = (conditions: Json | undefined) =>
    listOf(conditions).map((condition) => compileCondition(condition as JsonObject, fields));
  const [all, any, none] = [compile(must), compile(should), compile(mustNot)];
  return (point) =>
    all.every((holds) => holds(point)) && !none.some((holds) => holds(point)) &&
    (any.length === 0 || any.some((holds) => holds(point)));
}

function listOf(conditions: Json | undefined): Json[] {
  return conditions == null ? [] : Array.isArray(conditions) ? conditions : [conditions];
}

function compileCondition(condition: JsonObject, fields: FilteredField[]): Matches {
  if (Array.isArray(condition.has_id)) {
    const ids = new Set(condition.has_id.map(readPointId));
    return ({ id }) => ids.has(id);
  }
  if (condition.is_empty != null) {
    const path = readPath(keyOf(condition.is_empty));
    return ({ payload }) => valuesAt(payload, path).length === 0;
  }
  if (condition.is_null != null) {
    const path = readPath(keyOf(condition.is_null));
    return ({ payload }) => valueAt(payload, path) === null;
  }
  if (typeof condition.key !== "string") return compileFilter(condition, fields);
  const path = readPath(condition.key);
  const [meets, types] = condition.match != null
    ? compileMatch(condition.match as JsonObject)
    : condition.range != null
    ? compileRange(condition.range as JsonObject)
    : beyond(`condition ${JSON.stringify(condition)}`);
  fields.push({ key: condition.key, types });
  return ({ payload }) => valuesAt(payload, path).some(meets);
}

type Compiled = [meets: (found: Json) => boolean, types: readonly string[]];

function compileMatch({ value, any, except, ...rest }: JsonObject): Compiled {
  if (Object.keys(rest).length > 0) beyond(`match by ${Object.keys(rest)}`);
  if (value !== undefined) return [(found) => found === value, matchTypes(value)];
  if (Array.isArray(any)) {
    const wanted = new Set(any);
    return [(found) => wanted.has(found), matchTypes(any[0])];
  }
  const others = new Set(except as Json[]);
  return [(found) => !others.has(found), matchTypes((except as Json[])[0])];
}

function matchTypes(value: Json | undefined): string[] {
  return typeof value === "number"
    ? ["integer"]
    : typeof value === "boolean"
    ? ["bool"]
    : ["keyword"];
}

function compileRange(bounds: JsonObject): Compiled {
  const { gt, gte, lt, lte } = bounds as { [bound: string]: number | null };
  if (Object.values(bounds).some((bound) => typeof bound === "string")) beyond("range of dates");
  const holds = (found: Json) =>
    typeof found === "number" && (gt == null || found > gt) && (gte == null || found >= gte) &&
    (lt == null || found < lt) && (lte == null || found <= lte);
  return [holds, ["float", "integer"]];
}

function keyOf(condition: Json): string {
  return String((condition as JsonObject).key);
}

const PATH = /^(?:[\p{L}\p{N}_-]+|"[^"\\]*")(?:\.(?:[\p{L}\p{N}_-]+|"[^"\\]*"))*$/u;

/** A path into a payload: names with dots between, in quotes where a name has other signs. */
export function readPath(key: string): string[] {
  if (/\[\d*\]$|\[\d*\]\./.test(key)) beyond(`path ${key}`);
  if (!PATH.test(key)) {
    throw new QdrantRefusal(400, `Format error in JSON body: Invalid json path: '${key}'`);
  }
  const names = key.match(/"[^"]*"|[^."]+/g)!;
  return names.map((name) => name.replaceAll('"', ""));
}

/** What is there, also an array as a whole. */
export function valueAt(payload: JsonObject, path: readonly string[]): Json | undefined {
  let found: Json | undefined = payload;
  for (const name of path) {
    if (found === null || typeof found !== "object" || !Object.hasOwn(found, name)) return;
    found = (found as JsonObject)[name];
  }
  return found;
}

/** The values there, which are those of an array where it is one. */
export function valuesAt(payload: JsonObject, path: readonly string[]): Json[] {
  const found = valueAt(payload, path);
  return found == null ? [] : Array.isArray(found) ? found : [found];
}
