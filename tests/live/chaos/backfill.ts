/**
 * Existing rows are handed out while everything changes: what is handed out last of each key is the
 * newest, nothing is missed, and nothing goes back in time. A third of the rounds kills the client.
 */

import { seededRandom } from "../../support/random.ts";
import { sleep, within } from "../../support/streams.ts";
import type { BackfillPlan } from "./backfill_consumer.ts";
import { BackfillSubject } from "./backfill_subject.ts";
import { BackfillWorld } from "./backfill_world.ts";
import type { ConsumerProcess } from "./process.ts";
import type { RoundResult, Stage } from "./round.ts";
import { pick } from "./writer.ts";

const PATIENCE_MS = 60_000;
/**
 * A slot that was made in the moment between the commit record of a TRUNCATE and the time when snapshots
 * see it cannot be decoded, whoever reads: PostgreSQL ends the stream with this error each time.
 */
const CANNOT_DECODE = /could not map file(node|number) .* to relation OID/;
/** Up to then a table that is added beside open transactions loses changes for good; setup() warns of it. */
const ADDS_TABLES_SAFELY = 14;

/** One round: a slot that is younger than its rows. */
export function backfill(stage: Stage, seed: number): Promise<RoundResult> {
  return play(stage, seed, { filled: true });
}

/** The same tables and writers without existing rows: the slot is made first. */
export function stream(stage: Stage, seed: number): Promise<RoundResult> {
  return play(stage, seed, { filled: false });
}

/** A round that must fail: existing rows are read without any care. */
export function straw(stage: Stage, seed: number): Promise<RoundResult> {
  return play(stage, seed, { filled: true, straw: true });
}

async function play(
  stage: Stage,
  seed: number,
  { filled, straw = false }: { filled: boolean; straw?: boolean },
): Promise<RoundResult> {
  const result: RoundResult = {
    faults: {},
    verdicts: [],
    runtimes: [],
    figures: {},
    complaints: [],
  };
  const count = (fault: string) => result.faults[fault] = (result.faults[fault] ?? 0) + 1;
  const random = seededRandom(seed);
  const chunkRows = filled ? pick([1, 2, 3, 5, 10, 20, 50, 100, 200], random) : null;
  const killed = random() < 1 / 3;
  const size = Math.floor((0.2 + random()) * stage.writingMs / 2);
  // Not many more chunks than a server reads while one waits.
  const rows = Math.max(40, Math.min(size, (chunkRows ?? size) * stage.writingMs / 25));
  const options = { rows, keyless: !killed, standby: stage.standby };
  const world = await BackfillWorld.create(stage.server, seed, options, count);
  let subject: BackfillSubject | undefined;
  try {
    const again = filled && !straw && random() < 0.25 ? [await readAgain(world)] : [];
    subject = await BackfillSubject.create(world, {
      runtimes: stage.runtimes,
      chunkRows,
      again,
      straw,
    });
    result.runtimes.push(subject.runtime);
    await new Round(stage, world, subject, { killed, filled, count }).play();
    const verdict = await subject.finish();
    result.verdicts.push(verdict);
    result.complaints.push(...verdict.complaints);
    if (again.length > 0) count("backfill on demand");
  } catch (error) {
    const text = error instanceof Error ? `${error.stack}` : String(error);
    if (CANNOT_DECODE.test(text)) count("round that PostgreSQL could not decode");
    else result.complaints.push(text);
  } finally {
    if (result.complaints.length > 0) result.complaints.unshift(`${subject?.description}`);
    await world.end().catch(() => {});
    await subject?.remove(result.complaints.length > 0 && !straw);
    await world.remove();
  }
  return result;
}

/** Something that is read once more, while the changes go on. */
async function readAgain(
  { shapes, names, random }: BackfillWorld,
): Promise<BackfillPlan["again"][0]> {
  const index = Math.floor(random() * shapes.length);
  // Of rows that nothing tells apart, a part cannot be read again.
  const some = shapes[index]!.primaryKey.length === 0 ? {} : { where: "v % 2 = 0" };
  const options = pick([{}, some], random);
  return await Promise.resolve({ table: names[index]!, options });
}

