/**
 * How many messages of pgoutput a second are decoded, every value read, beside the decoders of
 * pg-logical-replication and pgwire: the same messages, captured from a real server, in the same run.
 *
 * Once as text, by tables whose columns are all text, so that nobody parses; once as values, `values: "js"` beside
 * the parsers that pg-logical-replication takes from `pg`, on one table of many types. Before anything is timed,
 * what is read is compared, value by value. Decoders take turns; a ratio is the median of each round's, and of
 * several tables their geometric mean, the least one beside it.
 *
 * `--alone`: only ours, and only as text, for who looks where the time goes (`support/profile.ts`).
 *
 * Left out: the socket, frames, what a stream makes of messages.
 *
 * ```sh
 * deno task bench decode [--json] [--rows 20000] [--rounds 9] [--alone]
 * ```
 */
import { deepStrictEqual } from "node:assert/strict";
import { parseArgs } from "node:util";
import { capture, type Captured, type Shape } from "./support/captured.ts";
import {
  type Decoder,
  loadPgLogicalReplication,
  loadPgwire,
  pgstream,
  pgstreamJs,
} from "./support/decoders.ts";
import { inTurns, machine, median, print, ratio, type Report, rounded } from "./support/report.ts";

const { values: { json, alone, ...sizes } } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    alone: { type: "boolean", default: false },
    rows: { type: "string", default: "20000" },
    rounds: { type: "string", default: "9" },
  },
});
const rounds = Number(sizes.rounds);

const TWENTY = Array.from({ length: 20 }, (_, column) => column);
const TEXT_SHAPES: Shape[] = [
  {
    name: "small",
    columns: "id text, name text, state text, score text",
    values: "n, 'user ' || n, 'active', NULL",
    updated: "state = 'away', score = '7'",
  },
  {
    name: "document",
    columns: "id text, title text, body text, author_id text, created_at text, published text",
    values: "n, 'On slots, part ' || n, " +
      "repeat('A replication slot keeps what is not confirmed. ', 2 + n % 10), " +
      "'42', '2026-01-01 00:00:00+00', 't'",
    updated: "published = 'f'",
  },
  {
    name: "wide",
    columns: TWENTY.map((column) => `${column === 0 ? "id" : `c${column}`} text`).join(", "),
    values: TWENTY.map((column) => `n * ${column + 1}`).join(", "),
    updated: "c7 = 'seven'",
  },
  {
    name: "worldwide",
    columns: "id text, name text, city text, note text, state text",
    values: "n, 'Zoë Müller ' || n, '東京', 'Grüße, 世界 🐘 ' || n, 'active'",
    updated: "state = 'gelöscht'",
  },
];
const TYPED: Shape = {
  name: "typed",
  columns: "id int, big bigint, done boolean, ratio float8, at timestamptz, price numeric, " +
    "data jsonb, title text, counts int[], tags text[]",
  values: "n, n * 1000000007::bigint, n % 2 = 0, n / 7.0::float8, " +
    "'2026-01-01Z'::timestamptz + n * interval '1.234567 s', n / 100.0, " +
    `jsonb_build_object('n', n, 'tags', '["a", "b"]'::jsonb, 'more', '{"x": null}'::jsonb), ` +
    "'On slots, part ' || n, ARRAY[n, n + 1, NULL], ARRAY['alpha', 'b c', 'n' || n]",
  updated: "done = NOT done",
};

/** How often messages are decoded for one measurement: a garbage collection must not be most of it. */
const PASSES = 3;

/** @param count of values that are to be read @returns messages a second */
async function measure(decoder: Decoder, { messages }: Captured, count: number): Promise<number> {
  let ms = 0;
  for (let pass = 0; pass < PASSES; pass++) {
    const run = decoder(messages);
    const began = performance.now();
    const read = await run();
    ms += performance.now() - began;
    if (read !== count) throw new Error(`${read} values were read, not ${count}`);
  }
  return messages.length * PASSES / ms * 1000;
}

/** All that a decoder reads. A bigint counts as its text, which is what `pg` gives. */
async function allValues(decoder: Decoder, { messages }: Captured): Promise<unknown[]> {
  const all: unknown[] = [];
  await decoder(
    messages,
    (value) => all.push(typeof value === "bigint" ? `${value}` : value ?? null),
  )();
  return all;
}

async function compare(shape: Shape, ours: Decoder, peers: Record<string, Decoder>) {
  const sent = captured.get(shape.name)!;
  const values = await allValues(ours, sent);
  for (const peer of Object.values(peers)) deepStrictEqual(await allValues(peer, sent), values);
  if (values.length < sent.changes) {
    throw new Error(`${values.length} values of ${sent.changes} rows`);
  }
  const count = values.filter((value) => value !== null).length;
  const decoders = Object.entries({ pgstream: ours, ...peers });
  const found = await inTurns(
    rounds,
    Object.fromEntries(
      decoders.map(([name, decoder]) => [name, () => measure(decoder, sent, count)]),
    ),
  );
  for (const [name, perSecond] of Object.entries(found)) {
    report[`${shape.name}_${name}_messages_per_s`] = Math.round(median(perSecond));
  }
  return (peer: string) => ratio(found.pgstream!, found[peer]!);
}

const report: Report = machine();
const captured = await capture([...TEXT_SHAPES, TYPED], Number(sizes.rows));
const pgLogicalReplication = await loadPgLogicalReplication();
const peers = { pg_logical_replication: pgLogicalReplication, pgwire: await loadPgwire() };
const ratios: Record<string, number[]> = { pg_logical_replication: [], pgwire: [] };
for (const shape of TEXT_SHAPES) {
  if (alone) {
    await compare(shape, pgstream, {});
    continue;
  }
  const ratioTo = await compare(shape, pgstream, peers);
  for (const peer of Object.keys(peers)) {
    ratios[peer]!.push(ratioTo(peer));
    report[`${shape.name}_vs_${peer}`] = rounded(ratioTo(peer));
  }
}
for (const [peer, each] of Object.entries(ratios)) {
  if (alone) break;
  const product = each.reduce((product, ratio) => product * ratio, 1);
  report[`decode_vs_${peer}`] = rounded(product ** (1 / each.length));
  report[`decode_vs_${peer}_least`] = rounded(Math.min(...each));
}
if (!alone) {
  const typed = await compare(TYPED, pgstreamJs, { pg_logical_replication: pgLogicalReplication });
  report.decode_js_vs_pg_logical_replication = rounded(typed("pg_logical_replication"));
}
print(report, json);
