/** What a connection string, a service file and the environment say together. */
import { parseDsn } from "./dsn.ts";
import type { Environment } from "./environment.ts";
import { WireError } from "./errors.ts";
import type { ReadFile } from "./files.ts";
import { type Parameter, PROTECTIONS, VARIABLES, WITHOUT_EFFECT } from "./parameters.ts";
import { readService } from "./service_file.ts";

/** Parameters by name; each has the value of the first source that gives it one. */
export class Settings {
  /** What was dropped, for the log. Holds no values. */
  readonly warnings: string[] = [];
  readonly #values: Map<string, string> = new Map();

  /**
   * Reads the sources: the DSN goes before the service, the service before the environment. An
   * empty value is none.
   *
   * @throws {WireError} `"invalid-dsn"`, `"file-unreadable"`.
   */
  constructor(dsn: string, env: Environment, readFile: ReadFile) {
    for (const [name, variable] of Object.entries(VARIABLES)) {
      this.#set(name, env[variable]);
    }
    // https://www.postgresql.org/docs/current/libpq-envars.html: an old name for it.
    if (env["PGREQUIRESSL"]?.startsWith("1") && this.get("sslmode") === undefined) {
      this.#set("sslmode", "require");
    }
    const given = dsn === "" ? new Map<string, string>() : parseDsn(dsn);
    this.#set("service", given.get("service"));
    this.#set("servicefile", given.get("servicefile"));
    const service = this.get("service");
    if (service !== undefined) {
      this.#add(readService(service, this.get("servicefile"), env, readFile));
    }
    this.#add(given);

    for (const [name, values] of Object.entries(PROTECTIONS)) {
      const value = this.get(name as Parameter);
      if (value === undefined || (values as readonly string[]).includes(value.toLowerCase())) {
        continue;
      }
      const known = values.length === 0 ? "" : `: it can only be ${values.join(" or ")}`;
      throw invalidOption(`${name} asks for what is not supported${known}`, {
        hint: "To leave it out is to connect without that protection.",
      });
    }
  }

  /** The value as it was written; undefined where nobody gave one. */
  get(name: Parameter): string | undefined {
    return this.#values.get(name);
  }

  /** A list with commas between; an entry may be empty. */
  list(name: Parameter): string[] | undefined {
    return this.get(name)?.split(",").map((entry) => entry.trim());
  }

  /**
   * One of the words that there are for it.
   *
   * @param aliases other words, with the one of `choices` that each means.
   * @throws {WireError} `"invalid-dsn"`
   */
  choice<const T extends string>(
    name: Parameter,
    choices: readonly T[],
    aliases: ReadonlyMap<string, T> = new Map(),
  ): T | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    const found = choices.find((choice) => choice === value) ?? aliases.get(value);
    if (found !== undefined) return found;
    throw invalidOption(`${name} is none of ${choices.join(", ")}`);
  }

  /** A whole number. @throws {WireError} `"invalid-dsn"` */
  integer(name: Parameter, max: number): number | undefined {
    const value = this.get(name);
    return value === undefined ? undefined : parseInteger(name, value, 0, max);
  }

  #add(source: ReadonlyMap<string, string>): void {
    // As other clients spell it. What is said about sslmode itself comes after it, and counts.
    this.#set("sslmode", source.get("ssl"));
    for (const [name, value] of source) {
      if (Object.hasOwn(VARIABLES, name)) this.#set(name, value);
      else if (!WITHOUT_EFFECT.has(name)) {
        this.warnings.push(`Connection parameter ${showName(name)} is not known and was ignored`);
      }
    }
  }

  #set(name: string, value: string | undefined): void {
    if (!value) return;
    // Neither can be sent as it is: it would end early, or be another value.
    if (value.includes("\0") || !value.isWellFormed()) {
      throw invalidOption(`${name} has a zero byte, or half of a surrogate pair`);
    }
    this.#values.set(name, value);
  }
}

/** @throws {WireError} `"invalid-dsn"` */
export function parseInteger(name: string, text: string, min: number, max: number): number {
  const value = /^\s*\d{1,10}\s*$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  throw invalidOption(`${name} is not a whole number from ${min} to ${max}`);
}

/** @param what names the parameter, and never its value. */
export function invalidOption(what: string, options: { hint?: string } = {}): WireError {
  return new WireError(`The connection options cannot be used: ${what}`, {
    kind: "invalid-dsn",
    ...options,
  });
}

/** A name from a DSN that was written wrongly may be part of a password. */
function showName(name: string): string {
  return /^[a-z][a-z0-9_]{0,39}$/.test(name) ? `"${name}"` : "of an odd name";
}
