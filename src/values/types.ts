/** Which value a type's text becomes: by OID, and by name for what Postgres does not ship. */
import { parseArray } from "./array.ts";
import { builtInTypes, type CatalogType } from "./built_in_types.ts";
import { parseJson } from "./json.ts";
import {
  parseBool,
  parseBytea,
  parseFloat4,
  parseFloat8,
  parseInt8,
  parseInteger,
} from "./scalars.ts";
import { parseTimestamp, parseTimestamptz } from "./timestamp.ts";
import { parseSparseVector, parseVector } from "./vector.ts";

/** Reads the text of a value that is not NULL. */
export type ParseText = (text: string) => unknown;

/** Parsers of a user's own, by `pg_type.typname`, or by OID in decimal digits. */
export type Parsers = Readonly<Record<string, ParseText>>;

/** A parser of a user's own threw, or gave a promise. Says nothing of what: that may hold the value. */
export class ParserFailure extends Error {
  /** `"ParserFailure"` */
  override name = "ParserFailure";
}

/** By name. Types that are not here stay text. */
const PARSERS: ReadonlyMap<string, ParseText> = new Map<string, ParseText>([
  ["bool", parseBool],
  ["int2", parseInteger],
  ["int4", parseInteger],
  ["int8", parseInt8],
  ["float4", parseFloat4],
  ["float8", parseFloat8],
  ["bytea", parseBytea],
  ["json", parseJson],
  ["jsonb", parseJson],
  ["timestamp", parseTimestamp],
  ["timestamptz", parseTimestamptz],
  ["vector", parseVector],
  ["halfvec", parseVector],
  ["sparsevec", parseSparseVector],
]);

const asItIs: ParseText = (text) => text;

/** The types of one database, as far as they were needed. */
export class Types {
  readonly #types = builtInTypes();
  readonly #own: ReadonlyMap<string, ParseText>;
  /** Null: text. */
  readonly #parsers = new Map<number, ParseText | null>();

  /** @param parsers go before those of this library, in arrays too. */
  constructor(parsers: Parsers = {}) {
    this.#own = new Map(Object.entries(parsers).map(([name, parse]) => [name, guarded(parse)]));
  }

  /** Those that have to be looked up, each once, before `parserOf` can tell. */
  unknown(oids: Iterable<number>): number[] {
    return [...new Set(oids)].filter((oid) => !this.#types.has(oid));
  }

  /** A type as the catalogue has it; what is known already stays as it is. */
  learn(type: CatalogType): void {
    if (!this.#types.has(type.oid)) this.#types.set(type.oid, type);
  }

  /** The type's name, or its OID where it is not known. */
  nameOf(oid: number): string {
    return this.#types.get(oid)?.name ?? `${oid}`;
  }

  /** What reads values of the type; null where they stay the text that they are. */
  parserOf(oid: number): ParseText | null {
    let parser = this.#parsers.get(oid);
    if (parser === undefined) {
      const type = this.#types.get(oid);
      if (type === undefined) return this.#own.get(`${oid}`) ?? null;
      parser = this.#parserOf(type);
      this.#parsers.set(oid, parser);
    }
    return parser;
  }

  #parserOf({ oid, name, kind, element }: CatalogType): ParseText | null {
    const own = this.#own.get(`${oid}`) ?? this.#own.get(name);
    if (own !== undefined) return own;
    if (element !== null) {
      const parse = this.#parserOf(element) ?? asItIs;
      const { delimiter } = element;
      return (text) => parseArray(text, parse, delimiter);
    }
    // A domain, an enum or a row may have the name of a type that is known.
    return kind === "b" ? PARSERS.get(name) ?? null : null;
  }
}

function guarded(parse: ParseText): ParseText {
  return (text) => {
    let value: unknown;
    try {
      value = parse(text);
    } catch {
      throw new ParserFailure("threw");
    }
    if (!(value instanceof Promise)) return value;
    // Nobody would wait for it, and what it rejects with may hold the value.
    value.catch(() => {});
    throw new ParserFailure("gave a promise");
  };
}
