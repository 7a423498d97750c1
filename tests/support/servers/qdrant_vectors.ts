/** Vectors of the Qdrant stand-in: how a collection has them, what it refuses, and nearness. */

import { beyond, type Json, type JsonObject, QdrantRefusal } from "./qdrant_point.ts";

export interface VectorParams {
  size: number;
  distance: string;
}

const DISTANCES = ["Cosine", "Dot", "Euclid", "Manhattan"];

/** A collection's vectors by name; `""` is the one that has none. */
export function readVectorsConfig(vectors: Json | undefined): Map<string, VectorParams> {
  const given = (vectors ?? {}) as JsonObject;
  if (given.size !== undefined) return new Map([["", readParams(given, "vectors.")]]);
  return new Map(
    Object.entries(given).map(([name, params]) => [name, readParams(params, `vectors.${name}.`)]),
  );
}

function readParams(params: Json, path: string): VectorParams {
  const { size, distance } = (params ?? {}) as { size?: Json; distance?: Json };
  if (!Number.isInteger(size) || typeof distance !== "string" || !DISTANCES.includes(distance)) {
    throw new QdrantRefusal(
      400,
      "Format error in JSON body: data did not match any variant of untagged enum VectorsConfig",
    );
  }
  if (Number(size) < 1 || Number(size) > 65536) {
    throw new QdrantRefusal(
      422,
      `Validation error in JSON body: [${path}size: value ${size} invalid, must be from 1 to 65536]`,
    );
  }
  return { size: Number(size), distance };
}

/** The vectors of a point, as they are stored. */
export function readVectors(
  given: Json | undefined,
  config: Map<string, VectorParams>,
): Map<string, Float32Array> {
  if (given === null || typeof given !== "object") refuseVector();
  const named = Array.isArray(given) ? { "": given } : given;
  return new Map(
    Object.entries(named).map((
      [name, vector],
    ) => [name, readVector(vector, paramsOf(config, name))]),
  );
}

/** @param name `""`: the vector that has none. */
export function paramsOf(config: Map<string, VectorParams>, name: string): VectorParams {
  const params = config.get(name);
  if (params !== undefined) return params;
  throw new QdrantRefusal(400, `Wrong input: Not existing vector name error: ${name}`);
}

export function readVector(
  vector: Json | undefined,
  { size, distance }: VectorParams,
): Float32Array {
  if (!Array.isArray(vector) || vector.some((element) => typeof element !== "number")) {
    refuseVector();
  }
  if (vector.length !== size) {
    throw new QdrantRefusal(
      400,
      `Wrong input: Vector dimension error: expected dim: ${size}, got ${vector.length}`,
    );
  }
  const stored = Float32Array.from(vector as number[]);
  // As Qdrant does: under Cosine a vector is stored with length 1.
  return distance === "Cosine" ? normalized(stored) : stored;
}

/** As answers have them: a list where the vector has no name, else lists by name. */
export function showVectors(vectors: Map<string, Float32Array>): Json {
  const unnamed = vectors.get("");
  if (unnamed !== undefined) return [...unnamed];
  return Object.fromEntries(Array.from(vectors, ([name, vector]) => [name, [...vector]]));
}

export function score(distance: string, a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) {
    const [x, y] = [a[index]!, b[index]!];
    sum += distance === "Euclid"
      ? (x - y) ** 2
      : distance === "Manhattan"
      ? Math.abs(x - y)
      : x * y;
  }
  return distance === "Euclid" ? Math.sqrt(sum) : sum;
}

/** Whether a greater score is nearer. */
export function greaterIsNearer(distance: string): boolean {
  return ["Cosine", "Dot"].includes(distance);
}

/** What Qdrant keeps of a configuration beside the vectors' own, as it was given. */
export function checkQuantization(config: Json | undefined): void {
  if (config == null) return;
  const kinds = Object.keys(config as JsonObject);
  const kind = kinds[0];
  if (kinds.length === 1 && ["scalar", "product", "binary", "turbo"].includes(kind!)) return;
  beyond(`quantization ${kinds}`);
}

function normalized(vector: Float32Array): Float32Array {
  const length = Math.sqrt(score("Dot", vector, vector));
  return length === 0 ? vector : vector.map((element) => element / length);
}

function refuseVector(): never {
  throw new QdrantRefusal(
    400,
    "Format error in JSON body: data did not match any variant of untagged enum VectorStruct",
  );
}
