/** What the catalogue says of a table that is to be read, as one expression of SQL. */
import { quoteLiteral } from "../wire/quote.ts";

/** An operator, for OPERATOR(schema.name). */
export interface Operator {
  /** The schema that it is in. */
  schema: string;
  /** Its name. */
  name: string;
}

/** A column of the primary key, and how to compare it as the key's index does. */
export interface KeyColumn {
  /** The column's name. */
  name: string;
  /** The type to cast a value to, as SQL: a domain's base type, with no length or precision. */
  type: string;
  /** True where the column's own type is a domain. */
  domain: boolean;
  /** True for an array, or what subscripts like one. */
  array: boolean;
  /** `>` of the index's operator family. */
  greater: Operator;
  /** `>=` of the same. */
  greaterOrEqual: Operator;
  /** `=` of the same. */
  equal: Operator;
}

/** The JSON text that `planFactsSql` gives. */
export interface PlanFacts {
  schema: string;
  table: string;
  /** `pg_class.relkind` */
  kind: string;
  /** `pg_class.relreplident` */
  replicaIdentity: string;
  /** Null where the publication does not carry the table. */
  published: { filter: string | null } | null;
  /** Those that are published, in the table's order. */
  columns: { name: string; type: string }[] | null;
  /** The primary key's columns in its order, published or not. */
  key: KeyColumn[] | null;
  /** Columns of the index that REPLICA IDENTITY USING INDEX names. */
  identityIndex: string[] | null;
}

/**
 * A scalar expression: all that decides how the table's rows are read, as JSON text; NULL where the
 * table is gone. Beside what `PlanFacts` names, it tells column numbers, types and collations, so that
 * it changes with them. Names are qualified, as they are with the empty search_path of connections.
 */
export function planFactsSql(oid: number, publicationName: string, serverVersion: number): string {
  const hasColumnLists = serverVersion >= 150000;
  // A generated column is known by attgenerated (12+); which of them are published is settled in
  // attnames since 18.
  const published = [
    ...(hasColumnLists ? ["a.attname = ANY (p.attnames)"] : []),
    ...(serverVersion >= 120000 && serverVersion < 180000 ? ["a.attgenerated = ''"] : []),
  ];
  // Since 11 an index may INCLUDE columns that are no part of its key.
  const isKey = serverVersion >= 110000 ? "k.position <= i.indnkeyatts" : "true";
  const operator = (strategy: number) =>
    `(SELECT pg_catalog.json_build_object('schema', s.nspname, 'name', o.oprname)
      FROM pg_catalog.pg_amop m
        JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
        JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
      WHERE m.amopfamily = x.opcfamily AND m.amopstrategy = ${strategy}
        AND m.amoplefttype = x.opcintype AND m.amoprighttype = x.opcintype)`;
  const indexColumns = (value: string, condition: string) =>
    `(SELECT pg_catalog.json_agg(${value} ORDER BY k.position)
      FROM pg_catalog.pg_index i,
        pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k(attnum, position),
        pg_catalog.pg_attribute a,
        pg_catalog.pg_opclass x,
        LATERAL (
          WITH RECURSIVE type(oid) AS (
            SELECT a.atttypid
            UNION ALL
            SELECT d.typbasetype FROM type y
              JOIN pg_catalog.pg_type d ON d.oid = y.oid AND d.typtype = 'd'
          )
          SELECT b.oid, b.typelem, b.typlen FROM type y
            JOIN pg_catalog.pg_type b ON b.oid = y.oid AND b.typtype <> 'd'
        ) AS b
      WHERE i.indrelid = c.oid AND i.indisvalid AND ${condition} AND ${isKey}
        AND a.attrelid = c.oid AND a.attnum = k.attnum
        AND x.oid = i.indclass[k.position::pg_catalog.int4 - 1])`;
  return `(SELECT pg_catalog.json_build_object(
      'schema', n.nspname,
      'table', c.relname,
      'kind', c.relkind::pg_catalog.text,
      'replicaIdentity', c.relreplident::pg_catalog.text,
      'published', CASE WHEN p.pubname IS NOT NULL THEN
        pg_catalog.json_build_object('filter', ${hasColumnLists ? "p.rowfilter" : "NULL"}) END,
      'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname,
          'place', a.attnum, 'type', a.atttypid, 'modifier', a.atttypmod,
          'collation', a.attcollation) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE ${
    ["a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped", ...published]
      .join(" AND ")
  }),
      'key', ${
    indexColumns(
      `pg_catalog.json_build_object('name', a.attname,
        'type', pg_catalog.format_type(b.oid, -1), 'domain', b.oid <> a.atttypid,
        'array', b.typelem <> 0 AND b.typlen = -1, 'operatorClass', x.oid,
        'greater', ${operator(5)}, 'greaterOrEqual', ${operator(4)}, 'equal', ${operator(3)})`,
      "i.indisprimary",
    )
  },
      'identityIndex', ${indexColumns("a.attname", "i.indisreplident")}
    )::pg_catalog.text
    FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_publication_tables p
        ON p.pubname = ${quoteLiteral(publicationName)}
        AND p.schemaname = n.nspname AND p.tablename = c.relname
    WHERE c.oid = ${oid})`;
}

/**
 * A scalar expression whose text changes whenever a plan has to: what `ReadPlan.signature` is, to be asked
 * in the statement that takes a snapshot. NULL where the table is gone. It is asked for each chunk, and so
 * looks at rows of the catalogue by their indexes, and at nothing else.
 */
export function planSignature(
  oid: number,
  publicationName: string,
  serverVersion: number,
): string {
  const generated = serverVersion >= 120000 ? ", a.attgenerated" : "";
  const publications = `pg_catalog.pg_publication p
    WHERE p.pubname = ${quoteLiteral(publicationName)}`;
  // Since 15 a publication may have all tables of a schema.
  const schemas = serverVersion >= 150000
    ? `, (SELECT pg_catalog.string_agg(s.oid::pg_catalog.text, ',' ORDER BY s.oid)
        FROM pg_catalog.pg_publication_namespace s, pg_catalog.pg_publication p
        WHERE s.pnnspid = c.relnamespace AND s.pnpubid = p.oid
          AND p.pubname = ${quoteLiteral(publicationName)})`
    : "";
  return `(SELECT pg_catalog.md5(pg_catalog.concat_ws('|',
      c.relnamespace, c.relname, c.relkind, c.relreplident,
      (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.attname, a.atttypid,
          a.atttypmod, a.attcollation, a.attisdropped${generated}), ',' ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
      (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', i.indexrelid, i.indisprimary,
          i.indisreplident, i.indisvalid, i.indkey, i.indclass), ',' ORDER BY i.indexrelid)
        FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)),
      (SELECT p::pg_catalog.text FROM ${publications}),
      (SELECT pg_catalog.string_agg(r::pg_catalog.text, ',' ORDER BY r.oid)
        FROM pg_catalog.pg_publication_rel r WHERE r.prrelid = c.oid)${schemas}))
    FROM pg_catalog.pg_class c WHERE c.oid = ${oid})`;
}
