/** Collections for the tests of `QdrantSink`: in the stand-in, or in the server at `QDRANT_URL` (`QDRANT_API_KEY`). */

import { after, before } from "node:test";
import process from "node:process";
import { assertRejects } from "@std/assert";
import { QdrantClient } from "@qdrant/js-client-rest";
import {
  type QdrantCreateCollection,
  QdrantSink,
  type QdrantSinkClient,
  type QdrantSinkOptions,
} from "../../src/sinks/qdrant.ts";
import { SinkError } from "../../src/sinks/sink.ts";
import { type QdrantServer, startQdrant } from "./servers/qdrant.ts";

const REAL_URL = process.env.QDRANT_URL;
const API_KEY = process.env.QDRANT_API_KEY;

// Under Dot vectors are stored as they are given; Cosine makes their length 1.
export const createCollection = { size: 3, distance: "Dot" } satisfies QdrantCreateCollection;

/** As in Qdrant's cloud by default. */
export const STRICT = {
  enabled: true,
  unindexed_filtering_retrieve: false,
  unindexed_filtering_update: false,
};

export async function refusal(act: () => Promise<unknown>): Promise<SinkError> {
  return await assertRejects(act, SinkError);
}

/** A Qdrant from before the first test of a file until after the last; nothing is left there. */
export class QdrantCollections {
  readonly #run = crypto.randomUUID().slice(0, 8);
  readonly #names = new Set<string>();
  #server: QdrantServer | undefined;
  #url = "";
  client!: QdrantClient;

  constructor() {
    before(async () => {
      if (REAL_URL === undefined) this.#server = await startQdrant();
      this.#url = REAL_URL ?? this.#server!.url;
      this.client = new QdrantClient({
        url: this.#url,
        checkCompatibility: false,
        ...(API_KEY === undefined ? {} : { apiKey: API_KEY }),
      });
    });
    after(async () => {
      for (const name of this.#names) await this.client.deleteCollection(name);
      await this.#server?.close();
    });
  }

  /** The full name of a collection of this run. */
  name(name: string): string {
    const collection = `pgstream-test-${this.#run}-${name}`;
    this.#names.add(collection);
    return collection;
  }

  /** @param createCollection null: the collection is there */
  sink(
    name: string,
    { createCollection: create = createCollection, ...options }:
      & Omit<QdrantSinkOptions, "createCollection">
      & { createCollection?: QdrantCreateCollection | null } = {},
  ): QdrantSink {
    return new QdrantSink({
      collectionName: this.name(name),
      ...(options.client === undefined ? { url: this.#url } : {}),
      ...(create === null ? {} : { createCollection: create }),
      ...(API_KEY === undefined ? {} : { apiKey: API_KEY }),
      ...options,
    });
  }

  /** A collection that the user made. */
  async make(name: string, strict_mode_config?: typeof STRICT): Promise<void> {
    const config = strict_mode_config === undefined ? {} : { strict_mode_config };
    await this.client.createCollection(this.name(name), { vectors: createCollection, ...config });
  }

  /** The client, but for what is replaced. */
  clientBut(replaced: Partial<QdrantSinkClient>): QdrantSinkClient {
    const { client } = this;
    return {
      upsert: (...given) => client.upsert(...given),
      delete: (...given) => client.delete(...given),
      batchUpdate: (...given) => client.batchUpdate(...given),
      query: (...given) => client.query(...given),
      retrieve: (...given) => client.retrieve(...given),
      scroll: (...given) => client.scroll(...given),
      getCollection: (...given) => client.getCollection(...given),
      createCollection: (...given) => client.createCollection(...given),
      createPayloadIndex: (...given) => client.createPayloadIndex(...given),
      ...replaced,
    };
  }
}
