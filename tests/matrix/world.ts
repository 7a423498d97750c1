/** The sessions in which a shape is played, and what SELECT says at its end. */

import { assertEquals } from "@std/assert";
import type postgres from "postgres";
import { openClient } from "../support/streams.ts";
import type { Content } from "./model.ts";
import type { Compared, Script, Step, World } from "./shape.ts";

/** Changes of it tell that all before them has come. */
export const MARKER = "matrix_marker";
// As a stream reads: what SELECT prints is compared with what it tells.
const SETTINGS =
  `SET client_encoding = 'UTF8'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
  SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 3; SET search_path = ''`;

const quote = (name: string) => `"${name.replaceAll('"', '""')}"`;

/** Sessions of a database by name, which several schemas use one after the other. */
export class Sessions {
  readonly dsn: string;
  readonly #sessions = new Map<string, { sql: postgres.Sql; schema: string }>();

  constructor(dsn: string) {
    this.dsn = dsn;
  }

  /** The session of this name, which looks into this schema. */
  async of(name: string, schema: string): Promise<postgres.Sql> {
    let session = this.#sessions.get(name);
    if (session === undefined) {
      this.#sessions.set(name, session = { sql: openClient(this.dsn), schema: "" });
    }
    if (session.schema !== schema) {
      session.schema = schema;
      // Whoever had it before may have failed in the middle of a transaction.
      await session.sql.unsafe("ROLLBACK");
      await session.sql.unsafe(`SET search_path = ${quote(schema)}, public`);
    }
    return session.sql;
  }

  /** Ends them all. */
  async end(): Promise<void> {
    const sessions = [...this.#sessions.values()];
    this.#sessions.clear();
    await Promise.all(sessions.map(({ sql }) => sql.end({ timeout: 1 })));
  }
}

/** A schema of a database, and who writes there. */
export class SqlWorld implements World {
  readonly major: number;
  readonly schema: string;
  readonly #sessions: Sessions;

  constructor(sessions: Sessions, { major, schema }: { major: number; schema: string }) {
    this.#sessions = sessions;
    this.major = major;
    this.schema = schema;
  }

  get dsn(): string {
    return this.#sessions.dsn;
  }

  /** @param name of the publication, where the script makes it */
  async create({ before, prepare, publication }: Script, name: string): Promise<void> {
    await this.query(`CREATE SCHEMA ${quote(this.schema)};
      CREATE TABLE ${MARKER} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`);
    if (before !== "") await this.query(before);
    await prepare?.(this);
    if (publication === undefined) return;
    const text = publication.replaceAll("$marker", MARKER);
    await this.query(`CREATE PUBLICATION ${name} ${text}`);
  }

  readonly query = async (sql: string, session = "main"): Promise<Record<string, unknown>[]> => [
    ...await (await this.#sessions.of(session, this.schema)).unsafe(
      sql.replaceAll("$schema", this.schema),
    ),
  ];

  async run(step: Step): Promise<void> {
    if (typeof step === "function") return void await step(this);
    if (typeof step === "string") return void await this.query(step);
    const { sql, session, fails } = step;
    const code = await this.query(sql, session)
      .then(() => undefined, (error) => error.code ?? error);
    assertEquals(code, fails, sql);
  }

  /**
   * What SELECT says, printed by the output functions: a cast to text would say `true` for `t`.
   *
   * @param all rows that never came as changes too
   */
  async contents({ watch, model = {} }: Script, all = false): Promise<Content[]> {
    if (typeof model === "string") return [];
    const session = await this.#sessions.of("oracle", this.schema);
    await session.unsafe(SETTINGS);
    const contents: Content[] = [];
    for (const table of watch) {
      const { came = "true", ...compared } = model[table] ?? {};
      const where = all ? compared.where : `(${compared.where ?? true}) AND ${came}`;
      const content = await this.#contentOf(session, table, {
        ...compared,
        ...where === undefined ? {} : { where },
      });
      if (content !== null) contents.push({ table, ...content });
    }
    return contents;
  }

  /** Null where the table is gone. */
  async #contentOf(
    session: postgres.Sql,
    table: string,
    { columns: chosen, where = "true", only = false }: Compared,
  ): Promise<Omit<Content, "table"> | null> {
    const keys = this.major >= 11 ? "indnkeyatts" : "indnatts";
    const place = (kind: string) =>
      `(SELECT n FROM pg_index, unnest(indkey) WITH ORDINALITY AS parts (part, n)
        WHERE indrelid = attrelid AND ${kind} AND part = attnum AND n <= ${keys})::int`;
    const all = await session<{ name: string; key: number | null; identity: number | null }[]>`
      SELECT attname AS name, ${session.unsafe(place("indisprimary"))} AS key,
        ${session.unsafe(place("indisreplident"))} AS identity
      FROM pg_attribute JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
      WHERE nspname = ${this.schema} AND relname = ${table} AND attnum > 0 AND NOT attisdropped
        ${session.unsafe(this.major >= 12 ? "AND attgenerated = ''" : "")} ORDER BY attnum`;
    if (all.length === 0) return null;
    const namesOf = (index: "key" | "identity") =>
      all.filter((column) => column[index] !== null)
        .sort((a, b) => a[index]! - b[index]!).map(({ name }) => name);
    const columns = chosen ?? all.map(({ name }) => name);
    const keyColumns = namesOf("key");
    const other = namesOf("identity");
    const name = `${only ? "ONLY" : ""} ${quote(this.schema)}.${quote(table)}`;
    const found = await session.unsafe(
      `SELECT ${columns.map(quote).join()} FROM ${name} WHERE ${where}`,
    ).raw();
    const rows = found.map((values) => rowOf(columns, values as unknown as (Uint8Array | null)[]));
    return { keyColumns, identity: other.length > 0 ? other : keyColumns, columns, rows };
  }

  /** Drops what belongs to no schema. @param name of the publication; those of the slots begin with it */
  async dropShared(name: string): Promise<void> {
    await this.query(
      `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
      WHERE slot_name ~ '^${name}(_|$)' AND NOT active`,
      "end",
    );
    await this.query(`DROP PUBLICATION IF EXISTS ${name}`, "end");
  }
}

function rowOf(columns: string[], values: (Uint8Array | null)[]): Record<string, string | null> {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const row: Record<string, string | null> = Object.create(null);
  columns.forEach((column, index) => {
    const value = values[index];
    row[column] = value == null ? null : decoder.decode(value);
  });
  return row;
}
