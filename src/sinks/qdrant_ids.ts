/** Ids as Qdrant takes them: unsigned integers and UUIDs, nothing else. */

import { hexDigest } from "../digest.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const CANONICAL_INTEGER = /^(0|[1-9][0-9]*)$/;

/** The namespace of all derived ids. Ids in users' stores depend on it: it never changes. */
const NAMESPACE = Uint8Array.of(
  ...[0x6f, 0x0c, 0x2d, 0x5e, 0x8b, 0x1a, 0x4f, 0x37],
  ...[0x9c, 0x4d, 0x2e, 0x7a, 0x51, 0xb8, 0xd9, 0x03],
);

/** An id for Qdrant. */
export interface QdrantId {
  id: string | number;
  /** True where `id` does not tell what the text was, so that the payload has to. */
  derived: boolean;
}

/**
 * A UUID stays what it is, in lower case; a whole number from 0 to 2^53 − 1 in its usual form becomes
 * that number (above, JavaScript clients would round it); everything else, `"007"`, `"-1"`, `""` or a
 * JSON array, the UUIDv5 of its UTF-8.
 */
export async function qdrantId(text: string): Promise<QdrantId> {
  if (UUID.test(text)) return { id: text.toLowerCase(), derived: false };
  if (CANONICAL_INTEGER.test(text) && Number.isSafeInteger(Number(text))) {
    return { id: Number(text), derived: false };
  }
  return { id: await uuidv5(NAMESPACE, text), derived: true };
}

/** RFC 9562, section 5.5. */
export async function uuidv5(namespace: Uint8Array, name: string): Promise<string> {
  const encoded = new TextEncoder().encode(name);
  const hashed = new Uint8Array(namespace.length + encoded.length);
  hashed.set(namespace);
  hashed.set(encoded, namespace.length);
  const hex = await hexDigest("SHA-1", hashed);
  const variant = (parseInt(hex[16]!, 16) & 0x3 | 0x8).toString(16);
  const parts = [
    hex.slice(0, 8),
    hex.slice(8, 12),
    `5${hex.slice(13, 16)}`,
    `${variant}${hex.slice(17, 20)}`,
    hex.slice(20, 32),
  ];
  return parts.join("-");
}
