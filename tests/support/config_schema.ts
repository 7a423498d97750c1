/**
 * The JSON schema of configuration files, for editors, made from what the command line checks them by, with what
 * `config.ts` says of each key.
 *
 * ```sh
 * deno run -A tests/support/config_schema.ts    # writes src/cli/config.schema.json
 * ```
 */

import { readFileSync, writeFileSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { CONFIG, type Kind } from "../../src/cli/config_shape.ts";

/** Where it is. */
export const SCHEMA_FILE: string = fileURLToPath(
  new URL("../../src/cli/config.schema.json", import.meta.url),
);

type Schema = Record<string, unknown>;

/** A variable may stand for what is no text. */
const VARIABLE = { type: "string", pattern: "^\\$\\{" };
/** Keys that mean the same at the top and for a table. */
const SHARED = ["embedder", "sink"];
/** Of keys by name: some have one meaning wherever they stand, which is the first that `config.ts` tells. */
type Words = ReadonlyMap<string, string>;

/** The whole of it, as text. */
export function configSchema(): string {
  const { keys } = CONFIG as Extract<Kind, { kind: "object" }>;
  const words = wordsOf("Config");
  const definitions = SHARED.map((key) => [
    key,
    { description: words.get(key), ...schemaOf(keys[key]!, wordsOf(INNER[key]!)) },
  ]);
  const schema = {
    $schema: "http://json-schema.org/draft-07/schema#",
    title: "pgstream.json",
    ...schemaOf(CONFIG, words),
    definitions: Object.fromEntries(definitions),
  };
  return `${JSON.stringify(schema, null, 2)}\n`;
}

function schemaOf(kind: Kind, words: Words): Schema {
  switch (kind.kind) {
    case "text":
      return { type: "string", minLength: 1 };
    case "texts":
      return { type: "array", items: { type: "string", minLength: 1 } };
    case "flag":
      return { anyOf: [{ type: "boolean" }, VARIABLE] };
    case "number": {
      const type = kind.whole ? "integer" : "number";
      return { anyOf: [{ type, minimum: kind.least }, VARIABLE] };
    }
    case "choice":
      return { anyOf: [{ enum: kind.of }, VARIABLE] };
    case "object": {
      const properties = Object.entries(kind.keys).map(([key, of]) => {
        const description = words.get(key);
        if (SHARED.includes(key)) return [key, { $ref: `#/definitions/${key}` }];
        const inner = INNER[key];
        const schema = schemaOf(of, inner === undefined ? words : wordsOf(inner));
        return [key, description === undefined ? schema : { description, ...schema }];
      });
      const required = Object.keys(kind.needed);
      return {
        type: "object",
        properties: Object.fromEntries(properties),
        ...required.length === 0 ? {} : { required },
        additionalProperties: false,
      };
    }
    case "map":
      return { type: "object", additionalProperties: schemaOf(kind.of, words) };
    case "tagged":
      return {
        oneOf: Object.entries(kind.of).map(([type, of]) => {
          const { properties, ...schema } = schemaOf(of, words) as { properties: Schema };
          return {
            ...schema,
            properties: { ...properties, type: { const: type } },
            required: ["type"],
          };
        }),
      };
    case "either":
      return { anyOf: kind.of.map((one) => schemaOf(one, words)) };
    case "code":
      return schemaOf(kind.or, words);
  }
}

/** What type of `config.ts` the keys of a key's value are told by. */
const INNER: Readonly<Record<string, string>> = {
  tables: "TableConfig",
  embedder: "EmbedderConfig",
  sink: "SinkConfig",
  metrics: "Config",
};

/** What is said of the members of a type. */
function wordsOf(name: string): Words {
  const source = readFileSync(new URL("../../src/cli/config.ts", import.meta.url), "utf8");
  const [, after = ""] = source.split(new RegExp(`^export (?:interface|type) ${name}\\b`, "m"));
  const [body = ""] = after.split(/^export /m);
  const words = new Map<string, string>();
  for (const [, comment, key] of body.matchAll(/\/\*\*([^]*?)\*\/\s*(\$?\w+)\??:/g)) {
    const text = comment!.replaceAll(/\s*\n\s*\* ?/g, " ").trim();
    if (!words.has(key!)) words.set(key!, text);
  }
  return words;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(SCHEMA_FILE, configSchema());
