/** Rows as COPY … TO STDOUT writes them. */

/** As CopyAttributeOutText of the server does. */
export function writeCopyRow(values: readonly (string | null)[]): Uint8Array {
  const letters: Record<string, string> = {
    "\b": "b",
    "\f": "f",
    "\n": "n",
    "\r": "r",
    "\t": "t",
    "\v": "v",
    "\\": "\\",
  };
  const texts = values.map((value) =>
    value === null ? "\\N" : value.replace(/[\b\f\n\r\t\v\\]/g, (char) => `\\${letters[char]}`)
  );
  return new TextEncoder().encode(`${texts.join("\t")}\n`);
}
