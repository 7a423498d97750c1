/** A round's tables, those who write to them, and what the server does meanwhile. */

import { quoteIdentifier, quoteLiteral } from "../../../src/wire/quote.ts";
import { formatTableName } from "../../../src/table_name.ts";
import { seededRandom } from "../../support/random.ts";
import type { PostgresServer } from "../../support/servers/postgres.ts";
import { sleep, until } from "../../support/streams.ts";
import { digest, type LoggedRow, type TableFacts } from "./backfill_model.ts";
import { nameOf, randomTables, type TableShape, tablesSql } from "./backfill_tables.ts";
import { type Desk, insertSql, Scribbler } from "./backfill_writer.ts";
import { FragileSession } from "./session.ts";

/** What the seed does not say. */
export interface WorldOptions {
  /** About how many rows there are in a table before anybody looks. */
  rows: number;
  /** Whether there may be tables without a key. */
  keyless: boolean;
  /** The server's standby, where consumers read from that. */
  standby?: PostgresServer | undefined;
}

/** As a walsender prints values: https://www.postgresql.org/docs/current/runtime-config-client.html */
export const WIRE_TEXT: string =
  "SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; " +
  "SET bytea_output = hex; SET extra_float_digits = 3";

/** Make it with `create`, and leave it with `remove`. */
export class BackfillWorld {
  readonly server: PostgresServer;
  readonly standby: PostgresServer | null;
  readonly seed: number;
  readonly schema: string;
  readonly shapes: readonly TableShape[];
  /** A source of numbers for whoever breaks something. */
  readonly random: () => number;
  readonly #session: FragileSession;
  readonly #sessions: FragileSession[] = [];
  readonly #scribblers: Scribbler[] = [];
  /** Those who stay. */
  readonly #lingering: Scribbler[] = [];
  readonly #desk: Desk;
  readonly #done = new AbortController();
  readonly #work: Promise<void>[] = [];
  /** How many may still prepare a transaction. */
  #writing = 0;
  #failure: unknown = null;

  /** Creates the tables. @param count hears of what is done to them */
  static async create(
    server: PostgresServer,
    seed: number,
    options: WorldOptions,
    count: (fault: string) => void,
  ): Promise<BackfillWorld> {
    const world = new BackfillWorld(server, seed, options, count);
    await world.query(`DROP SCHEMA IF EXISTS ${quoteIdentifier(world.schema)} CASCADE`);
    await world.query(tablesSql(world.schema, world.shapes));
    return world;
  }

