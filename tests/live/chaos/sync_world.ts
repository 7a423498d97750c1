/** Two tables that are synced, one who writes to them, and what a store is to hold of them in the end. */

import { seededRandom } from "../../support/random.ts";
import type { PostgresServer } from "../../support/servers/postgres.ts";
import { sleep } from "../../support/streams.ts";
import { FragileSession, isConnectionLost } from "./session.ts";
import { pick } from "./writer.ts";

/** Between the pieces of a body, each of which is a chunk. */
export const BETWEEN_PIECES = " | ";
/** Pieces of a body, at most. */
export const MOST_PIECES = 9;
/** Over all versions of all rows. */
export const PIECES_ON_AVERAGE = 2;
/** Rows of `notes` for each of `docs`. */
const NOTES_SHARE = 0.05;
/** Where a row of `docs` goes whose key changes, and comes back from. */
const AWAY = 10_000_000;
/** Transactions of a round, about. */
const TRANSACTIONS = 400;

/** A point that a store is to hold. */
export interface WantedPoint {
  table: string;
  key: string;
  chunk: number;
  chunks: number;
  text: string;
  payload: Record<string, unknown>;
}

/** What was ever written. */
export interface SyncHistory {
  /** How often a text was made that the point before it had not: how often it had to be embedded, at most. */
  made: Map<string, number>;
  /** Of rows that were gone at some time, as `nameOf` writes them. */
  gone: Set<string>;
  /** Changes of rows. */
  changes: number;
  /** Pieces that may be read again later than their row was changed: of bodies that were not sent. */
  unsent: number;
}

/** One text for a table and a key. */
export function nameOf(table: string, key: string): string {
  return JSON.stringify([table, key]);
}

/** What `text` of a synced row is cut into. */
export function piecesOf(body: string | null): string[] {
  return body === null ? [] : body.split(BETWEEN_PIECES);
}

/** Make it with `create`, and leave it with `remove`. */
export class SyncWorld {
  readonly server: PostgresServer;
  readonly seed: number;
  readonly schema: string;
  readonly rows: number;
  /** A source of numbers for whoever breaks something. */
  readonly random: () => number;
  readonly #random: () => number;
  readonly #session: FragileSession;
  /** For questions, while the other one is in a transaction. */
  readonly #asking: FragileSession;
  #version = 0;

