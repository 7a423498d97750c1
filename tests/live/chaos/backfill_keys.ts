/** Primary keys of many types, each a function of a small number: SQL of it gives the key's columns. */

/** A column of a key. In its SQL `@` stands for the schema. */
export interface KeyColumn {
  name: string;
  /** Its type, with a collation where it has one. */
  type: string;
}

/** What the keys of a table are. */
export interface KeyKind {
  name: string;
  columns: readonly KeyColumn[];
  /** Names of the columns in the order of the primary key, where it is not theirs. */
  order?: readonly string[];
  /** The columns' values: SQL. @param i SQL of an integer from 0 on */
  of(i: string): string[];
  /** The same by the type's own equality, though not byte for byte. */
  alike?(i: string): string[];
  /** How many different ones there are, where they are few. */
  most?: number;
  /** What must be there first: statements. */
  prepare?: string;
  /** The first major that has it. */
  since?: number;
  /** Cannot be what partitions go by. */
  unpartitionable?: true;
}

const LABELS = 200;
// What COPY, arrays, CSV, quoting and collations each trip over.
const ODD = [
  "''",
  "' '",
  "E'\\t'",
  "E'\\n'",
  "E'\\r'",
  "E'\\\\'",
  "'\\N'",
  "'\\.'",
  "''''",
  "'\"'",
  "'{,}'",
  "'NULL'",
  "'É'",
  "'é'",
  "'ß'",
  "'Z'",
  "'z'",
  "'-'",
  "U&'\\FEFF'",
  "U&'\\+01F600'",
  "U&'e\\0301'",
  "E'\\x01'",
];

/** Text in which each character class occurs. */
function odd(i: string): string {
  return `((ARRAY[${ODD.join()}])[1 + (${i}) % ${ODD.length}] || (${i}))`;
}

function single(
  name: string,
  type: string,
  of: (i: string) => string,
  more: Partial<KeyKind> = {},
): KeyKind {
  return { name, columns: [{ name: "k", type }], of: (i) => [of(i)], ...more };
}

/** One of some values for the first numbers, a rule for the others. */
function firstOf(values: readonly string[], type: string, rule: (i: string) => string) {
  return (i: string) =>
    `(CASE ${i} ${values.map((value, n) => `WHEN ${n} THEN '${value}'::${type}`).join(" ")} ` +
    `ELSE ${rule(i)} END)`;
}

const numeric = (scale: string) =>
  firstOf(["NaN"], "numeric", (i) => `((${i} - 100) * 0.125${scale})::numeric`);
const float = (zero: string) =>
  firstOf(["NaN", zero, "Infinity", "-Infinity"], "float8", (i) => `((${i} - 100.5) / 3)::float8`);

/** All kinds. */
export const KEY_KINDS: readonly KeyKind[] = [
  single("int", "int", (i) => `((${i}) * 3 - 1000)::int`),
  single("bigint", "bigint", (i) => `((${i})::bigint * 2000000000000003 - 3000000000000000000)`),
  single("text", "text", odd),
  single("text by language", 'text COLLATE "und-x-icu"', odd),
  single("text in C", 'text COLLATE "C"', odd),
  {
    ...single("text, case ignored", "text COLLATE @.ci", (i) => `('k' || (${i}))`),
    alike: (i) => [`('K' || (${i}))`],
    since: 12,
    unpartitionable: true,
    prepare: "CREATE COLLATION @.ci " +
      "(provider = icu, locale = 'und-u-ks-level2', deterministic = false);",
  },
  single("char", "char(12)", (i) => `('c' || (${i}))::char(12)`),
  single("varchar", 'varchar(40) COLLATE "und-x-icu"', (i) => `${odd(i)}::varchar(40)`),
  single("uuid", "uuid", (i) => `md5((${i})::text)::uuid`),
  single("numeric", "numeric", numeric(""), { alike: (i) => [numeric("00")(i)] }),
  single("float8", "float8", float("0"), { alike: (i) => [float("-0")(i)] }),
  single(
    "timestamptz",
    "timestamptz",
    firstOf(
      ["infinity", "-infinity", "4713-01-01 00:00:00+00 BC"],
      "timestamptz",
      (i) => `'1999-12-31 23:59:59.999999+00'::timestamptz + (${i}) * '37.000001 min'::interval`,
    ),
  ),
  single(
    "date",
    "date",
    firstOf(["infinity", "-infinity", "0044-03-15 BC"], "date", (i) => `'1999-01-01'::date + ${i}`),
  ),
  single("interval", "interval", (i) => `((${i}) * '24 hours'::interval)`, {
    alike: (i) => [`((${i}) * '1 day'::interval)`],
  }),
  single(
    "bytea",
    "bytea",
    firstOf(["", "\\x00", "\\x5c"], "bytea", (i) => `decode(md5((${i})::text), 'hex')`),
  ),
  single("int[]", "int[]", (i) => `ARRAY[(${i}) % 3, ${i}, NULL]`),
  {
    name: "enum",
    columns: [{ name: "k", type: "@.label" }],
    of: (i) => [`('e' || (${i}) % ${LABELS})::@.label`],
    most: LABELS,
    // Its order is not that of its texts.
    prepare: "CREATE TYPE @.label AS ENUM (" +
      `${Array.from({ length: LABELS }, (_, n) => `'e${n * 77 % LABELS}'`).join()});`,
  },
  {
    name: "boolean and int",
    columns: [{ name: "k", type: "boolean" }, { name: "l", type: "int" }],
    of: (i) => [`((${i}) % 2 = 0)`, `((${i}) / 2)::int`],
  },
  {
    name: "text and int",
    columns: [{ name: "k", type: 'text COLLATE "und-x-icu"' }, { name: 'l "2', type: "int" }],
    order: ['l "2', "k"],
    of: (i) => [odd(`(${i}) % 37`), `((${i}) / 5)::int`],
  },
  {
    name: "int, numeric and date",
    columns: [
      { name: "k", type: "int" },
      { name: "l", type: "numeric" },
      { name: "m", type: "date" },
    ],
    order: ["m", "k", "l"],
    of: (i) => [`((${i}) % 5)`, `((${i}) / 5 * 0.5)::numeric`, `'2000-01-01'::date - (${i}) % 7`],
  },
];
