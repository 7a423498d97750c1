/** Which publication `pgstream tail` reads from, so that it disturbs nobody and leaves nothing. */

import { publishes } from "../inspect/publishes.ts";
import { dropLeftPublications } from "../replication/left_publications.ts";
import { PublicationError } from "../replication/errors.ts";
import type { PgStream } from "../stream/pg_stream.ts";
import { formatTableName, quoteTableName } from "../table_name.ts";
import { parseWatchedName } from "../replication/watched_table.ts";
import { CliError } from "./errors.ts";
import type { Settings } from "./settings.ts";

/** Of all that `tail` makes. */
const PREFIX = "pgstream_tail_";
/** One that is younger may be about to be read from: its slot is made a moment later. */
const LEFT_AFTER_MS = 3_600_000;

/** A name that no other tail has; it tells when it began. */
export function tailName(nowMs: number): string {
  const began = Math.floor(nowMs / 1000).toString(36);
  return `${PREFIX}${began}_${crypto.randomUUID().slice(0, 8)}`;
}

/** When the tail of this name began; null where it is no name of a tail. */
export function beganMs(name: string): number | null {
  const began = /^pgstream_tail_([0-9a-z]{6,7})_[0-9a-f]{8}$/.exec(name)?.[1];
  return began === undefined ? null : parseInt(began, 36) * 1000;
}

/** True where the publication of the settings has all of the tables: it can be read from as it is. */
export async function isPublished(
  { dsn, publicationName, logger }: Settings,
  tables: readonly string[],
  signal: AbortSignal,
): Promise<boolean> {
  const source = dsn === undefined ? { logger } : { dsn, logger };
  return await publishes({ ...source, publicationName, tables, signal });
}

/**
 * Makes the publication of a tail, and drops those of others that were killed.
 *
 * @throws {CliError} of kind `publication-privilege`, where the role may make none; what `setup()` throws.
 */
export async function makePublication(
  stream: PgStream,
  { dsn, logger }: Settings,
  tables: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const isLeft = (name: string) => {
    const began = beganMs(name);
    return began !== null && Date.now() - began > LEFT_AFTER_MS;
  };
  const source = dsn === undefined ? { logger } : { dsn, logger };
  // Whoever may drop none, or is not in time, has the same changes to see.
  await dropLeftPublications(source, isLeft, signal).catch((error) => {
    signal.throwIfAborted();
    logger.debug("Publications of tails that were killed stay", error);
  });
  try {
    await stream.setup({ signal });
  } catch (error) {
    const refused = error instanceof PublicationError && error.kind === "publication-privilege";
    if (!refused) throw error;
    const names = tables.map((name) => quoteTableName(parseWatchedName(name))).join(", ");
    throw new CliError(
      `No publication has ${
        tables.map((name) => formatTableName(parseWatchedName(name))).join(", ")
      }, ` +
        "and this role may make none",
      {
        kind: error.kind,
        hint: `Let their owner run CREATE PUBLICATION pgstream_tail FOR TABLE ${names}; ` +
          "then add --publication pgstream_tail",
        cause: error,
      },
    );
  }
}
