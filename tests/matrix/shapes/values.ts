/** Values of every type at its limits. https://www.postgresql.org/docs/current/datatype.html */

import { prepareSamples, SAMPLES, sampleSql } from "../../support/type_samples.ts";
import { deleted, inserted, type Shape, type Texts, updated } from "../shape.ts";

const DIGITS = "1234567890".repeat(100);

/** A type, a value as SQL, its text, and since which major. */
const LIMITS: [type: string, sql: string, text: string, since?: number][] = [
  ["int2", "-32768", "-32768"],
  ["int4", "-2147483648", "-2147483648"],
  ["int8", "-9223372036854775808", "-9223372036854775808"],
  ["int8", "9223372036854775807", "9223372036854775807"],
  ["numeric", `'${DIGITS}.${DIGITS}'`, `${DIGITS}.${DIGITS}`],
  ["numeric", "'NaN'", "NaN"],
  ["numeric", "'-Infinity'", "-Infinity", 14],
  ["numeric", "'-0.000'", "0.000"],
  ["float8", "'NaN'", "NaN"],
  ["float8", "'-0'", "-0"],
  ["float8", "'-Infinity'", "-Infinity"],
  ["float8", "0.1::float8 + 0.2::float8", "0.30000000000000004", 12],
  ["float4", "'-Infinity'", "-Infinity"],
  ["money", "'-92233720368547758.08'", "-$92,233,720,368,547,758.08"],
  ["bool", "true", "t"],
  ["text", "''", ""],
  ["text", "U&'\\+01F600 \\FEFF\\2028'", "😀 \ufeff\u2028"],
  ["text", "E'\\x01\\t\\n\\r\\\\N'", "\x01\t\n\r\\N"],
  ["varchar(3)", "'é🐘x'", "é🐘x"],
  ["char(4)", "'ab'", "ab  "],
  ['"char"', "'x'", "x"],
  ['"char"', "''", ""],
  ["name", `'${"n".repeat(63)}'`, "n".repeat(63)],
  ["bytea", "''", "\\x"],
  ["bytea", "'\\x00ff5c27'", "\\x00ff5c27"],
  ["date", "'infinity'", "infinity"],
  ["date", "'4714-11-24 BC'", "4714-11-24 BC"],
  ["date", "'5874897-12-31'", "5874897-12-31"],
  ["time", "'24:00:00'", "24:00:00"],
  ["timetz", "'00:00:00+15:59:59'", "00:00:00+15:59:59"],
  ["timestamp", "'4714-11-24 00:00:00 BC'", "4714-11-24 00:00:00 BC"],
  ["timestamp", "'294276-12-31 23:59:59.999999'", "294276-12-31 23:59:59.999999"],
  ["timestamptz", "'-infinity'", "-infinity"],
  ["timestamptz", "'2024-02-29 23:59:59.999999+05:30'", "2024-02-29 18:29:59.999999+00"],
  [
    "interval",
    "'-178000000 years 1 day -0.000001 sec'",
    "-178000000 years +1 day -00:00:00.000001",
  ],
  ["interval", "'0'", "00:00:00"],
  ["uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"],
  ["oid", "4294967295", "4294967295"],
  ["xid", "'4294967295'", "4294967295"],
  ["pg_lsn", "'FFFFFFFF/FFFFFFFF'", "FFFFFFFF/FFFFFFFF"],
  ["bit(5)", "'10110'", "10110"],
  ["varbit", "''", ""],
  ["inet", "'::ffff:1.2.3.4/96'", "::ffff:1.2.3.4/96"],
  ["cidr", "'10.0.0.0/8'", "10.0.0.0/8"],
  ["macaddr8", "'08:00:2b:01:02:03:04:05'", "08:00:2b:01:02:03:04:05"],
  [
    "json",
    `' {"b" : 1.0e10,  "a": null, "a": "\\u0000"}'`,
    ` {"b" : 1.0e10,  "a": null, "a": "\\u0000"}`,
  ],
  ["jsonb", `'{"b": 1.0e10, "a": "", "a": [1]}'`, '{"a": [1], "b": 10000000000}'],
  ["xml", "'<a b=\"&amp;\">\t<c/></a>'", '<a b="&amp;">\t<c/></a>'],
  ["point", "'(-0,Infinity)'", "(-0,Infinity)"],
  ["box", "'(0,0),(1,2)'", "(1,2),(0,0)"],
  ["path", "'[(1,2),(3,4)]'", "[(1,2),(3,4)]"],
  ["circle", "'<(1,2),3>'", "<(1,2),3>"],
  ["tsvector", "'''it''''s'':1A b:2,3'", "'b':2,3 'it''s':1A"],
  ["tsquery", "'a & !b:*C <-> d'", "'a' & !'b':*C <-> 'd'"],
  ["int4[]", "'{}'", "{}"],
  ["int4[]", "'[-1:0][5:6]={{1,NULL},{3,4}}'", "[-1:0][5:6]={{1,NULL},{3,4}}"],
  [
    "text[]",
    `ARRAY['', NULL, 'NULL', 'a"b', '{,}', ' ', E'\\\\']`,
    `{"",NULL,"NULL","a\\"b","{,}"," ","\\\\"}`,
  ],
  ["int4range", "'[1,3]'", "[1,4)"],
  ["int8range", "'empty'", "empty"],
  [
    "tstzrange",
    "'[\"0044-03-15 00:00:00+00 BC\",infinity)'",
    '["0044-03-15 00:00:00+00 BC",infinity)',
  ],
  ["numrange", "'(,1.50]'", "(,1.50]"],
  ["nummultirange", "'{[1.1,2), (5,)}'", "{[1.1,2),(5,)}", 14],
  ["mood", "'so ''so'''", "so 'so'"],
  ["short", "'ab'", "ab"],
  ["pair", `ROW('a"b, (', NULL, ARRAY['x y'])`, `("a""b, (",,"{""x y""}")`],
  ["pair[]", `ARRAY[ROW('', 1, '{}')::pair, NULL]`, `{"(\\"\\",1,{})",NULL}`],
  ["loud", "'QuIeT'", "QuIeT"],
];

