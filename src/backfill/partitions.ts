/** The partitions of a table. */

/**
 * Common table expressions, beginning with `WITH RECURSIVE`, of which `tree(oid)` holds the table and,
 * where it is the root of partitions, all of them at any depth. Children by inheritance are tables of
 * their own, and not among them.
 */
export function partitionTreeSql(oid: number): string {
  return `WITH RECURSIVE tree(oid) AS (
    SELECT ${oid}::pg_catalog.oid
    UNION ALL
    SELECT i.inhrelid FROM tree t
      JOIN pg_catalog.pg_class p ON p.oid = t.oid AND p.relkind = 'p'
      JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
  )`;
}
