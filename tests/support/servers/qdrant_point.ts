/** What the parts of the Qdrant stand-in share: points, their ids and payloads, and refusals. */

/** What Qdrant answers instead of a result. */
export class QdrantRefusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };
export type JsonObject = { [name: string]: Json };
export type QdrantPointId = number | string;

export interface QdrantPoint {
  id: QdrantPointId;
  /** By name; `""` is the vector that has none. */
  vectors: Map<string, Float32Array>;
  payload: JsonObject;
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const UUID_SIMPLE = /^[0-9a-f]{32}$/i;

/** Qdrant's own words for an id that is neither an unsigned integer nor a UUID. */
export function readPointId(id: Json | undefined): QdrantPointId {
  if (typeof id === "number" && Number.isInteger(id) && id >= 0) return id;
  const text = typeof id === "string" ? id.replace(/^urn:uuid:/, "") : "";
  if (UUID.test(text)) return text.toLowerCase();
  if (UUID_SIMPLE.test(text)) {
    return text.toLowerCase().replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
  }
  throw new QdrantRefusal(
    400,
    `Format error in JSON body: value ${
      typeof id === "string" ? id : JSON.stringify(id)
    } is not a ` +
      "valid point ID, valid values are either an unsigned integer or a UUID",
  );
}

/** In the order of a scroll: numbers first. */
export function compareIds(a: QdrantPointId, b: QdrantPointId): number {
  if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

export function readPayload(payload: Json | undefined): JsonObject {
  if (payload == null) return {};
  if (typeof payload === "object" && !Array.isArray(payload)) return payload;
  throw new QdrantRefusal(400, "Format error in JSON body: invalid type, expected a map");
}

/** Rather no answer than one that Qdrant would not give. */
export function beyond(what: string): never {
  throw new QdrantRefusal(501, `The stand-in has no ${what}`);
}
