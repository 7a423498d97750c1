/** What the catalogue says of types. */
import type { Connection } from "../wire/connection.ts";
import { nonsense, numberOf, rowsOf, textOf } from "./server.ts";

/** A type of data as it stands in the catalogue. */
export interface CatalogType {
  /** `pg_type.oid` */
  oid: number;
  /** `pg_type.typname` */
  name: string;
  /** `pg_type.typtype` */
  kind: string;
  /** `pg_type.typdelim`, one character. */
  delimiter: string;
  /** What it is an array of; null for anything but a true array. */
  element: CatalogType | null;
}

/**
 * Looks types up by their OIDs, an array's element with it; those that are not there are left out.
 *
 * @param oids one or more
 */
export async function readTypes(
  connection: Connection,
  oids: readonly number[],
  signal?: AbortSignal,
): Promise<CatalogType[]> {
  // int2vector and its kind have elements and are no arrays; an array's element knows it as such.
  const result = await connection.query(
    `SELECT t.oid, t.typname, t.typtype, t.typdelim, e.oid AS element, e.typname AS element_name,
      e.typtype AS element_type, e.typdelim AS element_delimiter
    FROM pg_catalog.pg_type t
      LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
    WHERE t.oid IN (${oids.join(", ")})`,
    { signal },
  );
  return rowsOf(result).map((row) => {
    if (!/^.$/su.test(textOf(row, "typdelim"))) throw nonsense("typdelim");
    return {
      oid: numberOf(row, "oid"),
      name: textOf(row, "typname"),
      kind: textOf(row, "typtype"),
      delimiter: textOf(row, "typdelim"),
      element: row.element === null ? null : {
        oid: numberOf(row, "element"),
        name: textOf(row, "element_name"),
        kind: textOf(row, "element_type"),
        delimiter: textOf(row, "element_delimiter"),
        element: null,
      },
    };
  });
}

/**
 * True while the server does not show yet what a transaction did, though its commit may have been streamed:
 * that waits for synchronous standbys, when its record is already written.
 *
 * @param xid 32 bits, as a Begin has it
 */
export async function isHidden(
  connection: Connection,
  xid: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const result = await connection.query(
    `SELECT (${xid} - pg_catalog.txid_snapshot_xmax(s)) & 4294967295 < 2147483648 OR EXISTS (
      SELECT FROM pg_catalog.txid_snapshot_xip(s) x WHERE x & 4294967295 = ${xid}) AS hidden
    FROM pg_catalog.txid_current_snapshot() AS s`,
    { signal },
  );
  return textOf(rowsOf(result)[0], "hidden") === "t";
}
