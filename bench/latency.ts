/**
 * How long after its commit a row is in the handler's hands: from the writer's knowing of the commit to the handler's
 * call, at 1,000 transactions of one row a second, beside pg-logical-replication on the same server in the same run.
 *
 * Writer and stream share one process, and so one clock and one event loop; the process is a child that loads one
 * contender. The writer is one connection of postgres.js, paced by a timer of a millisecond: what is due by then
 * is sent. Rounds alternate. Percentiles are of one round, what is printed is their median, and of the greatest
 * the greatest. The first second of a round is left out.
 *
 * A latency may be below zero: the server sends the change before its answer has reached the writer, or both come
 * together and the stream is read first. It counts as it is, and `latency_early_share` says how often it was.
 *
 * `latency_inside_…` is the part of it that the client has a hand in: from the socket's giving of the last bytes to the
 * call. The rest is what the server takes, and how long the process waits for a processor.
 *
 * The peer neither confirms each message, which is its default, nor waits for handlers.
 *
 * ```sh
 * deno task bench latency [--json] [--seconds 30] [--rounds 3] [--rate 1000]
 * ```
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { install } from "../tests/support/install.ts";
import { startPostgres } from "../tests/support/servers/postgres.ts";
import { Program } from "./support/program.ts";
import type { LatencyFigures } from "./support/programs/latency.ts";
import { inTurns, machine, median, print, ratio, type Report, rounded } from "./support/report.ts";
import { createSlot, dropSlot } from "./support/slots.ts";
import type { SourceName } from "./support/sources/source.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    seconds: { type: "string", default: "30" },
    rounds: { type: "string", default: "3" },
    rate: { type: "string", default: "1000" },
  },
});
const [rounds, rate] = [Number(values.rounds), Number(values.rate)];
/** Of one round. */
const seconds = Math.max(1, Math.round(Number(values.seconds) / rounds));

const { folder } = await install("pg-logical-replication");
const server = await startPostgres({ lifetimeMs: 600_000 });
const found: Record<SourceName, LatencyFigures[]> = { pgstream: [], pg_logical_replication: [] };
let runs = 0;

/** One round. @returns the 99th percentile */
async function measure(name: SourceName): Promise<number> {
  const slot = `latency_${++runs}`;
  await createSlot(server, slot, "documents");
  // Ids go on from round to round, and nothing is deleted: an autovacuum would meet one contender only.
  const firstId = 1 + runs * rate * (seconds + 10);
  const args = [name, folder, server.dsn, slot, "documents", rate, seconds, firstId];
  const program = new Program("latency.ts", args, (seconds + 30) * 1000);
  const figures = await program.figures<LatencyFigures>();
  await program.ended();
  await dropSlot(server, slot);
  found[name].push(figures);
  return figures.p99;
}

function figuresOf(prefix: string, rounds: readonly LatencyFigures[]): Report {
  const of = (key: keyof LatencyFigures) => rounds.map((figures) => figures[key]);
  return {
    [`${prefix}_p50_ms`]: rounded(median(of("p50")), 3),
    [`${prefix}_p99_ms`]: rounded(median(of("p99")), 3),
    [`${prefix}_max_ms`]: rounded(Math.max(...of("max")), 3),
    [`${prefix}_inside_p50_ms`]: rounded(median(of("inside_p50")), 3),
    [`${prefix}_inside_p99_ms`]: rounded(median(of("inside_p99")), 3),
    [`${prefix}_early_share`]: rounded(median(of("early")), 3),
    [`${prefix}_transactions_per_s`]: Math.round(median(of("rate"))),
  };
}

try {
  await server.query(`CREATE TABLE documents (id int PRIMARY KEY, title text, body text)
    WITH (autovacuum_enabled = off)`);
  const p99 = await inTurns(rounds, {
    pgstream: () => measure("pgstream"),
    pg_logical_replication: () => measure("pg_logical_replication"),
  });
  print({
    ...machine(),
    rounds,
    seconds_a_round: seconds,
    ...figuresOf("latency", found.pgstream),
    latency_p99_vs_pg_logical_replication: rounded(
      ratio(p99.pgstream, p99.pg_logical_replication),
    ),
    ...figuresOf("pg_logical_replication_latency", found.pg_logical_replication),
  }, values.json);
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await server.stop("immediate");
}
