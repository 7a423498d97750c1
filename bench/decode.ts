/**
 * How many messages a second are decoded, every value read as text, beside pg-logical-replication's
 * parser on the same bytes in the same run. Rounds alternate, and the median counts.
 *
 * ```sh
 * deno task bench decode [--json]
 * ```
 */
import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { cpus } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { PgOutputDecoder } from "../src/pgoutput/mod.ts";
import { install } from "../tests/support/install.ts";
import * as encode from "../tests/support/pgoutput_encoder.ts";

const MESSAGES = 50_000;
const ROUNDS = 7;

interface Shape {
  name: string;
  columns: string[];
  values: (row: number) => (string | null)[];
}

const TEXT = "A replication slot keeps what its consumer has not confirmed. ".repeat(6);
const SHAPES: Shape[] = [
  {
    name: "small",
    columns: ["id", "name", "state", "score"],
    values: (row) => [`${row}`, `user ${row}`, "active", null],
  },
  {
    name: "document",
    columns: ["id", "title", "body", "author_id", "created_at", "published"],
    values: (row) => [`${row}`, `On slots, part ${row}`, TEXT, "42", "2026-01-01 00:00:00+00", "t"],
  },
  {
    name: "wide",
    columns: Array.from({ length: 20 }, (_, column) => `c${column}`),
    values: (row) => Array.from({ length: 20 }, (_, column) => `${row * column}`),
  },
];

/** Something that decodes messages and reads each value; it returns how many characters there were. */
type Contender = (messages: readonly Uint8Array[]) => number;

function pgstream(messages: readonly Uint8Array[]): number {
  const decoder = new PgOutputDecoder();
  let characters = 0;
  for (const bytes of messages) {
    const message = decoder.decode(bytes);
    if (message.type !== "insert") continue;
    for (const { name } of message.relation.columns) {
      characters += (message.row[name] as string | null)?.length ?? 0;
    }
  }
  return characters;
}

async function loadPeer(): Promise<Contender> {
  const { folder } = await install("pg-logical-replication");
  const { PgoutputPlugin } = createRequire(import.meta.url)(folder);
  return (messages) => {
    const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ["p"] });
    let characters = 0;
    for (const bytes of messages) {
      const message = plugin.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length));
      if (message.tag !== "insert") continue;
      // As text: types that it would parse on top are all declared as text here.
      for (const { name } of message.relation.columns) {
        characters += message.new[name]?.length ?? 0;
      }
    }
    return characters;
  };
}

function messagesOf(shape: Shape): Uint8Array[] {
  const columns = shape.columns.map((name, index) => ({ name, key: index === 0 }));
  const messages = [encode.relation({ oid: 1, name: shape.name, columns })];
  for (let row = 0; row < MESSAGES; row++) messages.push(encode.insert(1, shape.values(row)));
  return messages;
}

function messagesPerSecond(contender: Contender, messages: readonly Uint8Array[]): number {
  const began = performance.now();
  contender(messages);
  return messages.length / (performance.now() - began) * 1000;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

const { values: { json } } = parseArgs({ options: { json: { type: "boolean", default: false } } });
const peer = await loadPeer();
const runtime = process.versions.deno !== undefined
  ? `Deno ${process.versions.deno}`
  : process.versions.bun !== undefined
  ? `Bun ${process.versions.bun}`
  : `Node ${process.versions.node}`;
const report: Record<string, string | number> = { runtime, cpu: cpus()[0]?.model ?? "unknown" };
for (const shape of SHAPES) {
  const messages = messagesOf(shape);
  if (pgstream(messages) !== peer(messages)) throw new Error(`${shape.name}: values differ`);
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(messagesPerSecond(pgstream, messages));
    theirs.push(messagesPerSecond(peer, messages));
  }
  report[`${shape.name}_messages_per_s`] = Math.round(median(ours));
  report[`${shape.name}_vs_pg_logical_replication`] = +(median(ours) / median(theirs)).toFixed(2);
}
if (json) console.log(JSON.stringify(report));
else for (const [key, value] of Object.entries(report)) console.log(key.padEnd(40), value);
