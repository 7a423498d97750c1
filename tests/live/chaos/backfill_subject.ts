/** A consumer of a backfill's world: a slot, and the processes that used it, one after the other. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileStateStore, parseLsn, PgStream, SlotManager } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import type { RuntimeName } from "../../support/run/runtimes.ts";
import { loggingSnapshots, replayed } from "../../support/servers/copied_server.ts";
import { sleep, until, within } from "../../support/streams.ts";
import type { BackfillPlan } from "./backfill_consumer.ts";
import type { BackfillEvent } from "./backfill_model.ts";
import { judge, type LifeLog } from "./backfill_oracle.ts";
import type { BackfillWorld } from "./backfill_world.ts";
import type { Verdict } from "./oracle.ts";
import { ConsumerProcess } from "./process.ts";
import { pick } from "./writer.ts";

const PATIENCE_MS = 60_000;

/** How it is to be. */
export interface BackfillSubjectOptions {
  runtimes: readonly RuntimeName[];
  /** Whether existing rows are read, and by how many; null: the slot is older than any row. */
  chunkRows: number | null;
  /** What is read once more. */
  again: BackfillPlan["again"];
  /** Whether they are read without any care. */
  straw: boolean;
}

/** Make it with `create`, and leave it with `remove`. */
export class BackfillSubject {
  readonly runtime: RuntimeName;
  readonly #world: BackfillWorld;
  readonly #plan: BackfillPlan;
  readonly #folder: string;
  readonly #chunkRows: number | null;
  readonly #lives: { process: ConsumerProcess; log: string; confirmed: bigint }[] = [];

  /** Does nothing on the server. */
  static async create(
    world: BackfillWorld,
    options: BackfillSubjectOptions,
  ): Promise<BackfillSubject> {
    const folder = await mkdtemp(join(tmpdir(), "pgstream-chaos-"));
    return new BackfillSubject(world, folder, options);
  }

