/**
 * A writer that knows nothing: it writes whatever comes to its mind, fails at times, and leaves what
 * became of it to the server. Every version of a row has a number of its own in column `v`.
 */

import { sleep } from "../../support/streams.ts";
import { quoteIdentifier, quoteLiteral } from "../../../src/wire/quote.ts";
import { isKey, keySql, nameOf, type TableShape } from "./backfill_tables.ts";
import type { FragileSession } from "./session.ts";
import { pick } from "./writer.ts";

/** What the writers of a round share. */
export interface Desk {
  schema: string;
  major: number;
  shapes: readonly TableShape[];
  /** Prepared transactions that somebody has to end. */
  prepared: string[];
  nextNumber(): number;
  count(fault: string): void;
}

/** How long a statement waits for a lock. */
const LOCK_MS = 250;
// What writers do to each other: a row that is there, a lock that somebody has, a deadlock.
const EXPECTED = /^(23505|55P03|40P01|25P02|40001)$/;

/** SQL that inserts the rows of some numbers, from a set `n(n)`. */
export function insertSql(
  shape: TableShape,
  numbers: string,
  { wide = 0.3, alike = false } = {},
): string {
  const values = new Map<string, string>([
    ["v", version(shape)],
    ["u", `nextval('${quoteIdentifier(shape.schema)}.versions')`],
    ["n", "(random() * 1000)::int"],
    ['od"d, col', `json_build_object('a b', n, E'\\\\', E'\\t\\n')::jsonb`],
    ["__proto__", "CASE WHEN random() < 0.5 THEN '\\N' END"],
  ]);
  keySql(shape, "n", alike).forEach((sql, index) => {
    values.set(shape.key.columns[index]!.name, sql);
  });
  for (const name of shape.wide) values.set(name, padSql(wide));
  const names = shape.columns.map((name) => quoteIdentifier(name)).join();
  const row = shape.columns.map((name) => values.get(name)!).join();
  return `INSERT INTO ${nameOf(shape)} (${names}) SELECT ${row} FROM ${numbers} n(n)`;
}

function version({ schema }: TableShape): string {
  return `nextval('${quoteIdentifier(schema)}.versions')`;
}

/** @param wide how many of the values are stored out of line */
function padSql(wide: number): string {
  return `CASE WHEN random() < ${wide} THEN ` +
    "repeat(md5(random()::text), 95 + (random() * 190)::int) " +
    "WHEN random() < 0.5 THEN md5(random()::text) END";
}

/** The statements of a transaction over random keys. */
export class Scribble {
  readonly #desk: Desk;
  readonly #random: () => number;
  readonly #spare: number;

  /** @param spare the number of a key that nobody else uses */
  constructor(desk: Desk, random: () => number, spare: number) {
    this.#desk = desk;
    this.#random = random;
    this.#spare = spare;
  }

  /** One thing that is done to a table. */
  step(): string {
    const random = this.#random;
    const shape = pick(this.#desk.shapes, random);
    const [one, other] = [this.#number(shape), this.#number(shape)];
    const series = (...numbers: number[]) => `unnest(ARRAY[${numbers}])`;
    const conflict = shape.identity === "no key" ? "" : " ON CONFLICT DO NOTHING";
    const insert = (n: number) => insertSql(shape, series(n), { alike: random() < 0.3 }) + conflict;
    const remove = (n: number) => `DELETE FROM ${nameOf(shape)} WHERE ${isKey(shape, `${n}`)}`;
    const chance = random();
    if (chance < 0.05 && shape.identity === "no key") return this.#twin(shape, one);
    if (chance < 0.2) return insert(one);
    if (chance < 0.28) return this.#upsert(shape, one);
    if (chance < 0.55) return this.#update(shape, one);
    if (chance < 0.65) return remove(one);
    if (chance < 0.72) return [remove(one), insert(one)].join("; ");
    if (chance < 0.76) {
      const again = [insert(one), this.#update(shape, one), remove(one)];
      return [remove(one), ...again, insert(one)].join("; ");
    }
    // No consumer could follow: its changes are told by the index alone.
    if (shape.identity === "other index") return this.#update(shape, one);
    if (chance < 0.79) return this.#rewrite(shape, one);
    if (chance < 0.92) return this.#move(shape, one, other);
    const spare = shape.key.most === undefined ? shape.keys + this.#spare : other;
    return [
      this.#move(shape, one, spare),
      this.#move(shape, other, one),
      this.#move(shape, spare, other),
    ].join("; ");
  }

  /** Something that is done to many rows at once. */
  many(): string {
    const random = this.#random;
    const shape = pick(this.#desk.shapes, random);
    const rest = Math.floor(random() * 7);
    const some = `v % 7 = ${rest}`;
    const chance = random();
    if (chance < 0.4) return `UPDATE ${nameOf(shape)} SET ${this.#set(shape)} WHERE ${some}`;
    if (chance < 0.6) return `DELETE FROM ${nameOf(shape)} WHERE ${some}`;
    const first = Math.floor(random() * shape.keys);
    const last = Math.min(shape.keys - 1, first + Math.floor(random() * 300));
    const insert = insertSql(shape, `generate_series(${first}, ${last})`, { wide: 0.05 });
    if (shape.identity !== "no key") return `${insert} ON CONFLICT DO NOTHING`;
    return insertSql(shape, `generate_series(${first}, ${Math.min(last, first + 30)})`);
  }

  /** Up to 10 it is not published. */
  truncate(): string {
    const random = this.#random;
    const shapes = random() < 0.3 ? this.#desk.shapes : [pick(this.#desk.shapes, random)];
    return `TRUNCATE ${shapes.map(nameOf).join()}`;
  }

  #number({ keys }: TableShape): number {
    const random = this.#random;
    // Some keys are touched again and again.
    return Math.floor((random() < 0.3 ? random() * 0.03 : random()) * keys);
  }

  /** What an update sets: not always what is stored out of line. */
  #set(shape: TableShape): string {
    const random = this.#random;
    const wide = shape.wide.filter(() => random() < 0.3);
    const sets = [
      `v = ${version(shape)}`,
      ...random() < 0.5 ? ["n = (random() * 1000)::int"] : [],
      ...random() < 0.2 ? [`u = ${version(shape)}`] : [],
      ...wide.map((name) => `${quoteIdentifier(name)} = ${padSql(0.6)}`),
    ];
    return sets.join();
  }

  #update(shape: TableShape, n: number): string {
    return `UPDATE ${nameOf(shape)} SET ${this.#set(shape)} WHERE ${isKey(shape, `${n}`)}`;
  }

  #upsert(shape: TableShape, n: number): string {
    const insert = insertSql(shape, `unnest(ARRAY[${n}])`);
    if (shape.identity === "no key") return insert;
    const key = shape.primaryKey.map((name) => quoteIdentifier(name)).join();
    return `${insert} ON CONFLICT (${key}) DO UPDATE SET ${this.#set(shape)}`;
  }