  /** Creates the tables, and fills them. */
  static async create(server: PostgresServer, seed: number, rows: number): Promise<SyncWorld> {
    const world = new SyncWorld(server, seed, rows);
    const { schema } = world;
    await world.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
    await world.query(world.#tablesSql());
    await world.query(world.#fillSql("docs"));
    await world.query(world.#fillSql("notes"));
    return world;
  }

  private constructor(server: PostgresServer, seed: number, rows: number) {
    this.server = server;
    this.seed = seed;
    this.rows = rows;
    this.schema = `chaos_sync_${seed}`;
    this.random = seededRandom(seed + 0x80000000);
    this.#random = seededRandom(seed + 0x81000000);
    this.#session = new FragileSession(server.dsn);
    this.#asking = new FragileSession(server.dsn);
  }

  /** The tables to sync. */
  get tables(): { docs: string; notes: string } {
    return { docs: `${this.schema}.docs`, notes: `${this.schema}.notes` };
  }

  /** `body(id, v)`: null, one piece, some, or many. Piece 1 is another one with each version, others at times. */
  #tablesSql(): string {
    const { schema, seed } = this;
    // Those of many pieces are stored out of line, and not sent where they do not change.
    const pad = seed % 3 === 0 ? `repeat('.', CASE WHEN h = 9 THEN 400 ELSE 0 END)` : "''";
    const pieces = `CASE h WHEN 0 THEN 0 WHEN 7 THEN 2 WHEN 8 THEN 3 WHEN 9 THEN ${MOST_PIECES}
      ELSE 1 END`;
    const identity = seed % 2 === 0 ? "DEFAULT" : "FULL";
    const log = (table: string, key: (row: string) => string) => `
      CREATE FUNCTION ${schema}.log_${table}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'TRUNCATE' THEN
          INSERT INTO ${schema}.history (tab) VALUES ('${table}');
        ELSIF TG_OP = 'INSERT' THEN
          INSERT INTO ${schema}.history (tab, key, body) VALUES ('${table}', ${
      key("NEW")
    }, NEW.body);
        ELSIF TG_OP = 'DELETE' THEN
          INSERT INTO ${schema}.history (tab, old_key) VALUES ('${table}', ${key("OLD")});
        ELSE
          INSERT INTO ${schema}.history (tab, key, old_key, body)
          VALUES ('${table}', ${key("NEW")}, ${key("OLD")}, NEW.body);
        END IF;
        RETURN NULL;
      END $$;
      CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON ${schema}.${table}
        FOR EACH ROW EXECUTE PROCEDURE ${schema}.log_${table}();
      CREATE TRIGGER log_truncate AFTER TRUNCATE ON ${schema}.${table}
        EXECUTE PROCEDURE ${schema}.log_${table}();
      ALTER TABLE ${schema}.${table} REPLICA IDENTITY ${identity};`;
    return `
      CREATE SCHEMA ${schema};
      CREATE FUNCTION ${schema}.body(name text, n bigint, v bigint) RETURNS text LANGUAGE sql AS $$
        SELECT string_agg(format('%s %s piece %s, version %s%s', name, n, p, v - v % p, ${pad}),
          '${BETWEEN_PIECES}' ORDER BY p)
        FROM (SELECT (n * 7919 + v * 104729 + ${seed}) % 10 AS h) hashed, generate_series(1, ${pieces}) p
      $$;
      CREATE TABLE ${schema}.docs
        (id bigint PRIMARY KEY, title text, body text, views int NOT NULL DEFAULT 0);
      ALTER TABLE ${schema}.docs ALTER body SET STORAGE EXTERNAL;
      CREATE TABLE ${schema}.notes (lang text, id int, body text, PRIMARY KEY (lang, id));
      CREATE TABLE ${schema}.history
        (seq bigserial PRIMARY KEY, tab text NOT NULL, key text, old_key text, body text);
      ${log("docs", (row) => `${row}.id::text`)}
      ${log("notes", (row) => `'["' || ${row}.lang || '","' || ${row}.id || '"]'`)}`;
  }

  /** Rows that are not there, those that are away included. */
  #fillSql(table: "docs" | "notes"): string {
    const { schema } = this;
    const v = ++this.#version;
    const rows = table === "docs" ? this.rows : Math.ceil(this.rows * NOTES_SHARE);
    return table === "docs"
      ? `INSERT INTO ${schema}.docs
        SELECT n, 'title ' || n, ${schema}.body('row', n, ${v}) FROM generate_series(1, ${rows}) n
        WHERE NOT EXISTS (SELECT FROM ${schema}.docs WHERE id IN (n, n + ${AWAY}))`
      : `INSERT INTO ${schema}.notes
        SELECT CASE n % 2 WHEN 0 THEN 'en' ELSE 'pt-BR' END, n, ${schema}.body('note', n, ${v})
        FROM generate_series(1, ${rows}) n WHERE NOT EXISTS (SELECT FROM ${schema}.notes WHERE id = n)`;
  }

  /**
   * Writes: of each hundred rows that are changed, 30 get another body, 5 go, 2 another key.
   *
   * @param durationMs about how long
   * @param onTruncate told of each
   */
  async write(durationMs: number, signal: AbortSignal, onTruncate: () => void): Promise<void> {
    const random = this.#random;
    const clearsDocs = this.server.major > 10 && this.rows <= 5000 && random() < 0.5;
    for (let number = 0; number < TRANSACTIONS && !signal.aborted; number++) {
      const statements = this.#transaction();
      // Up to 10 a TRUNCATE is not published.
      if (this.server.major > 10 && random() < 0.015) {
        onTruncate();
        statements.push(`TRUNCATE ${this.schema}.notes`, this.#fillSql("notes"));
      }
      if (clearsDocs && number === TRANSACTIONS >> 1) {
        onTruncate();
        statements.push(`TRUNCATE ${this.schema}.docs`, this.#fillSql("docs"));
      }
      const end = random() < 0.05 ? "ROLLBACK" : "COMMIT";
      await this.#try([`BEGIN`, ...statements, end].join(";\n"));
      await sleep(random() * 2 * durationMs / TRANSACTIONS);
    }
  }

  /** What the server's going away interrupts is committed or not: the tables know. */
  async #try(sql: string): Promise<void> {
    try {
      await this.#session.query(sql);
    } catch (error) {
      // Two rows of one key.
      if ((error as { code?: string }).code === "23505") return await this.#try("ROLLBACK");
      if (!isConnectionLost(error)) throw error;
      await sleep(50);
    }
  }

  #transaction(): string[] {
    const random = this.#random;
    const { schema, rows } = this;
    const statements: string[] = [];
    const stretch = (share: number) => {
      const from = 1 + Math.floor(random() * rows);
      // As many rows in all as are to be touched, over all transactions.
      const size = 2 * random() * share * rows / (TRANSACTIONS * 2);
      const to = from + Math.floor(size + random());
      return `id % ${AWAY} BETWEEN ${from} AND ${to}`;
    };
    for (let statement = 0; statement < 1 + random() * 3; statement++) {
      const v = ++this.#version;
      const chance = random();
      if (chance < 0.35) {
        statements.push(
          `UPDATE ${schema}.docs SET body = ${schema}.body('row', id, ${v}), views = views + 1
          WHERE ${stretch(0.9)}`,
        );
      } else if (chance < 0.65) {
        statements.push(
          `UPDATE ${schema}.docs SET views = views + 1, title = 'title ' || id || ' ' || ${v}
          WHERE ${stretch(1.2)}`,
        );
      } else if (chance < 0.72) {
        statements.push(`DELETE FROM ${schema}.docs WHERE ${stretch(0.7)}`);
        if (random() < 0.3) statements.push(this.#fillSql("docs"));
      } else if (chance < 0.77) {
        statements.push(
          `UPDATE ${schema}.docs SET id = (id + ${AWAY}) % ${2 * AWAY} WHERE ${stretch(0.4)}`,
        );
      } else if (chance < 0.82) {
        const [a, b] = [0, 0].map(() => 1 + Math.floor(random() * rows));
        statements.push(
          `UPDATE ${schema}.docs SET id = -1 WHERE id = ${a}`,
          `UPDATE ${schema}.docs SET id = ${a} WHERE id = ${b}`,
          `UPDATE ${schema}.docs SET id = ${b} WHERE id = -1`,
          // Where there was but one of them.
          `DELETE FROM ${schema}.docs WHERE id = -1`,
        );
      } else if (chance < 0.87) {
        statements.push(this.#fillSql("docs"));
      } else {
        const where = `id % 97 = ${Math.floor(random() * 97)}`;
        statements.push(pick([
          `UPDATE ${schema}.notes SET body = ${schema}.body('note', id, ${v}) WHERE ${where}`,
          `UPDATE ${schema}.notes SET lang = CASE lang WHEN 'en' THEN 'pt-BR' ELSE 'en' END WHERE ${where}`,
          `DELETE FROM ${schema}.notes WHERE ${where}`,
          this.#fillSql("notes"),
        ], random));
      }
    }
    return statements;
  }

  /** What a store is to hold of the tables as they are. */
  async wanted(): Promise<WantedPoint[]> {
    const { docs, notes } = this.tables;
    const points: WantedPoint[] = [];
    const add = (
      table: string,
      key: string,
      body: string | null,
      payload: WantedPoint["payload"],
    ) => {
      const pieces = piecesOf(body);
      for (const [chunk, text] of pieces.entries()) {
        points.push({ table, key, chunk, chunks: pieces.length, text, payload });
      }
    };
    interface Row {
      id: string;
      body: string | null;
    }
    for (
      const { id, title, body, views } of await this.query<
        Row & { title: string; views: number }
      >(`SELECT id::text, title, body, views FROM ${docs}`)
    ) add(docs, id, body, { title, views });
    for (
      const { lang, id, body } of await this.query<Row & { lang: string }>(
        `SELECT lang, id::text, body FROM ${notes}`,
      )
    ) add(notes, JSON.stringify([lang, id]), body, { lang });
    return points;
  }

  /** All that was ever committed. */
  async history(): Promise<SyncHistory> {
    const history: SyncHistory = { made: new Map(), gone: new Set(), changes: 0, unsent: 0 };
    const { made, gone } = history;
    const tables = new Map<string, Map<string, string[]>>();
    const rows = await this.query<
      { tab: string; key: string | null; old_key: string | null; body: string | null }
    >(`SELECT tab, key, old_key, body FROM ${this.schema}.history ORDER BY seq`);
    for (const { tab, key, old_key, body } of rows) {
      history.changes++;
      const name = `${this.schema}.${tab}`;
      const bodies = tables.get(name) ?? new Map<string, string[]>();
      tables.set(name, bodies);
      if (key === null && old_key === null) {
        for (const key of bodies.keys()) gone.add(nameOf(name, key));
        bodies.clear();
        continue;
      }
      const before = bodies.get(old_key ?? "") ?? [];
      if (old_key !== null && old_key !== key) {
        bodies.delete(old_key);
        gone.add(nameOf(name, old_key));
      }
      if (key === null) continue;
      const pieces = piecesOf(body);
      const stored = key === old_key ? before : [];
      for (const [at, piece] of pieces.entries()) {
        if (piece !== stored[at]) made.set(piece, (made.get(piece) ?? 0) + 1);
      }
      if (body !== null && body.length > 2000 && before.join() === pieces.join()) {
        history.unsent += 2 * MOST_PIECES;
      }
      bodies.set(key, pieces);
    }
    return history;
  }

  /** Asks the server, for as long as it takes to be up. */
  async query<Row extends object>(sql: string): Promise<Row[]> {
    for (;;) {
      try {
        return await this.#asking.query<Row>(sql);
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        await sleep(20);
      }
    }
  }

  /** Drops what it made. */
  async remove(): Promise<void> {
    await this.query(`DROP SCHEMA ${this.schema} CASCADE`);
    await Promise.all([this.#session.end(), this.#asking.end()]);
  }
}
