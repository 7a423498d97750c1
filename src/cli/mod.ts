/**
 * The command line, and the type of its configuration file.
 *
 * ```sh
 * deno run -A jsr:@pgstream/pgstream/cli doctor --dsn postgresql://user@localhost/app documents
 * npx @pgstream/pgstream doctor --dsn postgresql://user@localhost/app documents
 * ```
 *
 * @example
 * ```ts
 * // pgstream.config.ts
 * import { defineConfig } from "@pgstream/pgstream/cli";
 *
 * export default defineConfig({
 *   tables: { documents: { text: "{{title}}\n\n{{body}}", payload: ["id", "title"] } },
 *   embedder: { model: "text-embedding-3-small" },
 *   sink: { type: "pgvector", dimensions: 1536 },
 * });
 * ```
 *
 * @module
 */
import { main } from "./main.ts";

export {
  type Config,
  defineConfig,
  type EmbedderConfig,
  type SinkConfig,
  type TableConfig,
} from "./config.ts";
export { CliError } from "./errors.ts";
export { main };

// Deno and Bun; Node, which knows it only from 24 on, runs bin.ts.
if ((import.meta as { main?: boolean }).main === true) await main();
