/** A table with a slot of its own, for tests of what streams do with their handlers. */

import { parseLsn, PgStream, type PgStreamOptions } from "../../mod.ts";
import { confirmedLsn, type Database, uniqueName, until, walsenderPid } from "./streams.ts";

/** Made by `create`, and left with `remove`. */
export class TestTable {
  readonly #db: Database;
  readonly #options: PgStreamOptions;
  /** The table's name. */
  readonly name: string;
  /** The slot's, and the publication's. */
  readonly slotName: string = uniqueName();

  private constructor(db: Database, name: string, options: PgStreamOptions) {
    this.#db = db;
    this.name = name;
    this.#options = options;
  }

  /**
   * Creates the table, and its slot and publication.
   *
   * @param definition what stands in the parentheses of CREATE TABLE
   * @param more statements about the table, which its name follows: `(table) => "ALTER TABLE …"`
   * @param options of every stream of the table
   */
  static async create(
    db: Database,
    prefix: string,
    { definition = "id int PRIMARY KEY, v text", more, ...options }:
      & PgStreamOptions
      & { definition?: string; more?: (table: string) => string } = {},
  ): Promise<TestTable> {
    const table = new TestTable(db, uniqueName(prefix), options);
    await db.query(`CREATE TABLE ${table.name} (${definition})`);
    if (more !== undefined) await db.query(more(table.name));
    await table.stream().setup();
    return table;
  }

  /** A stream of the table that nobody handles yet. */
  stream(options: PgStreamOptions = {}): PgStream {
    const { slotName } = this;
    const all = { dsn: this.#db.dsn, slotName, logger: false as const, ...this.#options };
    return new PgStream({ ...all, ...options }).watch(this.name);
  }

  /** Inserts rows, each in a transaction of its own. */
  async insert(...ids: number[]): Promise<void> {
    for (const id of ids) await this.#db.query(`INSERT INTO ${this.name} (id) VALUES (${id})`);
  }

  /** Inserts rows in one transaction. */
  async insertMany(first: number, last: number, value = "NULL"): Promise<void> {
    await this.#db.query(`INSERT INTO ${this.name} (id, v)
      SELECT n, ${value} FROM generate_series(${first}, ${last}) n`);
  }

  /** What the server holds for confirmed. */
  confirmedLsn(): Promise<bigint> {
    return confirmedLsn(this.#db, this.slotName);
  }

  /** Who streams; null: nobody. */
  walsenderPid(): Promise<number | null> {
    return walsenderPid(this.#db, this.slotName);
  }

  /** Ends the session that streams. */
  async terminate(): Promise<void> {
    await this.#db.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
      WHERE slot_name = '${this.slotName}'`);
  }

  /** Waits until nobody streams. */
  async free(): Promise<void> {
    await until("the slot to be free", async () => await this.walsenderPid() === null);
  }

  /** Drops slot, publication and table. */
  async remove(): Promise<void> {
    await this.stream().teardown();
    await this.#db.query(`DROP TABLE ${this.name}`);
  }
}

/** Something that handlers wait at until it is opened. */
export class Gate {
  readonly #opened: PromiseWithResolvers<void> = Promise.withResolvers();
  /** How many have come to it. */
  waiting = 0;

  /** Waits until it is opened. */
  pass(): Promise<void> {
    this.waiting++;
    return this.#opened.promise;
  }

  /** Lets all through, and whoever comes later. */
  open(): void {
    this.#opened.resolve();
  }
}

/** Whole numbers from the first to the last, as texts. */
export function texts(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => String(first + index));
}

/** The end of what the server holds for safe of its WAL. */
export async function currentLsn(db: Database): Promise<bigint> {
  const [row] = await db.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
  return parseLsn(row!.lsn);
}
