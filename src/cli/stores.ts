/** From what a configuration says of a store to its sink. A driver is loaded with the first store that needs it. */

import process from "node:process";
import { PgStreamError } from "../errors.ts";
import type { QdrantIndexSchema } from "../sinks/qdrant.ts";
import type { SinkLike } from "../sinks/sink.ts";
import { environment } from "../wire/environment.ts";
import { readTextFile } from "../wire/files.ts";
import { parseConnectionOptions } from "../wire/options.ts";
import type { SinkConfig } from "./config.ts";
import { CliError } from "./errors.ts";
import { pick } from "./pick.ts";
import type { Settings } from "./settings.ts";
import { sameKey } from "./same_key.ts";

const DEFAULT_QDRANT_URL = "http://localhost:6333";

/**
 * The store that a configuration means, which is connected to when it is used; a sink is what it is.
 *
 * @param place in the file, for errors
 * @throws {CliError} of kind `config`.
 */
export async function sinkOf(
  sink: SinkConfig | SinkLike,
  settings: Pick<Settings, "dsn">,
  place = "sink",
): Promise<SinkLike> {
  if (!isConfig(sink)) return sink;
  try {
    return sink.type === "pgvector" ? await pgvector(sink, settings) : await qdrant(sink);
  } catch (error) {
    throw inPlace(place, error);
  }
}

/** An error of the library for what a file says, with its place there. */
export function inPlace(place: string, error: unknown): unknown {
  if (!(error instanceof PgStreamError)) return error;
  return new CliError(`${place}: ${error.summary}`, {
    kind: "config",
    ...error.hint === undefined ? {} : { hint: error.hint },
  });
}

/** Tables that say the same have the same store: what it keeps of the stream is kept once. */
export class Stores {
  readonly #settings: Pick<Settings, "dsn">;
  readonly #made = new Map<unknown, SinkLike>();

  /** Makes none yet. */
  constructor(settings: Pick<Settings, "dsn">) {
    this.#settings = settings;
  }

  /** The sink. @throws as `sinkOf()` */
  async of(sink: SinkConfig | SinkLike, place: string): Promise<SinkLike> {
    const key = isConfig(sink) ? sameKey(sink) : sink;
    const made = this.#made.get(key) ?? await sinkOf(sink, this.#settings, place);
    this.#made.set(key, made);
    return made;
  }
}

async function pgvector(
  { dimensions, vectorType, index = "hnsw", ...sink }: Extract<SinkConfig, { type: "pgvector" }>,
  { dsn }: Pick<Settings, "dsn">,
): Promise<SinkLike> {
  const { PgVectorSink } = await import("../sinks/pgvector.ts");
  return new PgVectorSink({
    dsn: sink.dsn ?? sourceUri(dsn),
    ...pick(sink, "table"),
    ...pick(sink, "prepare"),
    ...dimensions === undefined ? {} : {
      createTable: {
        dimensions,
        ...vectorType === undefined ? {} : { type: vectorType },
        ...index === "none" ? {} : { index },
      },
    },
  });
}

async function qdrant(sink: Extract<SinkConfig, { type: "qdrant" }>): Promise<SinkLike> {
  const { QdrantSink } = await import("../sinks/qdrant.ts");
  const { url = DEFAULT_QDRANT_URL, dimensions, distance = "Cosine", payloadIndexes } = sink;
  const apiKey = sink.apiKey ?? process.env.QDRANT_API_KEY;
  return new QdrantSink({
    url,
    ...pick(sink, "collectionName"),
    ...pick(sink, "vectorName"),
    ...pick(sink, "timeoutMs"),
    ...apiKey ? { apiKey } : {},
    ...dimensions === undefined ? {} : { createCollection: { size: dimensions, distance } },
    ...payloadIndexes === undefined
      ? {}
      : { payloadIndexes: payloadIndexes as Record<string, QdrantIndexSchema> },
  });
}

/** The source's address as the driver of pgvector takes it, which knows no other form than a URI. */
function sourceUri(dsn: string | undefined): string {
  const given = dsn ?? process.env.DATABASE_URL ?? "";
  if (/^postgres(ql)?:\/\//.test(given)) return given;
  const { options } = parseConnectionOptions(dsn, environment(), readTextFile);
  const { hosts, user, password = hosts[0]!.password, database, ssl } = options;
  const part = encodeURIComponent;
  const secret = password === undefined ? "" : `:${part(password)}`;
  const servers = hosts.map(({ host, hostaddr = host, port }) =>
    `${hostaddr.includes(":") ? `[${hostaddr}]` : part(hostaddr)}:${port}`
  );
  return `postgresql://${part(user)}${secret}@${servers}/${part(database)}?sslmode=${ssl.mode}`;
}

function isConfig(sink: SinkConfig | SinkLike): sink is SinkConfig {
  return Object.getPrototypeOf(sink) === Object.prototype &&
    typeof (sink as SinkConfig).type === "string";
}
