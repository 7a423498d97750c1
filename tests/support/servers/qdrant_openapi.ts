/**
 * Checks requests against Qdrant's OpenAPI document, where `QDRANT_OPENAPI` is the path of a copy.
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { Ajv, type ValidateFunction } from "ajv";
import { QdrantRefusal } from "./qdrant_point.ts";

interface Operation {
  parameters?: { name: string; in: string; schema: Schema }[];
  requestBody?: { content: { [type: string]: { schema: Schema } } };
}
// deno-lint-ignore no-explicit-any -- the document is JSON of unknown shape
type Schema = any;

const METHODS = ["get", "put", "post", "patch", "delete"];

let loaded: QdrantOpenApi | null | undefined;

/** The document, read once; `null` where there is none, which is said once. */
export function loadQdrantOpenApi(): QdrantOpenApi | null {
  if (loaded !== undefined) return loaded;
  const path = process.env.QDRANT_OPENAPI;
  if (path !== undefined && path !== "") {
    return loaded = new QdrantOpenApi(JSON.parse(readFileSync(path, "utf8")));
  }
  console.warn("No OpenAPI document of Qdrant (QDRANT_OPENAPI): requests are checked by hand only");
  return loaded = null;
}

export class QdrantOpenApi {
  readonly #ajv: Ajv;
  readonly #operations: { method: string; pattern: RegExp; operation: Operation }[] = [];
  readonly #bodies = new Map<Operation, ValidateFunction>();

  constructor(document: Schema) {
    this.#ajv = new Ajv({ strict: false, formats: formats(document) });
    this.#ajv.addSchema({ $id: "qdrant", components: toJsonSchema(document.components) });
    for (const [path, item] of Object.entries(document.paths)) {
      const pattern = new RegExp(`^${path.replace(/\{\w+\}/g, "[^/]+")}$`);
      for (const method of METHODS) {
        const operation = (item as { [method: string]: Operation })[method];
        if (operation !== undefined) this.#operations.push({ method, pattern, operation });
      }
    }
  }

  /** @throws {QdrantRefusal} where path, query or body are not what the document says. */
  check(method: string, path: string, query: URLSearchParams, body: unknown): void {
    const operation = this.#operations.find((known) =>
      known.method === method.toLowerCase() && known.pattern.test(path)
    )?.operation;
    if (operation === undefined) throw new QdrantRefusal(404, "");
    for (const [name, value] of query) {
      const parameter = operation.parameters?.find((known) =>
        known.in === "query" && known.name === name
      );
      if (parameter === undefined || !this.#accepts(parameter.schema, value)) {
        throw new QdrantRefusal(400, `Deserialize error in query parameters: ${name}=${value}`);
      }
    }
    const schema = operation.requestBody?.content["application/json"]?.schema;
    if (schema === undefined) return;
    let validate = this.#bodies.get(operation);
    if (validate === undefined) this.#bodies.set(operation, validate = this.#compile(schema));
    if (!validate(body)) {
      throw new QdrantRefusal(
        400,
        `Format error in JSON body: ${this.#ajv.errorsText(validate.errors).slice(0, 500)}`,
      );
    }
  }

  #accepts(schema: Schema, text: string): boolean {
    const isJson = /^(true|false|[0-9]+)$/.test(text);
    return this.#compile(schema)(isJson ? JSON.parse(text) : text);
  }

  #compile(schema: Schema): ValidateFunction {
    return this.#ajv.compile(toJsonSchema(schema));
  }
}

/** OpenAPI says `nullable` where JSON Schema has a type; references go to the one schema. */
function toJsonSchema(schema: Schema): Schema {
  if (Array.isArray(schema)) return schema.map(toJsonSchema);
  if (schema === null || typeof schema !== "object") return schema;
  const { nullable, example: _, ...rest } = schema;
  const converted: Schema = {};
  for (const [name, value] of Object.entries(rest)) {
    converted[name] = name === "$ref" && typeof value === "string"
      ? value.replace(/^#/, "qdrant#")
      : toJsonSchema(value);
  }
  if (nullable !== true) return converted;
  return Object.keys(rest).every((name) => name === "description")
    ? { type: "null" }
    : { anyOf: [converted, { type: "null" }] };
}

/** All formats that occur; those of integers are said again by `minimum` and `type`. */
function formats(document: Schema): { [name: string]: true | RegExp } {
  const names = JSON.stringify(document).matchAll(/"format":"([\w-]+)"/g);
  return {
    ...Object.fromEntries(Array.from(names, ([, name]) => [name!, true as const])),
    uuid: /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i,
  };
}
