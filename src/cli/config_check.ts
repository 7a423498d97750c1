/** Whether a configuration can be: every key is known, and every value is of its kind. */

import { CONFIG, type Kind } from "./config_shape.ts";
import { CliError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { type Environment, withVariables } from "./variables.ts";

/** How it is read. */
export interface ReadConfigOptions {
  /** Variables by name, for those that texts name. Default, null: `${` is text as any other. */
  environment?: Environment | null;
  /** Keys at the top whose values are not wanted, whatever they are: something else comes first. */
  unwanted?: readonly string[];
}

/**
 * Checks all of it.
 *
 * @returns a copy in which texts have the variables' values; what is code is the same
 * @throws {CliError} of kind `config`, naming the place in the file, and no value.
 */
export function checkConfig(
  value: unknown,
  { environment = null, unwanted = [] }: ReadConfigOptions = {},
): unknown {
  const wanted = isObject(value) && !isOfClass(value)
    ? Object.fromEntries(Object.entries(value).filter(([key]) => !unwanted.includes(key)))
    : value;
  return new Checker(environment).check(CONFIG, wanted, "");
}

/** `tables.documents`, and where a name has a dot `tables["blog.articles"]`. */
export function placeOf(path: string, key: string): string {
  if (path === "") return key;
  return /^[\w$]+$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`;
}

class Checker {
  readonly #environment: Environment | null;

  constructor(environment: Environment | null) {
    this.#environment = environment;
  }

  check(kind: Kind, value: unknown, path: string): unknown {
    switch (kind.kind) {
      case "text":
        return this.#text(value, path);
      case "texts":
        if (!Array.isArray(value)) throw fault(path, "is not an array of texts");
        return value.map((item, index) => this.#text(item, `${path}[${index}]`));
      case "flag":
        return this.#choice([true, false], value, path);
      case "choice":
        return this.#choice(kind.of, value, path);
      case "number":
        return this.#number(kind, value, path);
      case "object":
        return this.#object(kind, value, path);
      case "map":
        if (!isObject(value)) throw fault(path, "is not an object", "Its keys are names");
        return mapped(value, (item, key) => this.check(kind.of, item, placeOf(path, key)));
      case "tagged":
        return this.#tagged(kind.of, value, path);
      case "either":
        return this.check(kind.of.find((one) => fits(one, value)) ?? kind.of[0]!, value, path);
      case "code":
        return isCode(value) ? value : this.check(kind.or, value, path);
    }
  }

  #text(value: unknown, path: string): string {
    if (typeof value !== "string") throw fault(path, "is not a text");
    const text = this.#withVariables(value, path);
    if (text === "") throw fault(path, "is empty", "Leave it out for its default");
    return text;
  }

  #number(
    { least, whole }: { least: number; whole: boolean },
    given: unknown,
    path: string,
  ): number {
    const value = this.#fromVariable(given, path, (text) => text === "" ? NaN : Number(text));
    const is = whole ? Number.isSafeInteger(value) : Number.isFinite(value);
    if (is && value as number >= least) return value as number;
    throw fault(path, `is not a ${whole ? "whole " : ""}number from ${least}`);
  }

  #choice(of: readonly unknown[], given: unknown, path: string): unknown {
    const value = this.#fromVariable(given, path, (text) => of.find((one) => String(one) === text));
    if (of.includes(value)) return value;
    throw fault(path, `is not ${of.map((one) => JSON.stringify(one)).join(" or ")}`);
  }

  #object(
    { keys, needed }: Extract<Kind, { kind: "object" }>,
    value: unknown,
    path: string,
  ): unknown {
    const known = Object.keys(keys);
    if (!isObject(value)) {
      const what = path === "" ? "The file" : path;
      throw fault(what, "is not an object", `Its keys are ${known.join(", ")}`);
    }
    const checked = mapped(value, (item, key) => {
      const kind = Object.hasOwn(keys, key) ? keys[key] : undefined;
      if (kind !== undefined) return this.check(kind, item, placeOf(path, key));
      const meant = nearest(key, known);
      const hint = meant === null ? `Known are ${known.join(", ")}` : `Did you mean "${meant}"?`;
      throw fault(placeOf(path, key), "is not known", hint);
    });
    for (const [key, hint] of Object.entries(needed)) {
      if (checked[key] === undefined) throw fault(placeOf(path, key), "is missing", hint);
    }
    return checked;
  }

  #tagged(of: Readonly<Record<string, Kind>>, value: unknown, path: string): unknown {
    const types = Object.keys(of).map((type) => JSON.stringify(type)).join(" or ");
    if (!isObject(value)) throw fault(path, "is not an object", `Its "type" is ${types}`);
    if (value.type === undefined) throw fault(`${path}.type`, "is missing", `It is ${types}`);
    const type = this.#text(value.type, `${path}.type`);
    if (!Object.hasOwn(of, type)) throw fault(`${path}.type`, `is not ${types}`);
    return this.check(of[type]!, value, path);
  }

  /** Of a value that is to be no text: where a variable stands in its place, what that says. */
  #fromVariable(value: unknown, path: string, read: (text: string) => unknown): unknown {
    if (typeof value !== "string") return value;
    const text = this.#withVariables(value, path);
    return text === value ? value : read(text);
  }

  #withVariables(text: string, path: string): string {
    return this.#environment === null ? text : withVariables(text, path, this.#environment);
  }
}

function fault(path: string, message: string, hint?: string): CliError {
  return new CliError(`${path} ${message}`, {
    kind: "config",
    hint: hint ?? "pgstream init writes a file that is right",
  });
}

/** For one of several kinds that a value may be. */
function fits({ kind }: Kind, value: unknown): boolean {
  if (kind === "texts") return Array.isArray(value);
  if (kind === "object" || kind === "map") return isObject(value);
  return !Array.isArray(value) && !isObject(value);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCode(value: unknown): boolean {
  return typeof value === "function" || isObject(value) && isOfClass(value);
}

function isOfClass(value: object): boolean {
  const prototype = Object.getPrototypeOf(value);
  return prototype !== null && prototype !== Object.prototype;
}

/** A copy without what is undefined. */
function mapped(
  value: Record<string, unknown>,
  change: (item: unknown, key: string) => unknown,
): Record<string, unknown> {
  const given = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(given.map(([key, item]) => [key, change(item, key)]));
}
