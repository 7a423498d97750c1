/** Asks the catalogue for types that Postgres does not ship. Loaded with the first table that needs it. */
import { pause } from "../backoff.ts";
import type { LookUpTypes } from "../delivery/row_values.ts";
import { withDeadline } from "../replication/deadline.ts";
import { isHidden, readTypes } from "../replication/types.ts";
import type { Connector } from "../wire/connector.ts";

/** How long the server may take to answer. */
const ANSWER_MS = 30_000;
/** Between two looks for types that a transaction has made and that nobody sees yet. */
const BETWEEN_LOOKS_MS = 100;

/**
 * Looks types up as they are now. Those that the transaction itself has made are waited for: it may be
 * streamed before they are seen.
 *
 * @param xid of the transaction at hand
 */
export function lookUpTypes(connector: Connector, xid: number, signal: AbortSignal): LookUpTypes {
  return async (oids) => {
    for (;;) {
      const { types, hidden } = await look(connector, oids, xid, signal);
      const gone = oids.filter((oid) => !types.some((type) => type.oid === oid));
      if (gone.length === 0) return types;
      if (!hidden) {
        connector.logger.warn(
          `Types that columns had are dropped since: OID ${
            gone.join(", ")
          }. Their values stay text`,
        );
        return types;
      }
      await pause(BETWEEN_LOOKS_MS, signal);
      signal.throwIfAborted();
    }
  };
}

async function look(
  connector: Connector,
  oids: readonly number[],
  xid: number,
  signal: AbortSignal,
) {
  return await withDeadline("what types columns have", ANSWER_MS, signal, async (signal) => {
    const connection = await connector.connect({ signal });
    try {
      // In this order: what is not hidden any more is in what is read then.
      const hidden = await isHidden(connection, xid, signal);
      return { hidden, types: await readTypes(connection, oids, signal) };
    } finally {
      await connection.close();
    }
  });
}
