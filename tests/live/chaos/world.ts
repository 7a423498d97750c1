/** One round's small world: fresh tables on a shared server, writers, and the truth about them. */

import { seededRandom } from "../../support/random.ts";
import type { PostgresServer } from "../../support/servers/postgres.ts";
import { sleep } from "../../support/streams.ts";
import { Oracle } from "./oracle.ts";
import { FragileSession, isConnectionLost } from "./session.ts";
import { type Ledger, tablesSql, Writer, type WrittenTransaction } from "./writer.ts";

const WRITERS = 3;

/** Tables and their writers. Make it with `World.create`, and leave it with `remove`. */
export class World {
  readonly server: PostgresServer;
  readonly seed: number;
  readonly schema: string;
  /** A source of numbers for whoever breaks something. */
  readonly random: () => number;
  readonly #committed: WrittenTransaction[] = [];
  readonly #writers: Writer[];
  readonly #sessions: FragileSession[];
  /** For questions. */
  readonly #session: FragileSession;
  readonly #random: () => number;

  private constructor(server: PostgresServer, seed: number) {
    this.server = server;
    this.seed = seed;
    this.schema = `chaos_${seed}`;
    this.random = seededRandom(seed);
    // Of its own: how often something else asks for a number depends on time.
    this.#random = seededRandom(seed + 0x10000000);
    let numbers = 0;
    let versions = 0;
    const ledger: Ledger = {
      schema: this.schema,
      committed: this.#committed,
      nextNumber: () => ++numbers,
      nextVersion: () => ++versions,
    };
    this.#session = new FragileSession(server.dsn);
    this.#sessions = Array.from({ length: WRITERS }, () => new FragileSession(server.dsn));
    this.#writers = this.#sessions.map((session, index) =>
      new Writer(session, ledger, seededRandom(seed + 0x20000000 + index), index)
    );
  }

  /** Creates the tables. */
  static async create(server: PostgresServer, seed: number): Promise<World> {
    const world = new World(server, seed);
    await world.query(`DROP SCHEMA IF EXISTS ${world.schema} CASCADE`);
    await world.query(tablesSql(world.schema));
    return world;
  }

  /** The tables to watch. */
  get tables(): string[] {
    return ["plain", "wide"].map((table) => `${this.schema}.${table}`);
  }

  /** Writes, in bursts and with pauses, for so long, or until told. */
  async write(durationMs: number, signal?: AbortSignal): Promise<void> {
    const end = performance.now() + durationMs;
    while (performance.now() < end && !signal?.aborted) {
      const pauseMs = this.#random() < 0.3 ? 0 : this.#random() * 20;
      const size = 1 + Math.floor(this.#random() * 30);
      await Promise.all(this.#writers.map(async (writer) => {
        for (let count = 0; count < size && performance.now() < end; count++) {
          await writer.transaction();
          if (pauseMs > 0) await sleep(pauseMs);
        }
      }));
      // Up to 10 a TRUNCATE is not published.
      if (this.server.major > 10 && this.#random() < 0.15) await this.#truncate();
    }
  }

  async #truncate(): Promise<void> {
    const [first, ...others] = this.#writers;
    const names = await first!.truncate();
    for (const other of others) other.forget(names);
  }

  /** All that was committed. Call it when nobody writes any more. */
  async truth(): Promise<Oracle> {
    // The row's own transaction: a savepoint that wrote it would show here, so none does.
    const rows = await this.query<{ number: number; xid: string }>(
      `SELECT number, xmin::text AS xid FROM ${this.schema}.done`,
    );
    const xids = new Map(rows.map(({ number, xid }) => [number, Number(xid)]));
    const known = this.#committed.every(({ number }) => xids.has(number));
    if (!known || xids.size !== this.#committed.length) {
      throw new Error(`Seed ${this.seed}: the writers are wrong about what they committed`);
    }
    return new Oracle(this.#committed, xids);
  }

  /** Asks the server, for as long as it takes to be up. */
  async query<Row extends object>(sql: string): Promise<Row[]> {
    for (;;) {
      try {
        return await this.#session.query<Row>(sql);
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        await sleep(20);
      }
    }
  }

  /** Drops what it made. */
  async remove(): Promise<void> {
    await this.query(`DROP SCHEMA ${this.schema} CASCADE`);
    await Promise.all([this.#session, ...this.#sessions].map((session) => session.end()));
  }
}
