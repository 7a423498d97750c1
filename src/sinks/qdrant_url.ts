/** Where a Qdrant is, from its url. */

/** An address in the parts that the client takes. */
export interface QdrantAddress {
  https: boolean;
  host: string;
  port: number;
  /** Path before Qdrant's own, without a slash at its end; `""` for none. */
  prefix: string;
}

const URL_PARTS = /^(https?):\/\/(\[[0-9a-f:]+\]|[^/:@?#\s]+)(?::(\d{1,5}))?(\/[^?#\s]*)?$/i;

/**
 * Reads `http[s]://host[:port][/path]`; `null` where the text is anything else, also where it holds a
 * user or a query. The client itself would take port 6333 even where 443 is written, and drop a path.
 *
 * Without a port: Qdrant's own 6333, or that of the scheme where there is a path, since then a proxy
 * stands before the server.
 */
export function parseQdrantUrl(url: string): QdrantAddress | null {
  const [, scheme, host, port, path = ""] = URL_PARTS.exec(url) ?? [];
  if (scheme === undefined || host === undefined) return null;
  const https = scheme.toLowerCase() === "https";
  const prefix = path.replace(/\/+$/, "");
  const unwritten = prefix === "" ? 6333 : https ? 443 : 80;
  return { https, host, port: port === undefined ? unwritten : Number(port), prefix };
}