  private constructor(
    server: PostgresServer,
    seed: number,
    { rows, keyless, standby }: WorldOptions,
    count: (fault: string) => void,
  ) {
    this.server = server;
    this.standby = standby ?? null;
    this.seed = seed;
    this.schema = seed % 3 === 0 ? `Chaos "${seed}` : `chaos_${seed}`;
    this.random = seededRandom(seed + 0x30000000);
    const random = seededRandom(seed + 0x40000000);
    const { major } = server;
    this.shapes = randomTables({ schema: this.schema, major, random, keyless, rows });
    this.#session = new FragileSession(server.dsn);
    let numbers = 0;
    const { schema, shapes } = this;
    const nextNumber = () => ++numbers;
    this.#desk = { schema, major, shapes, prepared: [], nextNumber, count };
    const writers = 2 + Math.floor(random() * 3);
    for (let index = 0; index < writers + 2; index++) {
      const own = seededRandom(seed * 16 + index + 0x50000000);
      const scribbler = new Scribbler(this.#desk, this.#connect(), own, index);
      (index < writers ? this.#scribblers : this.#lingering).push(scribbler);
    }
  }

  #connect(): FragileSession {
    const session = new FragileSession(this.server.dsn);
    this.#sessions.push(session);
    return session;
  }

  /** Names of tables as `watch` takes them. */
  get names(): string[] {
    return this.shapes.map(formatTableName);
  }

  /** The one who keeps committers waiting, or makes sure that nobody is. */
  #turn: Promise<void> = Promise.resolve();

  /** What the oracle has to know of the tables. */
  get facts(): TableFacts[] {
    return this.shapes.map(({ table, primaryKey, tells, columns }) => {
      return { table, primaryKey, tells, columns };
    });
  }

  /** Puts the first rows in: a part of the keys. */
  async fill(): Promise<void> {
    for (const shape of this.shapes) {
      const numbers = `generate_series(0, ${shape.keys - 1}) every(n) WHERE n % 13 < 10`;
      await this.query(insertSql(shape, `(SELECT n FROM ${numbers})`, { wide: 0.25 }));
    }
  }

  /** Begins to write, to end what others have prepared, and to keep committers waiting. */
  begin(): void {
    const scribbling = this.#scribblers.map((scribbler, index) => this.#scribble(scribbler, index));
    this.#work.push(...scribbling, this.#endPrepared(), this.#holdAtTimes());
  }

  /** Some transactions that stay open for so long. */
  linger(stayMs: number): void {
    for (const scribbler of this.#lingering.splice(0)) {
      this.#work.push(this.#write(async () => {
        await scribbler.transaction(stayMs);
        this.#lingering.push(scribbler);
      }));
    }
  }

  /** Lets the writers finish. @throws what one of them failed with. */
  async end(): Promise<void> {
    this.#done.abort();
    await Promise.all(this.#work);
    if (this.#failure !== null) throw this.#failure;
  }

  async #scribble(scribbler: Scribbler, index: number): Promise<void> {
    const random = seededRandom(this.seed * 16 + index + 0x60000000);
    await this.#write(async () => {
      while (!this.#done.signal.aborted) {
        await scribbler.transaction(random() < 0.01 ? random() * 600 : 0);
        if (random() < 0.5) await sleep(random() * 20);
      }
    });
  }

  async #write(work: () => Promise<void>): Promise<void> {
    this.#writing++;
    try {
      await work();
    } catch (error) {
      this.#failure ??= error;
    } finally {
      this.#writing--;
    }
  }

  async #endPrepared(): Promise<void> {
    const random = seededRandom(this.seed + 0x70000000);
    const session = this.#connect();
    const { prepared, count } = this.#desk;
    while (this.#writing > 0 || prepared.length > 0) {
      const name = prepared.shift();
      await sleep(random() * (name === undefined ? 20 : 120));
      if (name === undefined) continue;
      const how = random() < 0.8 ? "COMMIT PREPARED" : "ROLLBACK PREPARED";
      await session.query(`${how} ${quoteLiteral(name)}`);
      count(how);
    }
  }

  async #holdAtTimes(): Promise<void> {
    const random = seededRandom(this.seed + 0x71000000);
    while (!this.#done.signal.aborted) {
      await sleep(100 + random() * 1200);
      if (!this.#done.signal.aborted) await this.hold(() => sleep(30 + random() ** 2 * 350));
    }
  }

  /**
   * Keeps all waiting that commit meanwhile: what they wrote is safe and decoded, and to everybody else
   * their transactions still run.
   */
  async hold(meanwhile: () => Promise<void>): Promise<void> {
    await this.#exclusively(async () => {
      await this.#setStandbys("= 'nobody'");
      try {
        await meanwhile();
      } finally {
        await this.#setStandbys("TO DEFAULT");
      }
      this.#desk.count("committers held");
    });
  }

  /**
   * Makes a slot while nobody is kept waiting. One that is made beside a TRUNCATE that is committed and still
   * counts as running is of no use, by PostgreSQL's own fault: decoding what is then written to the
   * table fails with "could not map filenumber … to relation OID", whoever reads. To see it: hold here.
   */
  async makeSlot(make: () => Promise<void>): Promise<void> {
    await this.#exclusively(async () => {
      await until("nobody to be kept waiting", async () => {
        const waiting = await this.server.query(
          "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'",
        );
        return waiting.length === 0;
      });
      await make();
    });
  }

  #exclusively(work: () => Promise<void>): Promise<void> {
    return this.#turn = this.#turn.catch(() => {}).then(work);
  }

  async #setStandbys(value: string): Promise<void> {
    await this.server.query(`ALTER SYSTEM SET synchronous_standby_names ${value}`);
    await this.server.query("SELECT pg_reload_conf()");
  }

  /** What the tables hold, as a walsender would print it. */
  async truth(): Promise<Map<string, LoggedRow[]>> {
    await this.query(WIRE_TEXT);
    const rows = new Map<string, LoggedRow[]>();
    for (const shape of this.shapes) {
      const columns = shape.columns.map((name) => quoteIdentifier(name));
      // The type's own output, where a cast to text would drop blanks or write booleans out.
      const texts = columns.map((name) =>
        `CASE WHEN ${name} IS NOT NULL THEN format('%s', ${name}) END`
      );
      const found = await this.query<{ row: (string | null)[] }>(
        `SELECT json_build_array(${texts.join()}) AS row FROM ${nameOf(shape)}`,
      );
      rows.set(
        shape.table,
        found.map(({ row }) =>
          row.map((value, at) => [shape.columns[at]!, value === null ? null : digest(value)])
        ),
      );
    }
    return rows;
  }

  /** The end of the WAL, behind all that was committed. */
  async walEnd(): Promise<string> {
    await this.query(`INSERT INTO ${quoteIdentifier(this.schema)}.unwatched VALUES (1)`);
    const [row] = await this.query<{ lsn: string }>("SELECT pg_current_wal_lsn()::text AS lsn");
    return row!.lsn;
  }

  /** Asks the server. */
  async query<Row extends object>(sql: string): Promise<Row[]> {
    return await this.#session.query<Row>(sql);
  }

  /** Drops what it made. */
  async remove(): Promise<void> {
    this.#done.abort();
    await Promise.all(this.#work);
    await this.query(`DROP SCHEMA ${quoteIdentifier(this.schema)} CASCADE`);
    await Promise.all([this.#session, ...this.#sessions].map((session) => session.end()));
  }
}
