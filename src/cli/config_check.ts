/** Whether a configuration can be: every key is known, and every value is of its kind. */

import { CliError } from "./errors.ts";
import { nearest } from "./nearest.ts";

/** What a value is to be; throws where it is not. @param path of the value in the file */
type Check = (value: unknown, path: string) => void;

function fault(path: string, message: string, hint: string): CliError {
  return new CliError(`${path} ${message}`, { kind: "config", hint });
}

const kindOf = (what: string, is: (value: unknown) => boolean): Check => (value, path) => {
  if (!is(value)) throw fault(path, `is not ${what}`, "pgstream init writes one that is right");
};

const text = kindOf("a text", (value) => typeof value === "string" && value !== "");
const flag = kindOf("true or false", (value) => typeof value === "boolean");
const count = kindOf(
  "a whole number from 1",
  (value) => Number.isSafeInteger(value) && (value as number) >= 1,
);
const orZero = kindOf(
  "a whole number from 0",
  (value) => Number.isSafeInteger(value) && (value as number) >= 0,
);
const isFunction = (value: unknown): boolean => typeof value === "function";
const texts = kindOf(
  "an array of texts",
  (value) => Array.isArray(value) && value.every((item) => typeof item === "string" && item !== ""),
);
const oneOf = (...values: readonly string[]): Check =>
  kindOf(`one of ${values.join(", ")}`, (value) => values.includes(value as string));

/** A function, or an object of a class: what only TypeScript can give. Else as the check says. */
const orCode = (check: Check): Check => (value, path) => {
  if (isFunction(value)) return;
  const prototype = typeof value === "object" && value !== null && !Array.isArray(value)
    ? Object.getPrototypeOf(value)
    : null;
  if (prototype !== null && prototype !== Object.prototype) return;
  check(value, path);
};

const object = (keys: Readonly<Record<string, Check>>, needed: readonly string[] = []): Check =>
(
  value,
  path,
) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw fault(path, "is not an object", `Its keys are ${Object.keys(keys).join(", ")}`);
  }
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    const place = path === "" ? key : `${path}.${key}`;
    const check = Object.hasOwn(keys, key) ? keys[key] : undefined;
    if (check === undefined) {
      const meant = nearest(key, Object.keys(keys));
      throw fault(
        place,
        "is not known",
        meant === null ? `Known are ${Object.keys(keys).join(", ")}` : `Did you mean "${meant}"?`,
      );
    }
    check(item, place);
  }
  for (const key of needed) {
    if ((value as Record<string, unknown>)[key] === undefined) {
      throw fault(path === "" ? key : `${path}.${key}`, "is missing", "Add it to the file");
    }
  }
};

const mapOf = (check: Check): Check => (value, path) => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw fault(path, "is not an object", 'Its keys are names: { "documents": { … } }');
  }
  for (const [key, item] of Object.entries(value)) check(item, `${path}.${key}`);
};

const EMBEDDER = orCode(object(
  {
    url: text,
    model: text,
    dimensions: count,
    apiKey: text,
    batch: object({
      maxTexts: count,
      maxChars: count,
      maxDelayMs: orZero,
      parallel: count,
      timeoutMs: count,
    }),
  },
  ["model"],
));

const SINKS: Readonly<Record<string, Check>> = {
  pgvector: object({
    type: text,
    dsn: text,
    table: text,
    dimensions: count,
    vectorType: oneOf("vector", "halfvec", "sparsevec"),
    index: oneOf("hnsw", "none"),
    prepare: flag,
  }),
  qdrant: object({
    type: text,
    url: text,
    collectionName: text,
    vectorName: text,
    apiKey: text,
    dimensions: count,
    distance: oneOf("Cosine", "Euclid", "Dot", "Manhattan"),
    payloadIndexes: mapOf(text),
  }),
};

const SINK = orCode((value, path) => {
  const type = (value as { type?: unknown } | null)?.type;
  const check = typeof type === "string" && Object.hasOwn(SINKS, type) ? SINKS[type] : undefined;
  if (check === undefined) {
    throw fault(`${path}.type`, "is no store", `Known are ${Object.keys(SINKS).join(", ")}`);
  }
  check(value, path);
});

const TABLE = object({
  text: (value, path) => {
    if (!isFunction(value)) (Array.isArray(value) ? texts : text)(value, path);
  },
  payload: (value, path) => isFunction(value) ? undefined : texts(value, path),
  chunk: object({ maxChars: count, overlap: orZero }),
  columns: texts,
  where: text,
  backfill: oneOf("initial", "never"),
  onModelChange: oneOf("error", "rebuild"),
  embedder: EMBEDDER,
  sink: SINK,
}, ["text"]);

const CONFIG = object({
  $schema: text,
  dsn: text,
  slotName: text,
  publicationName: text,
  tables: mapOf(TABLE),
  embedder: EMBEDDER,
  sink: SINK,
  concurrency: count,
  failover: flag,
  onSlotLost: oneOf("error", "recreate"),
  whenSlotInUse: oneOf("error", "wait"),
  metrics: object({ port: orZero, host: text, maxLagSeconds: count }, ["port"]),
});

/** Checks all of it. @throws {CliError} of kind `config`, naming the place in the file. */
export function checkConfig(value: unknown): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new CliError("The file holds no object", {
      kind: "config",
      hint: "pgstream init writes one to begin with",
    });
  }
  CONFIG(value, "");
}
