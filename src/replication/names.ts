/** Names that the server would refuse, or take for other ones: checked before there is a connection. */
import { PublicationError, SlotError } from "./errors.ts";

/**
 * Checks a slot's name by the server's own rule, so that the error comes before any connection.
 *
 * @throws {SlotError} of kind `slot-name`.
 */
export function checkSlotName(slotName: string): void {
  if (/^[a-z0-9_]{1,63}$/.test(slotName)) return;
  throw new SlotError(`Not a slot name: ${JSON.stringify(slotName)}`, {
    kind: "slot-name",
    slotName,
    hint: "A slot's name has 1 to 63 characters: lower case letters, digits and underscores.",
  });
}

/**
 * Checks a publication's name before any connection. The server cuts a longer one to 63 bytes in
 * silence, and would then not find what was asked for.
 *
 * @throws {PublicationError} of kind `publication-name`.
 */
export function checkPublicationName(publicationName: string): void {
  const bytes = new TextEncoder().encode(publicationName).length;
  if (bytes >= 1 && bytes <= 63 && !publicationName.includes("\0")) return;
  throw new PublicationError(`Not a publication name: ${JSON.stringify(publicationName)}`, {
    kind: "publication-name",
    publicationName,
    hint: "A publication's name has 1 to 63 bytes.",
  });
}
