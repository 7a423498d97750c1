/** One consumer of a world: a slot, and the processes that used it, one after the other. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseLsn, PgStream } from "../../../mod.ts";
import { seededRandom } from "../../support/random.ts";
import type { RuntimeName } from "../../support/run/runtimes.ts";
import { sleep, until, within } from "../../support/streams.ts";
import type { Plan } from "./consumer.ts";
import type { Life, LoggedCall, Oracle, Verdict } from "./oracle.ts";
import { ConsumerProcess } from "./process.ts";
import type { World } from "./world.ts";
import { pick } from "./writer.ts";

const PATIENCE_MS = 30_000;

interface Lived {
  process: ConsumerProcess;
  log: string;
  confirmed: bigint;
}

/** What a scenario says of its consumers; the rest is the seed's. */
export interface SubjectOptions {
  /** Those to choose from. */
  runtimes: readonly RuntimeName[];
  /** Default: the server's. */
  dsn?: string;
  /** In place of what the seed says. */
  plan?: Partial<Plan>;
}

/** A consumer. Make it with `Subject.create` before anything is written. */
export class Subject {
  readonly #world: World;
  readonly #folder: string;
  readonly #plan: Plan;
  readonly #lives: Lived[] = [];
  /** What the oracle made of its processes, once `finish` is done. */
  outcome: { oracle: Oracle; lives: Life[] } | null = null;
  readonly slotName: string;
  readonly runtime: RuntimeName;

  /** Sets up a slot. */
  static async create(world: World, index: number, options: SubjectOptions): Promise<Subject> {
    const folder = await mkdtemp(join(tmpdir(), "pgstream-chaos-"));
    const subject = new Subject(world, index, folder, options);
    await subject.#manager().setup();
    return subject;
  }

