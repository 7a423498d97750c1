/**
 * A sink of one's own: two methods are enough. This one keeps a file of JSON lines, one a write.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --allow-net --allow-env="DATABASE_URL,PG*" --allow-write=writes.jsonl examples/custom_sink.ts writes.jsonl
 *
 * Ctrl+C stops it; the slot "custom_sink_example" stays, and holds on to the WAL until it is read or
 * dropped.
 *
 * Reads DATABASE_URL, or the PG* variables.
 */
import { type FileHandle, open } from "node:fs/promises";
import process from "node:process";
import { PgStream, type PointId, Sink, type VectorPoint } from "@pgstream/pgstream";

/** Appends each write to a file. What it has resolved is on the disk: only then is it confirmed. */
class JsonLinesSink extends Sink {
  readonly #path: string;
  #file: Promise<FileHandle> | undefined;

  constructor(path: string) {
    super();
    this.#path = path;
  }

  async upsert({ id, vector, payload }: VectorPoint): Promise<void> {
    await this.#append({ upsert: String(id), vector: [...vector], payload });
  }

  async delete(id: PointId): Promise<void> {
    await this.#append({ delete: String(id) });
  }

  override async close(): Promise<void> {
    const file = await this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #append(line: Record<string, unknown>): Promise<void> {
    const file = await (this.#file ??= open(this.#path, "a"));
    await file.appendFile(`${JSON.stringify(line)}\n`);
    await file.sync();
  }
}

const stream = new PgStream({ slotName: "custom_sink_example" });
stream.watch("documents");
stream.sink(new JsonLinesSink(process.argv[2] ?? "writes.jsonl"));
stream.onChange(async (event, sink) => {
  if (event.operation === "truncate") return;
  if (event.oldKey !== null) await sink.delete(event.oldKey);
  if (event.operation === "delete") return await sink.delete(event.key);
  // How often each vowel occurs: what stands for a model here is beside the point.
  const text: string = event.row.content ?? "";
  const vector = [..."aeiou"].map((vowel) => text.split(vowel).length - 1);
  await sink.upsert({ id: event.key, vector, payload: { ...event.row } });
});

await stream.setup();
console.log("streaming");
await stream.start({ signals: true });
