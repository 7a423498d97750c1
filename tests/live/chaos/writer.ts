/** A writer that knows what it committed: seeded transactions over keys that nobody else writes. */

import { sleep } from "../../support/streams.ts";
import { type FragileSession, isConnectionLost } from "./session.ts";

/** A change as it must be handed out. */
export interface Change {
  table: string;
  operation: "insert" | "update" | "delete" | "truncate";
  key: string | null;
  oldKey: string | null;
  /** What its row says in column `v`; null where the server does not send it. */
  version: number | null;
}

/** The changes of a transaction, in the order of their ordinals. */
export interface WrittenTransaction {
  /** Its row in the unpublished table `done`, which tells whether it was committed. */
  number: number;
  changes: Change[];
}

/** What the writers of one world share. */
export interface Ledger {
  /** The schema, quoted. */
  schema: string;
  /** What was committed; of each key in the order in which it was. */
  committed: WrittenTransaction[];
  nextNumber(): number;
  nextVersion(): number;
}

const KEYS_EACH = 40;
const FIRST_OF_MANY = 1_000_000;

/** Two tables: a plain key under the default identity, and a composite one under FULL. */
const TABLES = {
  plain: {
    columns: (id: number) => `${id}`,
    where: (id: number) => `id = ${id}`,
    key: (id: number) => `${id}`,
    full: false,
  },
  wide: {
    columns: (id: number) => `'t', ${id}`,
    where: (id: number) => `tenant = 't' AND id = ${id}`,
    key: (id: number) => JSON.stringify([`${id}`, "t"]),
    full: true,
  },
} as const;
type TableName = keyof typeof TABLES;
const NAMES = Object.keys(TABLES) as TableName[];

/** The tables' definitions. */
export function tablesSql(schema: string): string {
  return `
    CREATE SCHEMA ${schema};
    CREATE TABLE ${schema}.done (number int PRIMARY KEY);
    CREATE TABLE ${schema}.plain (id int PRIMARY KEY, v int NOT NULL, pad text);
    CREATE TABLE ${schema}.wide (
      tenant text, id int, v int NOT NULL, pad text, PRIMARY KEY (id, tenant)
    );
    ALTER TABLE ${schema}.plain ALTER pad SET STORAGE EXTERNAL;
    ALTER TABLE ${schema}.wide ALTER pad SET STORAGE EXTERNAL;
    ALTER TABLE ${schema}.wide REPLICA IDENTITY FULL;`;
}

/** A transaction that is being written: what it does, and what there is if it is committed. */
class Draft {
  readonly statements: string[] = [];
  readonly changes: Change[] = [];
  readonly #ledger: Ledger;
  readonly #random: () => number;
  /** Versions by table and id. */
  readonly rows: Map<string, number>;

  constructor(ledger: Ledger, random: () => number, rows: ReadonlyMap<string, number>) {
    this.#ledger = ledger;
    this.#random = random;
    this.rows = new Map(rows);
  }

  /** One change of one row. @param ids those of this writer. */
  step(ids: readonly number[]): void {
    const name = pick(NAMES, this.#random);
    const id = pick(ids, this.#random);
    const current = this.rows.get(`${name} ${id}`);
    if (current === undefined) return this.#insert(name, id);
    const chance = this.#random();
    if (chance < 0.2) return this.#delete(name, id, current);
    const free = pick(ids, this.#random);
    const moves = chance < 0.4 && !this.rows.has(`${name} ${free}`);
    this.#update(name, id, moves ? free : id);
  }

  /** Rows under keys that are never used again. */
  many(name: TableName, first: number, count: number): void {
    const table = TABLES[name];
    const version = this.#ledger.nextVersion();
    const columns = table.columns(0).replace(/0$/, "n");
    this.statements.push(
      `INSERT INTO ${this.#ledger.schema}.${name}
        SELECT ${columns}, ${version}, repeat('m', n % 200)
        FROM generate_series(${first}, ${first + count - 1}) n`,
    );
    for (let id = first; id < first + count; id++) {
      this.#add(name, "insert", table.key(id), null, version);
    }
  }

  truncate(names: readonly TableName[]): void {
    const tables = names.map((name) => `${this.#ledger.schema}.${name}`);
    this.statements.push(`TRUNCATE ${tables.join()}`);
    for (const name of names) this.#add(name, "truncate", null, null, null);
  }

  #insert(name: TableName, id: number): void {
    const table = TABLES[name];
    const version = this.#ledger.nextVersion();
    this.statements.push(
      `INSERT INTO ${this.#ledger.schema}.${name} ` +
        `VALUES (${table.columns(id)}, ${version}, ${this.#pad()})`,
    );
    this.rows.set(`${name} ${id}`, version);
    this.#add(name, "insert", table.key(id), null, version);
  }

  #update(name: TableName, id: number, newId: number): void {
    const table = TABLES[name];
    const version = this.#ledger.nextVersion();
    const pad = this.#random() < 0.5 ? "" : `, pad = ${this.#pad()}`;
    const move = newId === id ? "" : `, id = ${newId}`;
    this.statements.push(
      `UPDATE ${this.#ledger.schema}.${name} ` +
        `SET v = ${version}${pad}${move} WHERE ${table.where(id)}`,
    );
    this.rows.delete(`${name} ${id}`);
    this.rows.set(`${name} ${newId}`, version);
    const oldKey = newId === id ? null : table.key(id);
    this.#add(name, "update", table.key(newId), oldKey, version);
  }

  #delete(name: TableName, id: number, current: number): void {
    const table = TABLES[name];
    this.statements.push(`DELETE FROM ${this.#ledger.schema}.${name} WHERE ${table.where(id)}`);
    this.rows.delete(`${name} ${id}`);
    this.#add(name, "delete", table.key(id), null, table.full ? current : null);
  }