  private constructor(world: BackfillWorld, folder: string, options: BackfillSubjectOptions) {
    const { runtimes, again, straw } = options;
    const chunkRows = straw ? null : options.chunkRows;
    const random = seededRandom(world.seed * 16 + 0x20000000);
    this.#world = world;
    this.#folder = folder;
    this.#chunkRows = chunkRows;
    this.runtime = runtimes[world.seed % runtimes.length]!;
    const maxBytes = pick([10_000, 100_000, 1024 * 1024], random);
    const backfilling = chunkRows === null
      ? {}
      : { backfill: "initial" as const, backfillChunk: { maxRows: chunkRows, maxBytes } };
    this.#plan = {
      options: {
        dsn: (world.standby ?? world.server).dsn,
        slotName: `backfill_${world.seed}`,
        concurrency: pick([1, 1, 1, 4, 8], random),
        maxQueueBytes: pick([1, 20_000, 8 * 1024 * 1024], random),
        reconnect: { minDelayMs: 20, maxDelayMs: 500 },
        ...backfilling,
      },
      stateFile: world.standby === null ? null : join(folder, "state.json"),
      tables: world.names,
      log: "",
      how: pick(["onChange", "onChange", "onBatch"], random),
      seed: world.seed * 16,
      maxDelayMs: pick([0, 0, 1, 4], random),
      again,
      straw: straw ? world.shapes : [],
    };
  }

  /** Makes slot and publication, or brings them in line. @param tables the watched ones */
  async setup(tables: string[]): Promise<void> {
    const { server, standby } = this.#world;
    if (standby === null) {
      await this.#manager(tables).setup();
      return;
    }
    await this.#publication(tables).setup();
    await replayed(server, standby);
    await loggingSnapshots(server, () => this.#manager(tables).setup());
  }

  #manager(tables: string[]): PgStream {
    const { options, stateFile } = this.#plan;
    const stateStore = stateFile === null ? {} : { stateStore: new FileStateStore(stateFile) };
    return new PgStream({ ...options, ...stateStore, logger: false }).watch(...tables);
  }

  /** Makes what only the primary can make. */
  #publication(tables: string[]): SlotManager {
    const { dsn } = this.#world.server;
    const { slotName } = this.#plan.options;
    return new SlotManager({ dsn, slotName: slotName!, tables, temporary: true, logger: false });
  }

  /** Starts the next process, once the server has seen that the one before is gone. */
  async begin(tables: string[] = this.#world.names): Promise<ConsumerProcess> {
    const confirmed = await this.#confirmedWhenFree();
    const log = join(this.#folder, `${this.#lives.length}.jsonl`);
    const seed = this.#plan.seed * 1000 + this.#lives.length;
    const plan: BackfillPlan = { ...this.#plan, tables, seed, log };
    const process = await ConsumerProcess.start(this.runtime, "backfill_consumer.ts", [
      JSON.stringify(plan),
    ]);
    this.#lives.push({ process, log, confirmed });
    return process;
  }

  async #confirmedWhenFree(): Promise<bigint> {
    const { confirmed } = await until("the slot to be free", async () => {
      const slot = await this.#slot();
      return slot.pid === null ? slot : null;
    }, PATIENCE_MS);
    return confirmed;
  }

  async #slot(): Promise<{ confirmed: bigint; pid: number | null }> {
    const { server, standby } = this.#world;
    const [slot] = await (standby ?? server).query<{ lsn: string; pid: number | null }>(
      `SELECT confirmed_flush_lsn::text AS lsn, active_pid AS pid
      FROM pg_replication_slots WHERE slot_name = '${this.#plan.options.slotName}'`,
    );
    return { confirmed: parseLsn(slot!.lsn), pid: slot!.pid };
  }

  /** Waits until the last process has handled all, stops it, and judges. Nobody writes any more. */
  async finish(): Promise<Verdict> {
    const { process } = this.#lives.at(-1)!;
    const complaints: string[] = [];
    const end = parseLsn(await this.#world.walEnd());
    await until(
      "all to be confirmed",
      async () => process.exit !== null || (await this.#slot()).confirmed >= end,
      PATIENCE_MS,
    ).catch((error) => complaints.push(`${error}`));
    process.signal("SIGTERM");
    await within("the consumer to stop", process.exited).catch(async (error) => {
      complaints.push(`${error}`);
      await process.kill();
    });
    const lives: LifeLog[] = [];
    for (const { process, log, confirmed } of this.#lives) {
      const { code, signal } = process.exit!;
      if (signal !== "SIGKILL" && code !== 0) {
        complaints.push(`ended with ${signal ?? code}: ${process.errors.slice(0, 2000)}`);
      }
      lives.push({ confirmed, events: await readLog(log) });
    }
    const verdict = judge(this.#world.facts, lives, await this.#world.truth(), {
      inOrder: this.#plan.options.concurrency === 1,
      chunkRows: this.#plan.again.length > 0 ? null : this.#chunkRows,
    });
    verdict.complaints.unshift(...complaints);
    return verdict;
  }

  /** Whom complaints are about. */
  get description(): string {
    const { how, maxDelayMs, again, options } = this.#plan;
    const { dsn: _, slotName: __, ...others } = options;
    const tables = this.#world.shapes.map(({ table, key, identity, partitioned }) =>
      `${table}: ${key.name}, ${identity}${partitioned ? ", partitioned" : ""}`
    );
    return `seed ${this.#world.seed} on ${this.#world.server.major}, by ${this.runtime} ` +
      `${JSON.stringify({ how, maxDelayMs, again, ...others })} of ${tables.join("; ")}; ` +
      `${this.#lives.length} processes, logs in ${this.#folder}`;
  }

  /** Kills what still runs, and drops the slot. @param keep whether somebody will read the logs. */
  async remove(keep: boolean): Promise<void> {
    for (const { process } of this.#lives) await process.kill();
    const { names } = this.#world;
    await until("the slot to be dropped", async () => {
      return await this.#manager(names).teardown().then(() => true, () => sleep(100));
    }, PATIENCE_MS);
    if (this.#world.standby !== null) await this.#publication(names).teardown();
    if (!keep) await rm(this.#folder, { recursive: true });
  }
}

async function readLog(path: string): Promise<BackfillEvent[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  // A call that was killed while it wrote its line had not returned.
  const lines = text.slice(0, text.lastIndexOf("\n") + 1).split("\n").slice(0, -1);
  return lines.flatMap((line) => JSON.parse(line) as BackfillEvent[]);
}
