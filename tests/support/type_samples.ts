/** Values of every type that PostgreSQL ships, as SQL; several where their text is tricky. */

const TEXTS = [
  "''",
  "'\\N'",
  "'\\.'",
  "E'\\\\'",
  "E'a\\tb\\nc\\rd\\be\\ff\\vg'",
  "U&'\\FEFFmark'",
  "'NULL'",
  `'"{,}" '`,
  "''''",
  "E'\\x01\\x7f'",
  "U&'\\+01F600 \\00E9 e\\0301 \\2028'",
  "' blanks  '",
  "repeat('long ', 2000)",
  "(SELECT string_agg(md5(n::text), E'\\n') FROM generate_series(1, 200) n)",
];
const DATES = ["'2024-02-29'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'4713-01-01 BC'"];
const TIMESTAMPS = [
  "'2024-02-29 12:34:56.123456'",
  "'1999-12-31 23:59:59.999999'",
  "'0001-12-31 23:59:59 BC'",
  "'infinity'",
  "'-infinity'",
  "'294276-12-31 23:59:59'",
];
const INTERVALS = [
  "'1 year -2 mons +3 days -04:05:06.789'",
  "'-1 day'",
  "'0'",
  "'178000000 years'",
  "'1 month 30 days'",
];
const FLOATS = ["'NaN'", "'-0'", "'Infinity'", "'-Infinity'", "0.1", "1e-30", "1.0 / 3"];

/** What the samples name; run it before them. @param major of the server */
export function prepareSamples(major: number): string {
  return `
    CREATE TABLE public."Odd ""Name" (id int DEFAULT 7 + 1, other int);
    INSERT INTO public."Odd ""Name" SELECT n % 10, n % 5 FROM generate_series(1, 1000) n;
    CREATE STATISTICS public.both ON id, other FROM public."Odd ""Name";
    ANALYZE public."Odd ""Name";
    CREATE FUNCTION public.same(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE OPERATOR public.=== (LEFTARG = int, RIGHTARG = int, PROCEDURE = int4eq);
    CREATE TEXT SEARCH CONFIGURATION public.conf (COPY = simple);
    CREATE TEXT SEARCH DICTIONARY public.dict (TEMPLATE = simple);
    CREATE COLLATION public.coll FROM "C";
    CREATE TYPE public.mood AS ENUM ('', 'so so', 'it''s "fine", \\N');
    CREATE DOMAIN public.short AS varchar(10);
    CREATE TYPE public.pair AS (a text, "b c" int, d timestamptz, e float8[]);
    CREATE TYPE public.floatrange AS RANGE (subtype = float8);
    ${
    major >= 11 ? "CREATE DOMAIN public.several AS int[]; CREATE DOMAIN public.two AS pair;" : ""
  }`;
}