  /** Another row that is the same in all. */
  #twin(shape: TableShape, n: number): string {
    const names = shape.columns.map((name) => quoteIdentifier(name)).join();
    return `INSERT INTO ${nameOf(shape)} (${names}) ` +
      `SELECT ${names} FROM ${nameOf(shape)} WHERE ${isKey(shape, `${n}`)} LIMIT 1`;
  }

  /** The same key, written otherwise. */
  #rewrite(shape: TableShape, n: number): string {
    const values = keySql(shape, `${n}`, this.#random() < 0.7);
    const sets = shape.key.columns.map(({ name }, at) =>
      `${quoteIdentifier(name)} = ${values[at]}`
    );
    return `UPDATE ${nameOf(shape)} SET ${[...sets, this.#set(shape)].join()} ` +
      `WHERE ${isKey(shape, `${n}`)}`;
  }

  #move(shape: TableShape, from: number, to: number): string {
    const values = keySql(shape, `${to}`);
    const sets = shape.key.columns.map(({ name }, at) =>
      `${quoteIdentifier(name)} = ${values[at]}`
    );
    return `UPDATE ${nameOf(shape)} SET ${[...sets, this.#set(shape)].join()} ` +
      `WHERE ${isKey(shape, `${from}`)} ` +
      `AND NOT EXISTS (SELECT FROM ${nameOf(shape)} WHERE ${isKey(shape, `${to}`)})`;
  }
}

/** One session that writes. */
export class Scribbler {
  readonly #desk: Desk;
  readonly #random: () => number;
  readonly #session: FragileSession;
  readonly #scribble: Scribble;
  #ready = false;

  /** @param index from 0, another one for each of them */
  constructor(desk: Desk, session: FragileSession, random: () => number, index: number) {
    this.#desk = desk;
    this.#session = session;
    this.#random = random;
    this.#scribble = new Scribble(desk, random, index);
  }

  /** Writes one transaction, or tries to. @param stayMs how long it stays open at least */
  async transaction(stayMs = 0): Promise<void> {
    const random = this.#random;
    const steps = Array.from({ length: random() < 0.5 ? 1 : 1 + Math.floor(random() * 8) }, () => {
      const step = this.#scribble.step();
      const chance = random();
      if (chance < 0.85) return step;
      const nested = `SAVEPOINT a; ${step}; SAVEPOINT b; ${this.#scribble.step()}`;
      return `${nested}; ${
        pick(["ROLLBACK TO a", "ROLLBACK TO b; RELEASE a", "RELEASE a"], random)
      }`;
    });
    if (random() < 0.04) steps.push(this.#scribble.many());
    if (this.#desk.major > 10 && random() < 0.012) {
      steps.splice(Math.floor(random() * steps.length), 0, this.#scribble.truncate());
      this.#desk.count("TRUNCATE");
    }
    await this.#run(steps, stayMs);
  }

  async #run(steps: string[], stayMs: number): Promise<void> {
    const random = this.#random;
    const { schema, prepared } = this.#desk;
    const ending = pick([..."cccccccccccccccaaaaapr"] as ("c" | "a" | "p" | "r")[], random);
    const name = `${schema}_${this.#desk.nextNumber()}`;
    const begin = ending === "a" ? "BEGIN; SET LOCAL synchronous_commit = off" : "BEGIN";
    const end = ending === "p"
      ? `PREPARE TRANSACTION ${quoteLiteral(name)}`
      : ending === "r"
      ? "ROLLBACK"
      : "COMMIT";
    try {
      if (!this.#ready) {
        await this.#session.query(
          `SET lock_timeout = ${LOCK_MS}; SET deadlock_timeout = 100; SET client_min_messages = error`,
        );
        this.#ready = true;
      }
      if (stayMs === 0 && random() < 0.5) {
        await this.#session.query([begin, ...steps, end].join("; "));
      } else {
        await this.#session.query(begin);
        for (const step of steps) {
          await this.#session.query(step);
          if (random() < 0.2) await sleep(random() * 10);
        }
        await sleep(stayMs);
        await this.#session.query(end);
      }
      if (ending === "p") prepared.push(name);
      this.#desk.count("transaction");
    } catch (error) {
      await this.#session.query("ROLLBACK");
      if (!EXPECTED.test((error as { code?: string }).code ?? "")) throw error;
    }
  }
}
