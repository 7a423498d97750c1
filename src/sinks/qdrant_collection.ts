/** A collection of Qdrant: made or checked at its first use, its writes confirmed, its errors the sink's. */

import type { QdrantDistance, QdrantIndexSchema, QdrantSinkClient } from "./qdrant_client.ts";
import type { Finding } from "../finding.ts";
import { qdrantError, saysAlreadyExists, saysMissing } from "./qdrant_errors.ts";
import { shortNumbers } from "./qdrant_numbers.ts";
import { SinkError, type VectorPoint } from "./sink.ts";

/** How a collection is made. */
export interface QdrantCreateCollection {
  /** Dimensions of its vectors. */
  size: number;
  /** How nearness is measured. */
  distance: QdrantDistance;
  /** True: vectors are read from the disk and take little memory. Default: the server's. */
  onDisk?: boolean;
  /** Qdrant's `quantization_config`, as it is: `{ scalar: { type: "int8" } }`. Default: none. */
  quantization?: Record<string, unknown>;
  /** Qdrant's `hnsw_config`, as it is: `{ m: 32 }`. Default: the server's. */
  hnsw?: Record<string, unknown>;
}

/** Only what is durable and visible may be confirmed to Postgres, and in the order of its commits. */
export const WRITE = { wait: true, ordering: "strong" } as const;

/** What a collection of the sink is. */
export interface QdrantCollectionOptions {
  client: QdrantSinkClient;
  name: string;
  vectorName: string | undefined;
  create: QdrantCreateCollection | undefined;
}

/** A collection, and how it is asked. */
export class QdrantCollection {
  readonly #client: QdrantSinkClient;
  readonly #name: string;
  readonly #vectorName: string | undefined;
  readonly #create: QdrantCreateCollection | undefined;
  #created: Promise<void> | undefined;

  /** Nothing is requested yet. */
  constructor({ client, name, vectorName, create }: QdrantCollectionOptions) {
    this.#client = client;
    this.#name = name;
    this.#vectorName = vectorName;
    this.#create = create;
  }

  /** A vector as a point holds it. */
  vector(vector: VectorPoint["vector"]): number[] | { [name: string]: number[] } {
    const values = vector instanceof Float32Array ? shortNumbers(vector) : vector as number[];
    return this.#vectorName === undefined ? values : { [this.#vectorName]: values };
  }

  /** The vector of a point that was read; null where it has none of this name. */
  vectorOf(vector: unknown): number[] | null {
    const named = (vector ?? {}) as Record<string, unknown>;
    const values = this.#vectorName === undefined ? vector : named[this.#vectorName];
    return Array.isArray(values) ? values : null;
  }

  /** What says in a query which vectors are meant. */
  using(): { using?: string } {
    return this.#vectorName === undefined ? {} : { using: this.#vectorName };
  }

  /** Does a request once there is a collection. @throws {SinkError} */
  async run<T>(request: (client: QdrantSinkClient, name: string) => Promise<T>): Promise<T> {
    try {
      if (this.#create !== undefined) {
        this.#created ??= this.#ensure(this.#create);
        await this.#created;
      }
      return await request(this.#client, this.#name);
    } catch (error) {
      throw qdrantError(error, this.#name);
    }
  }

  /** Does a write, or many in one request. @throws {SinkError} also where one of them is not said to be done. */
  async write(
    request: (
      client: QdrantSinkClient,
      name: string,
    ) => Promise<{ status: string } | { status: string }[]>,
  ): Promise<void> {
    const results = [await this.run(request)].flat();
    const left = results.find(({ status }) => status !== "completed");
    if (left === undefined) return;
    throw new SinkError(`Collection "${this.#name}": Qdrant left a write at "${left.status}"`, {
      kind: "sink-unconfirmed",
      sink: "qdrant",
      retryable: true,
      hint: "The server is overloaded, or something between it and the sink drops wait=true",
    });
  }

  /**
   * Makes the payload indexes that are missing. Where the collection refuses filters by what has no index, as
   * Qdrant's cloud has it by default, `whereStrict` are made, too.
   *
   * @throws {SinkError} also where there is one of another type, which Qdrant would put ours in the place of.
   */
  async prepareIndexes(
    indexes: Record<string, QdrantIndexSchema>,
    whereStrict: Record<string, QdrantIndexSchema>,
  ): Promise<void> {
    const { config, payload_schema } = await this.run((client, name) => client.getCollection(name));
    const strict = config.strict_mode_config;
    const isStrict = strict?.enabled === true && strict.unindexed_filtering_update === false;
    const wanted = { ...indexes, ...(isStrict ? whereStrict : {}) };
    for (const [field, schema] of Object.entries(wanted)) {
      const type = typeof schema === "string" ? schema : schema.type;
      const found = payload_schema?.[field]?.data_type;
      if (found === type) continue;
      if (found !== undefined) {
        throw this.#mismatch(
          `an index of ${field} of type ${found}; it is to be of type ${type}`,
          "Delete that index in Qdrant, if nothing needs it, and let it be made again",
        );
      }
      await this.#makeIndex(field, schema);
    }
  }

  async #makeIndex(field_name: string, field_schema: QdrantIndexSchema): Promise<void> {
    const index = { field_name, field_schema };
    try {
      await this.write((client, name) => client.createPayloadIndex(name, { ...WRITE, ...index }));
    } catch (error) {
      if (!(error instanceof SinkError) || error.kind !== "sink-unauthorized") throw error;
      throw new SinkError(
        `Collection "${this.#name}" has no index of ${field_name}, and the sink may not make it`,
        {
          kind: "sink-unauthorized",
          sink: "qdrant",
          hint: `Run it as somebody who may: PUT /collections/${this.#name}/index ` +
            JSON.stringify(index),
          ...(error.code === undefined ? {} : { code: error.code }),
        },
      );
    }
  }

