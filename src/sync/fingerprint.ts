/** What tells whether a vector is that of a text: nothing is embedded twice. */

import { hexDigest } from "../digest.ts";
import { optionsError } from "./embedder.ts";

/** What a vector was made of. */
export interface FingerprintOf {
  /** What was embedded. */
  text: string;
  /** By what, and by which version of it. */
  model: string;
  /** The `name` of what cut the text into chunks; left out: nothing did. */
  chunker?: string;
}

/**
 * A short text that is the same for the same text, model and chunker, and no other: 32 digits of hex,
 * the first 128 bits of the SHA-256 of `model NUL chunker NUL text` in UTF-8.
 *
 * It is stored beside vectors, and so must never change: another one means that all is embedded anew.
 *
 * @throws {EmbedError} `embed-options` where model or chunker holds a NUL, which ends them here.
 */
export async function fingerprint(
  { text, model, chunker = "" }: FingerprintOf,
): Promise<string> {
  if (model.includes("\0") || chunker.includes("\0")) {
    throw optionsError("The name of a model or chunker holds a NUL", "Give it another name");
  }
  const bytes = new TextEncoder().encode(`${model}\0${chunker}\0${text}`);
  return (await hexDigest("SHA-256", bytes)).slice(0, 32);
}
