/** A table that is synced, what its store is to hold, and sinks in which something happens on the way. */

import { assertEquals } from "@std/assert";
import { PgStream, type PgStreamOptions, type Sink, type SyncOptions } from "../../mod.ts";
import type { RowSink, RowWrite, StreamPosition } from "../../src/sinks/rows.ts";
import { vectorOf } from "./store_model.ts";
import { confirmedLsn, type Database, uniqueName, until, walsenderPid, within } from "./streams.ts";
import type { FoundPoint } from "./synced_stores.ts";

/** What a body is cut into. */
export const pieces = (text: string): string[] => text.split("|");

/** Made by `create`, and left with `remove`. */
export class SyncedTable {
  readonly #db: Database;
  readonly name: string;
  readonly slotName: string = uniqueName("sync");
  /** All that was embedded, in order. */
  readonly embedded: string[] = [];
  /** In place of vectors, what an embedder does with these texts. */
  embed: (texts: readonly string[], signal: AbortSignal) => Promise<number[][]> = (texts) => {
    this.embedded.push(...texts);
    return Promise.resolve(texts.map(vectorOf));
  };

  private constructor(db: Database, name: string) {
    this.#db = db;
    this.name = name;
  }

  /** Creates the table: id, title, body, views. Bodies that are long are not sent where they do not change. */
  static async create(
    db: Database,
    { identity = "DEFAULT" }: { identity?: string } = {},
  ): Promise<SyncedTable> {
    const table = new SyncedTable(db, uniqueName("docs"));
    await table.query(
      `CREATE TABLE $ (id bigint PRIMARY KEY, title text, body text, views int DEFAULT 0);
      ALTER TABLE $ ALTER body SET STORAGE EXTERNAL;
      ALTER TABLE $ REPLICA IDENTITY ${identity}`,
    );
    return table;
  }

  /** Runs SQL in which `$` is the table. */
  query<Row extends object>(sql: string): Promise<Row[]> {
    return this.#db.query<Row>(sql.replaceAll("$", this.name));
  }

  /** A stream that syncs the table. */
  stream(
    sink: Sink,
    options: Partial<SyncOptions> = {},
    streamOptions: PgStreamOptions = {},
  ): PgStream {
    const { slotName } = this;
    const stream = new PgStream({ dsn: this.#db.dsn, slotName, logger: false, ...streamOptions });
    return this.sync(stream, sink, options);
  }

  /** Syncs the table by this stream, too. */
  sync(stream: PgStream, sink: Sink, options: Partial<SyncOptions> = {}): PgStream {
    return stream.sync(this.name, {
      text: (row) => row.body,
      embed: (texts, { signal }) => this.embed(texts, signal),
      model: "test@1",
      payload: ["title", "views"],
      chunk: pieces,
      sink,
      ...options,
    });
  }

  /** What was embedded since it was asked for last. */
  take(): string[] {
    return this.embedded.splice(0);
  }

  /** What a store is to hold, by key and chunk. */
  async wanted(): Promise<FoundPoint[]> {
    const rows = await this.query<
      { id: string; title: string; body: string | null; views: number }
    >(`SELECT id::text, title, body, views FROM $ ORDER BY id::text COLLATE "C"`);
    return rows.flatMap(({ id, title, body, views }) =>
      (body === null ? [] : pieces(body)).map((text, chunk): FoundPoint => ({
        table: `public.${this.name}`,
        key: id,
        chunk,
        vector: vectorOf(text),
        payload: { title, views },
      }))
    );
  }

  /** Waits until a store is as the table is. */
  async agrees(store: { points(): Promise<FoundPoint[]> }): Promise<void> {
    const wanted = sorted(await this.wanted());
    let found: unknown[] = [];
    const agree = until("the store to agree", async () => {
      const points = await store.points();
      found = sorted(points.filter(({ table }) => table === `public.${this.name}`));
      return JSON.stringify(found) === JSON.stringify(wanted);
    });
    await agree.catch((error) => {
      assertEquals(found, wanted);
      throw error;
    });
  }

  /** What the server holds for confirmed. */
  confirmedLsn(): Promise<bigint> {
    return confirmedLsn(this.#db, this.slotName);
  }

  /** Ends the session that streams. */
  async terminate(): Promise<void> {
    await this.#db.query(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
      WHERE slot_name = '${this.slotName}'`);
  }

  /** Waits until nobody streams. */
  async free(): Promise<void> {
    await until(
      "the slot to be free",
      async () => await walsenderPid(this.#db, this.slotName) === null,
    );
  }

  /** Drops slot, publication and table. */
  async remove(): Promise<void> {
    const { slotName } = this;
    const stream = new PgStream({ dsn: this.#db.dsn, slotName, logger: false }).watch(this.name);
    await within("the teardown", stream.teardown());
    await this.query("DROP TABLE $");
  }
}

/** Properties of payloads in one order. */
function sorted(points: readonly FoundPoint[]): unknown[] {
  return points.map(({ payload, ...point }) => ({
    ...point,
    payload: Object.entries(payload).sort(),
  }));
}

/** The sink with other methods, each of which is given the sink's own. */
export function changed<S extends Sink>(
  sink: S,
  methods: { [K in keyof RowSink]?: (own: NonNullable<RowSink[K]>) => NonNullable<RowSink[K]> },
): S {
  return new Proxy(sink, {
    get(target, name) {
      const own = Reflect.get(target, name, target);
      // Its private fields are the target's.
      const bound = typeof own === "function" ? own.bind(target) : own;
      const change = Reflect.get(methods, name) as ((own: unknown) => unknown) | undefined;
      return change === undefined ? bound : change(bound);
    },
  });
}

/** The sink, and what is written to it. */
export function recorded(
  sink: Sink,
): { sink: Sink; rows: RowWrite[]; positions: StreamPosition[] } {
  const rows: RowWrite[] = [];
  const positions: StreamPosition[] = [];
  return {
    rows,
    positions,
    sink: changed(sink, {
      apply: (own) => async (written, position) => {
        await own(written, position);
        rows.push(...written);
        if (position !== null) positions.push(position);
      },
    }),
  };
}