  /** What somebody finds who looks at it, and changes nothing. @throws {SinkError} where it cannot be asked */
  async inspect(): Promise<Finding[]> {
    const subject = this.#name;
    const create = this.#create;
    let info;
    try {
      info = await this.#client.getCollection(subject);
    } catch (error) {
      if (!saysMissing(error)) throw qdrantError(error, subject);
      const answers = "The store answers";
      return [
        { check: "qdrant-connection", level: "ok", subject, message: answers },
        create === undefined
          ? {
            check: "qdrant-collection",
            level: "problem",
            subject,
            message: "There is no such collection",
            fix: "Pass createCollection: { size, distance } to the sink, or make it: " +
              `PUT /collections/${subject}`,
          }
          : {
            check: "qdrant-collection",
            level: "ok",
            subject,
            message: "The collection is not there yet: the sink makes it",
          },
      ];
    }
    const findings: Finding[] = [
      { check: "qdrant-connection", level: "ok", subject, message: "The store answers" },
    ];
    const vectors = (info.config.params.vectors ?? {}) as Record<string, unknown>;
    const fault = this.#faultOf(vectors);
    findings.push(
      fault === null
        ? {
          check: "qdrant-collection",
          level: "ok",
          subject,
          message: `The collection has ${describeVectors(vectors)}`,
        }
        : {
          check: "qdrant-collection",
          level: "problem",
          subject,
          message: fault.summary,
          fix: fault.hint!,
        },
    );
    // Green: all is done; grey: it waits for the next write to go on with it.
    if (info.status === "red" || info.status === "yellow") {
      findings.push({
        check: "qdrant-status",
        level: info.status === "red" ? "problem" : "warning",
        subject,
        message: info.status === "red"
          ? "Qdrant says that something in the collection failed"
          : "Qdrant is still at work on the collection: searches are slower meanwhile",
        fix: `GET /collections/${subject} tells more, and the server's log`,
      });
    }
    return findings;
  }

  /** Why these vectors are none that the sink could write; null: they are. */
  #faultOf(vectors: Record<string, unknown>): SinkError | null {
    const name = this.#vectorName;
    const found = (name === undefined ? vectors : vectors[name]) as {
      size?: number;
      distance?: string;
    } | undefined;
    const wanted = this.#create;
    if (wanted === undefined) {
      if (typeof found?.size === "number") return null;
      return this.#mismatch(
        describeVectors(vectors),
        "Name one of its vectors by vectorName, or take another collectionName",
      );
    }
    if (found?.size === wanted.size && found.distance === wanted.distance) return null;
    return this.#mismatch(
      `${describeVectors(vectors)}; createCollection says ${
        name === undefined ? "" : `"${name}": `
      }size ${wanted.size}, distance ${wanted.distance}`,
      "Take another collectionName, or delete the collection and let it be made again",
    );
  }

  async #ensure(wanted: QdrantCreateCollection): Promise<void> {
    try {
      const fault = this.#faultOf(await this.#vectorsConfig() ?? await this.#make(wanted));
      if (fault !== null) throw fault;
    } catch (error) {
      this.#created = undefined;
      throw error;
    }
  }

  /** What the collection's vectors are like; `null` where there is no such collection. */
  async #vectorsConfig(): Promise<Record<string, unknown> | null> {
    try {
      const { config } = await this.#client.getCollection(this.#name);
      return (config.params.vectors ?? {}) as Record<string, unknown>;
    } catch (error) {
      if (saysMissing(error)) return null;
      throw error;
    }
  }

  async #make(
    { size, distance, onDisk, quantization, hnsw }: QdrantCreateCollection,
  ): Promise<Record<string, unknown>> {
    const params = { size, distance, ...(onDisk === undefined ? {} : { on_disk: onDisk }) };
    const vectors = this.#vectorName === undefined ? params : { [this.#vectorName]: params };
    try {
      await this.#client.createCollection(this.#name, {
        vectors,
        ...(quantization === undefined ? {} : { quantization_config: quantization }),
        ...(hnsw === undefined ? {} : { hnsw_config: hnsw }),
      });
      return vectors;
    } catch (error) {
      // Another process was faster; what it made may differ.
      if (saysAlreadyExists(error)) return await this.#vectorsConfig() ?? {};
      throw error;
    }
  }

  #mismatch(found: string, hint: string): SinkError {
    return new SinkError(`Collection "${this.#name}" has ${found}`, {
      kind: "sink-collection-mismatch",
      sink: "qdrant",
      hint,
    });
  }
}

function describeVectors(vectors: Record<string, unknown>): string {
  const { size, distance } = vectors;
  if (typeof size === "number") return `size ${size}, distance ${distance}`;
  const named = Object.entries(vectors as Record<string, { size?: number; distance?: string }>);
  if (named.length === 0) return "no vectors";
  return "named vectors: " +
    named.map(([name, { size, distance }]) => `"${name}": size ${size}, distance ${distance}`)
      .join("; ");
}
