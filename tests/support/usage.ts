// Users' code. It must compile, strictly, against mod.ts (import map: "@pgstream/pgstream" → mod.ts, …/qdrant → its module).
import {
  type ChangeEvent,
  PgStream,
  type PointId,
  Sink,
  type VectorPoint,
} from "@pgstream/pgstream";
import { QdrantSink } from "@pgstream/pgstream/qdrant";
declare function embed(text: string): Promise<number[]>;

// 1. the quick start, with no types of the user's
const stream = new PgStream({ dsn: "postgresql://user:pass@localhost/db" });
stream.watch("documents");
stream.sink(new QdrantSink({ url: "http://localhost:6333", collectionName: "docs" }));
stream.onChange(async (event, sink) => {
  if (event.operation === "insert" || event.operation === "update") {
    if (event.unchanged.includes("content")) return; // the embedded text is what it was
    if (event.oldKey !== null) await sink.delete(event.oldKey); // the key itself was changed
    await sink.upsert({
      id: event.key,
      vector: await embed(event.row.content),
      payload: { content: event.row.content },
    });
  } else if (event.operation === "delete") {
    await sink.delete(event.key);
  }
});
const seen: ChangeEvent[] = [];
stream.onChange((event) => seen.push(event));
stream.sink({ async upsert() {}, async delete() {} });
stream.watch("documents", { columns: ["id"], where: "id > 1" });
stream.watch("a", "b");
await stream.backfill("documents", { where: "id > 1" });
new PgStream({ dsn: "x", logger: console });
new PgStream("x");
new PgStream();

// 2. typed tables, as Kysely or a generator writes them
interface Doc {
  id: string;
  content: string;
}
interface Article {
  id: bigint;
  title: string;
}
interface DB {
  documents: Doc;
  "blog.articles": Article;
}
const typed = new PgStream<DB>({ values: "js" });
typed.watch("documents", "blog.articles");
// @ts-expect-error no such table
typed.watch("nope");
// @ts-expect-error no such column
typed.watch("documents", { columns: ["nope"] });
typed.onChange(async (event, sink, { signal }) => {
  signal.throwIfAborted();
  if (event.operation === "truncate") return;
  if (event.operation === "delete") {
    await sink.delete(event.key);
    return;
  }
  if (event.table === "articles") {
    const title: string | undefined = event.row.title;
    const schema: "blog" = event.schema;
    void [title, schema];
    return;
  }
  if (event.row.content === undefined) return;
  await sink.upsert({ id: event.key, vector: await embed(event.row.content) });
});
typed.onChange((event) => {
  if (event.operation === "insert" && event.table === "documents") event.row.content.length;
  // @ts-expect-error an update's row may lack an unchanged column
  if (event.operation === "update" && event.table === "documents") event.row.content.length;
});

// 3. a sink of two methods, a handler declared apart, pulling, disposal
class Two extends Sink {
  async upsert(point: VectorPoint) {
    await Promise.resolve(point.id);
  }
  async delete(_id: PointId) {}
}
typed.sink(new Two());
async function handler(event: ChangeEvent<Doc, "documents">): Promise<void> {
  if (event.operation === "insert") await embed(event.row.content);
}
new PgStream<{ documents: Doc }>().onChange(handler);
for await (const tx of typed.changes({ signal: AbortSignal.timeout(1000) })) {
  for (const event of tx.events) event.table;
  tx.ack();
}
await using disposed = new PgStream();
JSON.stringify(disposed.status());