  private constructor(world: World, index: number, folder: string, options: SubjectOptions) {
    const random = seededRandom(world.seed * 16 + index);
    this.#world = world;
    this.#folder = folder;
    this.slotName = `${world.schema}_${index}`;
    this.runtime = options.runtimes[(world.seed + index) % options.runtimes.length]!;
    const how = pick(["onChange", "onBatch", "changes"] as const, random);
    const concurrency = how === "changes" ? 1 : pick([1, 4, 8], random);
    const failing = how === "changes" ? 0 : pick([0, 0, 0.05], random);
    this.#plan = {
      options: {
        dsn: options.dsn ?? world.server.dsn,
        slotName: this.slotName,
        concurrency,
        maxQueueBytes: pick([1, 20_000, 8 * 1024 * 1024], random),
        retry: { attempts: 5, minDelayMs: 0, maxDelayMs: 20 },
        reconnect: { minDelayMs: 20, maxDelayMs: 500 },
      },
      tables: world.tables,
      log: "",
      how,
      seed: world.seed * 16 + index,
      maxDelayMs: pick([0, 0, 1, 3], random),
      failing,
      hanging: pick([0, 0.001], random),
      poisonEvery: failing > 0 ? pick([0, 97], random) : 0,
      firstCallMs: 0,
      ...options.plan,
    };
  }

  /** A complaint, with whom it is about. */
  complaint(text: string): string {
    const { how, options, failing, maxDelayMs, hanging, poisonEvery } = this.#plan;
    const { concurrency, maxQueueBytes } = options;
    const what = { how, concurrency, maxQueueBytes, failing, maxDelayMs, hanging, poisonEvery };
    return `${text}\n  by ${this.runtime} ${JSON.stringify(what)}; logs in ${this.#folder}`;
  }

  /** The processes, in order. */
  get processes(): ConsumerProcess[] {
    return this.#lives.map(({ process }) => process);
  }

  /** Starts the next process, once the server has seen that the one before is gone. */
  async begin(plan: Partial<Plan> = {}): Promise<ConsumerProcess> {
    const confirmed = await this.confirmedWhenFree();
    const log = join(this.#folder, `${this.#lives.length}.jsonl`);
    const seed = this.#plan.seed * 1000 + this.#lives.length;
    const whole: Plan = { ...this.#plan, ...plan, seed, log };
    const process = await ConsumerProcess.start(this.runtime, "consumer.ts", [
      JSON.stringify(whole),
    ]);
    this.#lives.push({ process, log, confirmed });
    return process;
  }

  /** The same, and waits until it streams: from then on it comes back by itself. */
  async beginStreaming(): Promise<void> {
    const process = await this.begin();
    await process.heard("streaming");
  }

  /** What is confirmed, as soon as nobody can confirm anything. */
  async confirmedWhenFree(): Promise<bigint> {
    const slot = await until(`slot ${this.slotName} to be free`, async () => {
      const slot = await this.#slot();
      return slot.pid === null ? slot : null;
    }, PATIENCE_MS);
    return slot.confirmed;
  }

  /** Who uses the slot; null: nobody. */
  async walsenderPid(): Promise<number | null> {
    return (await this.#slot()).pid;
  }

  async #slot(): Promise<{ confirmed: bigint; pid: number | null }> {
    const [slot] = await this.#world.query<{ lsn: string; pid: number | null }>(
      `SELECT confirmed_flush_lsn::text AS lsn, active_pid AS pid
      FROM pg_replication_slots WHERE slot_name = '${this.slotName}'`,
    );
    return { confirmed: parseLsn(slot!.lsn), pid: slot!.pid };
  }

  /**
   * Waits until the last process has handled all that is missing, stops it, and judges all of it.
   * Nothing is broken any more, and nobody writes.
   */
  async finish(oracle: Oracle): Promise<Verdict> {
    const { verdict } = oracle;
    const judges = this.#lives.map((lived) => new LogJudge(lived, oracle, this.#inOrder));
    let last = judges.at(-1)!;
    if (last.process.exit !== null) {
      await this.begin({ maxDelayMs: 0, hanging: 0 });
      last = new LogJudge(this.#lives.at(-1)!, oracle, this.#inOrder);
      judges.push(last);
    }
    for (const judge of judges) await judge.read();
    let missing = verdict.lost;
    let progressAt = performance.now();
    while (verdict.lost > 0 && last.process.exit === null) {
      await sleep(20);
      await last.read();
      if (verdict.lost < missing) progressAt = performance.now();
      missing = verdict.lost;
      if (performance.now() - progressAt > PATIENCE_MS) break;
    }
    verdict.complaints.push(...oracle.lost());
    if (verdict.lost === 0) await this.#confirmed(oracle);
    await this.#stop(last.process, oracle);
    await last.read();
    this.#judgeExits(judges, verdict);
    this.outcome = { oracle, lives: judges.map(({ life }) => life) };
    return verdict;
  }

  get #inOrder(): boolean {
    return this.#plan.options.concurrency === 1;
  }

  /** What is handled is confirmed soon. */
  async #confirmed({ verdict, lastLsn }: Oracle): Promise<void> {
    try {
      await until("all to be confirmed", async () => (await this.#slot()).confirmed > lastLsn);
    } catch {
      const { confirmed } = await this.#slot();
      verdict.complaints.push(`confirmed is ${confirmed}, and ${lastLsn} is handled`);
    }
  }

  async #stop(process: ConsumerProcess, { verdict }: Oracle): Promise<void> {
    // Before it listens to signals they would end it as they end any process.
    await process.heard("started");
    process.signal("SIGTERM");
    try {
      await within("the consumer to stop", process.exited);
    } catch {
      verdict.complaints.push("did not stop within 15 s of SIGTERM");
      await process.kill();
    }
  }

  // Killed, or told to stop: anything else is an error that the stream should have overcome.
  #judgeExits(judges: readonly LogJudge[], { complaints }: Verdict): void {
    for (const { process } of judges) {
      const { code, signal } = process.exit!;
      if (signal === "SIGKILL" || code === 0) continue;
      complaints.push(`ended with ${signal ?? code}: ${process.errors.slice(0, 2000)}`);
    }
  }

  #manager(): PgStream {
    const { dsn } = this.#world.server;
    return new PgStream({ dsn, slotName: this.slotName, logger: false })
      .watch(...this.#world.tables);
  }

  /** Kills what still runs, and drops the slot. @param keep whether somebody will read the logs. */
  async remove(keep: boolean): Promise<void> {
    for (const { process } of this.#lives) await process.kill();
    await this.confirmedWhenFree();
    await this.#manager().teardown();
    if (!keep) await rm(this.#folder, { recursive: true });
  }
}

/** Reads a log as it grows. */
class LogJudge {
  readonly process: ConsumerProcess;
  readonly life: Life;
  readonly #path: string;
  #read = 0;

  constructor({ process, log, confirmed }: Lived, oracle: Oracle, inOrder: boolean) {
    this.process = process;
    this.life = oracle.life(confirmed, inOrder);
    this.#path = log;
  }

  async read(): Promise<void> {
    const text = await readFile(this.#path, "utf8").catch(() => "");
    // A call that was killed while it wrote its line had not returned.
    const end = text.lastIndexOf("\n") + 1;
    for (const line of text.slice(this.#read, end).split("\n")) {
      if (line === "") continue;
      const call = JSON.parse(line) as LoggedCall;
      this.life.call(call);
    }
    this.#read = end;
  }
}