interface Course {
  killed: boolean;
  filled: boolean;
  count(fault: string): void;
}

class Round {
  readonly #stage: Stage;
  readonly #world: BackfillWorld;
  readonly #subject: BackfillSubject;
  readonly #course: Course;
  /** What is watched at first. */
  readonly #tables: string[];

  constructor(stage: Stage, world: BackfillWorld, subject: BackfillSubject, course: Course) {
    this.#stage = stage;
    this.#world = world;
    this.#subject = subject;
    this.#course = course;
    const { names, random } = world;
    const late = course.filled && names.length > 1 && random() < 0.35 &&
      world.server.major >= ADDS_TABLES_SAFELY;
    this.#tables = late ? names.slice(0, -1) : names;
  }

  /** Until nobody writes any more, and all existing rows were read. */
  async play(): Promise<void> {
    const { random } = this.#world;
    await this.#begin();
    if (this.#course.killed) {
      const kills = 2 + Math.floor(random() * 4);
      for (let kill = 0; kill < kills; kill++) {
        await this.#killed(await this.#subject.begin(this.#tables));
      }
    }
    if (this.#tables.length < this.#world.names.length) await this.#addTable();
    const last = await this.#subject.begin();
    const over = this.#isOver(last);
    const writtenMs = this.#course.filled ? 5 * this.#stage.writingMs : 0;
    await Promise.race([over, sleep(Math.max(writtenMs, this.#stage.writingMs))]);
    await sleep(random() * this.#stage.writingMs * (this.#course.filled ? 0.1 : 1));
    await this.#world.end();
    await over;
  }

  async #begin(): Promise<void> {
    const { random } = this.#world;
    const world = this.#world;
    if (this.#course.filled) await world.fill();
    const early = this.#course.filled && random() < 0.5;
    if (early) {
      world.begin();
      await sleep(random() * 300);
    }
    await world.makeSlot(() => this.#subject.setup(this.#tables));
    if (!this.#course.filled) await world.fill();
    if (!early) world.begin();
    await sleep(random() * 300);
    if (random() < 0.6) {
      world.linger(random() * 1500);
      this.#course.count("transaction open across the start");
      await sleep(random() * 100);
    }
  }

  async #killed(consumer: ConsumerProcess): Promise<void> {
    const { random } = this.#world;
    if (random() < 0.85) await Promise.race([consumer.heard("handling"), sleep(3000)]);
    await sleep(random() ** 2 * 500);
    const kill = async () => {
      if (consumer.exit !== null) return;
      await consumer.kill();
      this.#course.count("kill -9");
    };
    if (random() < 0.6) return await kill();
    // What was handed out and confirmed still runs for everybody else when the next process starts.
    await this.#world.hold(async () => {
      await sleep(50 + random() * 200);
      await kill();
      const next = await this.#subject.begin(this.#tables);
      await Promise.race([next.heard("handling"), sleep(random() * 600)]);
      await next.kill();
      this.#course.count("kill -9");
    });
  }

  /** A table is watched from now on; its writers do not wait for that. */
  async #addTable(): Promise<void> {
    const { random } = this.#world;
    const consumer = await this.#subject.begin(this.#tables);
    await Promise.race([consumer.heard("streaming"), sleep(5000)]);
    await sleep(random() * 500);
    await consumer.heard("started");
    if (this.#course.killed) await consumer.kill();
    else consumer.signal("SIGTERM");
    await consumer.exited;
    this.#world.linger(random() * 1000);
    await sleep(random() * 100);
    await this.#subject.setup(this.#world.names);
    this.#course.count("table added");
  }

  async #isOver(consumer: ConsumerProcess): Promise<void> {
    const patienceMs = PATIENCE_MS + 5 * this.#stage.writingMs;
    const heard = await within("all rows to be read", consumer.heard("done"), patienceMs);
    if (heard === null) throw new Error(`It ended: ${consumer.errors.slice(0, 3000)}`);
  }
}