/** Values, one table each. */
export const VALUES: Shape[] = [
  {
    name: "each type's limits come as the manual says that they are printed",
    script: (major) => {
      const known = LIMITS.filter(([, , , since = 10]) => major >= since);
      const names = known.map((_, index) => `c${index}`);
      const row: Texts = Object.fromEntries([
        ["id", "1"],
        ...names.map((name, index) => [name, known[index]![2]]),
      ]);
      const none: Texts = Object.fromEntries([["id", "2"], ...names.map((name) => [name, null])]);
      const values = known.map(([type, sql]) => `(${sql})::${type}`);
      return {
        // As citext is made: a type of its own with the functions of text.
        before: `CREATE TYPE mood AS ENUM ('sad', 'so ''so'''); CREATE DOMAIN short AS varchar(5);
          CREATE TYPE pair AS (a text, "b c" int, d text[]); CREATE TYPE loud;
          CREATE FUNCTION loudin(cstring) RETURNS loud LANGUAGE internal IMMUTABLE STRICT AS 'textin';
          CREATE FUNCTION loudout(loud) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
          CREATE TYPE loud (INPUT = loudin, OUTPUT = loudout, LIKE = text);
          CREATE TABLE t (id int PRIMARY KEY, ${
          names.map((name, index) => `${name} ${known[index]![0]}`).join()
        }); ALTER TABLE t REPLICA IDENTITY FULL`,
        watch: ["t"],
        steps: [
          `INSERT INTO t VALUES (1, ${values.join()})`,
          `UPDATE t SET id = 2, ${names.map((name) => `${name} = NULL`).join()}`,
          `UPDATE t SET id = 1, ${names.map((name, index) => `${name} = ${values[index]}`).join()}`,
          "DELETE FROM t",
        ],
        transactions: [
          [inserted("t", "1", row)],
          [updated("t", "2", none, { oldKey: "1", oldRow: row })],
          [updated("t", "1", row, { oldKey: "2", oldRow: none })],
          [deleted("t", "1", row)],
        ],
      };
    },
  },
  {
    name: "every type that the server has comes as SELECT prints it, inserted, updated and deleted",
    script: (major) => ({
      before: prepareSamples(major),
      watch: ["t"],
      prepare: async (world) => {
        const columns = await sampledColumns(world.query, major);
        await world.query(
          `CREATE TABLE t (id int PRIMARY KEY, ${
            columns.map(({ type }, index) => `c${index} ${type}`).join()
          }); ALTER TABLE t REPLICA IDENTITY FULL`,
        );
      },
      steps: [
        async (world) => {
          const columns = await sampledColumns(world.query, major);
          const rows = Math.max(...columns.map(({ samples }) => samples.length));
          const valuesOf = (id: number) =>
            columns.map(({ samples }) => samples[id % samples.length]!);
          for (let id = 0; id < rows; id++) {
            await world.query(`INSERT INTO t VALUES (${id}, ${valuesOf(id).join()})`);
          }
          for (let id = 0; id < rows; id += 2) {
            const changed = valuesOf(id + 1).map((value, index) => `c${index} = ${value}`);
            await world.query(`UPDATE t SET ${changed.join()} WHERE id = ${id}`);
          }
          await world.query("DELETE FROM t WHERE id % 3 = 0");
        },
      ],
      transactions: null,
    }),
  },
];

async function sampledColumns(
  query: (sql: string) => Promise<Record<string, unknown>[]>,
  major: number,
): Promise<{ type: string; samples: string[] }[]> {
  const names = Object.keys(SAMPLES).map((name) =>
    /^[a-z0-9_]+$/.test(name) ? `pg_catalog."${name}"` : name
  );
  const columns: { type: string; samples: string[] }[] = [];
  for (const [index, name] of Object.keys(SAMPLES).entries()) {
    const type = names[index]!;
    const [known] = await query(
      `SELECT to_regtype('${
        type.replace(/\(.*\)| year to month/, "").replaceAll("'", "''")
      }') AS found`,
    );
    if (known!.found === null) continue;
    const samples = SAMPLES[name]!.map((sample) => `(${sampleSql(sample, major)})::${type}`);
    columns.push({ type, samples: [...samples, "NULL"] });
  }
  return columns;
}