/** By the type's name; those of other schemas than `pg_catalog` with theirs. */
export const SAMPLES: Record<string, readonly string[]> = {
  abstime: ["'2001-02-03 04:05:06+00'", "'infinity'"],
  aclitem: ["'postgres=r*w/postgres'", "'=r/postgres'"],
  bit: ["'1'", "'0'"],
  bool: ["true", "false"],
  box: ["'(1,2),(-0,1e-20)'", "'(NaN,1),(Infinity,-Infinity)'"],
  bpchar: TEXTS,
  bytea: ["''", "'\\x00'", "'\\x5c270a09ff'", "decode(repeat('00ff5c', 3000), 'hex')"],
  char: ["'x'", "''", "' '"],
  cid: ["'7'"],
  cidr: ["'10.0.0.0/8'", "'2001:db8::/32'"],
  circle: ["'<(1,2),3>'", "'<(-0,1e-20),0.1>'"],
  date: DATES,
  datemultirange: ["'{}'", "'{[2024-01-01,2024-02-01),[2025-01-01,)}'", "'{(,)}'"],
  daterange: ["'empty'", "'[2024-01-01,infinity]'", "'(,0044-03-15 BC]'", "'(,)'"],
  float4: FLOATS.map((value) => `${value}::float4`),
  float8: [...FLOATS.map((value) => `${value}::float8`), "1e-310::float8"],
  inet: ["'10.1.2.3/8'", "'::1'", "'::ffff:1.2.3.4/128'"],
  int2: ["-32768", "0"],
  int4: ["-2147483648", "7"],
  int8: ["-9223372036854775808", "9007199254740993"],
  int4multirange: ["'{}'", "'{[1,3),[5,8)}'"],
  int4range: ["'[1,3]'", "'empty'", "'(,5)'"],
  int8multirange: ["'{[1,3),[9007199254740993,)}'"],
  int8range: ["'[1,9007199254740993]'"],
  interval: INTERVALS,
  json: [
    `'{"b" :  1.0e10, "a": "\\u00e9\\n\\\\ \\" /", "a": null}'`,
    "'\"\"'",
    "' [1 , 2] '",
  ],
  jsonb: [`'{"b": 1.0e10, "a": "\\u00e9\\n\\\\ \\" \\t/", "": null}'`, "'\"\"'", "'[1, 1.50]'"],
  jsonpath: [`'$."a b"[*] ? (@.x > 1.5 && @.y like_regex "^\\\\d")'`],
  line: ["'{1,-2.5,0.1}'"],
  lseg: ["'[(1,2),(-0,1e-20)]'"],
  macaddr: ["'08:00:2b:01:02:03'"],
  macaddr8: ["'08:00:2b:01:02:03:04:05'"],
  money: ["'-1234567.89'", "'0'", "'$92,233,720,368,547,758.07'"],
  name: ["'a name'", "''", "'\"q\"'"],
  numeric: ["'NaN'", "'-0.00'", "1.10", "1e100", "1e-100", "123456789012345678901234567890.5"],
  nummultirange: ["'{[1.10,2.0),(5,)}'"],
  numrange: ["'[1.10,2.0]'", "'(,NaN)'", "'empty'"],
  oid: ["4294967295", "0"],
  path: ["'((1,2),(3,4))'", "'[(1,2),(-0,4)]'"],
  pg_dependencies: ["(SELECT %dependencies FROM % LIMIT 1)"],
  pg_lsn: ["'0/0'", "'FFFFFFFF/FFFFFFFF'"],
  pg_mcv_list: ["(SELECT %mcv FROM % LIMIT 1)"],
  pg_ndistinct: ["(SELECT %ndistinct FROM % LIMIT 1)"],
  pg_node_tree: ["(SELECT adbin FROM pg_attrdef LIMIT 1)"],
  pg_snapshot: ["'10:20:10,14,15'"],
  point: ["'(1.5,-0)'", "'(NaN,Infinity)'"],
  polygon: ["'((1,2),(3,4),(5,0.1))'"],
  refcursor: TEXTS.slice(0, 5),
  regclass: [`'public."Odd ""Name"'`, "'pg_class'", "0", "4000000000::oid"],
  regcollation: ["'public.coll'", `'"C"'`],
  regconfig: ["'public.conf'", "'simple'"],
  regdictionary: ["'public.dict'", "'simple'"],
  regnamespace: ["'public'", "0"],
  regoper: ["'public.==='", "'||/'"],
  regoperator: ["'public.===(int,int)'", "'+(int,int)'"],
  regproc: ["'public.same'", "'now'"],
  regprocedure: ["'public.same(int)'", "'sum(int4)'"],
  regrole: ["'postgres'", "0"],
  regtype: ["'public.mood'", "'timestamptz[]'"],
  reltime: ["'1 day'", "'-1 hour'"],
  smgr: ["'magnetic disk'"],
  text: TEXTS,
  tid: ["'(4294967295,65535)'"],
  time: ["'24:00:00'", "'12:34:56.123456'"],
  timestamp: TIMESTAMPS,
  timestamptz: TIMESTAMPS,
  timetz: ["'24:00:00-15:59'", "'12:34:56.123456+05:30'"],
  tinterval: [`'["2001-02-03 04:05:06+00" "2002-02-03 04:05:06+00"]'`],
  tsmultirange: ["'{[2024-01-01,2024-02-01 12:00)}'"],
  tsquery: ["'''a b'' & !c:*AB | d <2> e'", "''"],
  tsrange: ["'[\"0044-03-15 BC\",infinity)'", "'(,)'"],
  tstzmultirange: ["'{[2024-01-01,2024-02-01 12:00)}'"],
  tstzrange: ["'[2024-01-01 00:00+05:30,)'", "'empty'"],
  tsvector: ["'''a b'':1A,2 \"c\" ''it''''s'':3 \\\\''d'", "''"],
  txid_snapshot: ["'10:20:10,14,15'"],
  uuid: ["'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
  varbit: ["''", "'10110'"],
  varchar: TEXTS,
  xid: ["4294967295::text::xid", "'3'"],
  xid8: ["'18446744073709551615'"],
  xml: ["'<a b=\"&amp;\">\t&#10;<c/></a>'", "''"],
  "information_schema.cardinal_number": ["5"],
  "information_schema.character_data": TEXTS,
  "information_schema.sql_identifier": ["'a \"b\"'"],
  "information_schema.time_stamp": TIMESTAMPS.slice(0, 2),
  "information_schema.yes_or_no": ["'YES'"],
  "public.mood": ["''", "'so so'", "'it''s \"fine\", \\N'"],
  "public.short": TEXTS.slice(0, 6).map((text) => `left(${text}, 10)`),
  "public.pair": [
    "ROW(NULL, NULL, NULL, NULL)",
    "ROW('', 1, '2024-02-29 12:34:56+00', '{}')",
    `ROW('"a, b\\', -1, '-infinity', '{NULL,NaN,-0,0.1}')`,
  ],
  "public.floatrange": ["'[-0,0.1]'", "'(NaN,NaN]'"],
  "public.floatmultirange": ["'{[1,2),[3,4)}'"],
  "public.several": ["'{1,NULL,3}'", "'[5:6]={1,2}'", "'{}'"],
  "public.two": ["ROW('a', 1, NULL, '{1}')"],
  // Rows of catalogues are types too.
  "pg_catalog.pg_namespace": ["(SELECT n FROM pg_namespace n WHERE nspname = 'public')"],
  "pg_catalog.pg_am": ["(SELECT a FROM pg_am a WHERE amname = 'btree')"],
  // Types that say more.
  "char(5)": ["'a'", "'é \t'"],
  "varchar(3)": ["'abc'"],
  "numeric(10,2)": ["1", "-0.005"],
  "bit(3)": ["'101'"],
  "varbit(5)": ["'1'"],
  "timestamp(0)": TIMESTAMPS.slice(0, 3),
  "time(3)": ["'12:34:56.7891'"],
  "interval year to month": ["'1-2'"],
  "interval(2)": INTERVALS.slice(0, 3),
  "int4[][]": ["'{{1,2},{3,NULL}}'", "'[0:1][-1:0]={{1,2},{3,4}}'", "'{}'"],
  "text[]": [
    `'{"",NULL,"NULL","a\\\\\\"b","{}"," c ","d,e"}'`,
    `ARRAY[E'\\t', E'\\n', U&'\\FEFF']`,
  ],
};

/** Those of which nobody can make a value. */
export const WITHOUT_VALUES: ReadonlySet<string> = new Set([
  "gtsvector",
  "pg_brin_bloom_summary",
  "pg_brin_minmax_multi_summary",
]);

/** A sample as it is written on a server: where it keeps its statistics changed with 12. */
export function sampleSql(sample: string, major: number): string {
  const [column, table] = major >= 12
    ? ["stxd", "pg_statistic_ext_data"]
    : ["stx", "pg_statistic_ext"];
  return sample.replace(/%(?=[a-z])/, column).replace("%", table);
}
