/** A table as the catalogue would show it. */
import type { CatalogTable } from "../../src/replication/tables.ts";

/** `public.documents` with the primary key `id`, but for what is given. */
export function catalogTable(fields: Partial<CatalogTable> = {}): CatalogTable {
  return {
    schema: "public",
    table: "documents",
    oid: 1,
    partitioned: false,
    replicaIdentity: "default",
    primaryKey: ["id"],
    deferrableKey: false,
    columns: ["id"],
    identityIndex: [],
    generated: [],
    virtual: [],
    partitionsWithoutIdentity: [],
    ...fields,
  };
}