  #add(
    table: TableName,
    operation: Change["operation"],
    key: string | null,
    oldKey: string | null,
    version: number | null,
  ): void {
    this.changes.push({ table, operation, key, oldKey, version });
  }

  /** Now and then one that is stored out of line. */
  #pad(): string {
    const length = this.#random() < 0.1 ? 4000 : Math.floor(this.#random() * 60);
    return `repeat('p', ${length})`;
  }
}

/** One session that writes. Two writers share no key. */
export class Writer {
  readonly #session: FragileSession;
  readonly #ledger: Ledger;
  readonly #random: () => number;
  readonly #ids: number[];
  #rows = new Map<string, number>();
  #nextOfMany: number;

  /** @param index from 0; below 100 */
  constructor(
    session: FragileSession,
    ledger: Ledger,
    random: () => number,
    index: number,
  ) {
    this.#session = session;
    this.#ledger = ledger;
    this.#random = random;
    this.#ids = Array.from({ length: KEYS_EACH }, (_, n) => index + 100 * n);
    this.#nextOfMany = FIRST_OF_MANY * (index + 1);
  }

  /** Forgets its rows: somebody truncated the tables. */
  forget(names: readonly string[]): void {
    this.#rows = new Map([...this.#rows].filter(([row]) => !names.includes(row.split(" ")[0]!)));
  }

  /** Truncates one table or both, while no other writer has a transaction. @returns which, if it did. */
  async truncate(): Promise<readonly string[]> {
    const names = this.#random() < 0.5 ? NAMES : [pick(NAMES, this.#random)];
    const draft = new Draft(this.#ledger, this.#random, this.#rows);
    draft.step(this.#ids);
    draft.truncate(names);
    if (!await this.#run(draft)) return [];
    this.forget(names);
    return names;
  }

  /** Writes a transaction: some changes, or many rows; some parts of it, or all of it, rolled back. */
  async transaction(): Promise<void> {
    const draft = new Draft(this.#ledger, this.#random, this.#rows);
    const size = this.#random() < 0.5 ? 1 : 1 + Math.floor(this.#random() * 12);
    for (let step = 0; step < size; step++) {
      draft.step(this.#ids);
      if (this.#random() < 0.04) this.#addAborted(draft);
    }
    if (this.#random() < 0.01) {
      const count = 50 + Math.floor(this.#random() * 1000);
      draft.many(pick(NAMES, this.#random), this.#nextOfMany, count);
      this.#nextOfMany += count;
    }
    await this.#run(draft, this.#random() < 0.05 ? "ROLLBACK" : "COMMIT");
  }

  #addAborted(draft: Draft): void {
    const aborted = new Draft(this.#ledger, this.#random, draft.rows);
    for (let step = 0; step < 3; step++) aborted.step(this.#ids);
    draft.statements.push(
      `SAVEPOINT aborted; ${aborted.statements.join("; ")}; ROLLBACK TO SAVEPOINT aborted`,
    );
  }

  /** @returns whether it was committed. */
  async #run(draft: Draft, ending: "COMMIT" | "ROLLBACK" = "COMMIT"): Promise<boolean> {
    const number = this.#ledger.nextNumber();
    const begin = `BEGIN; INSERT INTO ${this.#ledger.schema}.done VALUES (${number})`;
    // Half of them in one message; half of them statement by statement, beside those of other writers.
    const messages = this.#random() < 0.5
      ? [[begin, ...draft.statements, ending].join("; ")]
      // On another connection the rest must not run by itself: a savepoint needs a transaction.
      : [begin, ...draft.statements.map((text) => `SAVEPOINT one; ${text}; RELEASE one`), ending];
    let committed = ending === "COMMIT";
    try {
      for (const message of messages) {
        await this.#session.query(message);
        if (messages.length > 1 && this.#random() < 0.2) await sleep(this.#random() * 10);
      }
    } catch (error) {
      // 25P01: the connection was lost between two statements, and there is no transaction any more.
      const lost = isConnectionLost(error) || (error as { code?: string }).code === "25P01";
      if (!lost) throw error;
      committed = await this.#wasCommitted(number);
    }
    if (!committed) return false;
    this.#rows = draft.rows;
    this.#ledger.committed.push({ number, changes: draft.changes });
    return true;
  }

  /** Of a transaction whose server died: what the server says when it is back. */
  async #wasCommitted(number: number): Promise<boolean> {
    for (;;) {
      try {
        const found = await this.#session.query(
          `SELECT FROM ${this.#ledger.schema}.done WHERE number = ${number}`,
        );
        return found.length > 0;
      } catch (error) {
        if (!isConnectionLost(error)) throw error;
        await sleep(20);
      }
    }
  }
}

/** One of them. */
export function pick<T>(choices: readonly T[], random: () => number): T {
  return choices[Math.floor(random() * choices.length)]!;
}
