/**
 * A shape of the matrix: what is done on a server, and what has to come of it, as plain data. The
 * expectation is written from PostgreSQL's manual and the README, never from the decoder.
 */

/** A row as text, as the server's output functions print it. */
export type Texts = Record<string, string | null>;

/** One change, as an event tells it. */
export interface Change {
  operation: "insert" | "update" | "delete" | "truncate";
  /** Of the shape's own schema. */
  table: string;
  key: string | null;
  oldKey: string | null;
  row: Texts;
  oldRow: Texts | null;
  unchanged: string[];
  /** Of a TRUNCATE, which only the bytes tell. */
  options: { cascade: boolean; restartIdentity: boolean } | null;
}

/** In SQL, `$schema` is the shape's schema: a name that only it has. A statement, or several in one transaction; on another session; one that has to fail; or code. */
export type Step =
  | string
  | { sql: string; session?: string; fails?: string }
  | ((world: World) => Promise<unknown>);

/** What a step that is code may use. */
export interface World {
  /** The shape's schema. */
  schema: string;
  /** Of the database. */
  dsn: string;
  major: number;
  /** Runs SQL in the shape's schema; several statements are one transaction. */
  query(sql: string, session?: string): Promise<Record<string, unknown>[]>;
}

/** What is done, and what has to come. */
export interface Script {
  /** Made before the stream is set up, in a new schema. */
  before: string;
  /** What else is made before. */
  prepare?(world: World): Promise<unknown>;
  /** The tables that are watched, by their literal names. */
  watch: string[];
  /** Where they are. Default: the shape's own schema. */
  schema?: string;
  /** What CREATE PUBLICATION says behind its name; `$marker` is the marker table. Default: `setup()` makes it. */
  publication?: string;
  /** What `watch()` is told beside the names. */
  options?: Record<string, { columns?: string[]; where?: string }>;
  /** What CREATE DATABASE says of the one that it takes. Default: one for all shapes, in UTF-8. */
  database?: string;
  /** The kind of the error with which `setup()` refuses it; there are no steps then. */
  refused?: string;
  /** One transaction each, unless it says otherwise. */
  steps: Step[];
  /**
   * What has to come: a list for each transaction that tells of a watched table. Null where that is not
   * known, and what is left is all that is compared.
   */
  transactions: Change[][] | null;
  /** Who comes late is refused with this kind of error, and gets the rest if it watches no more than that. */
  late?: { kind: string; watch: string[] };
  /** How events find their rows. Default: by the primary key, where there is one. */
  by?: "row";
  /**
   * The tables that are compared with what SELECT says at the end. Default: `watch`. A list: some columns
   * only, because no more are published; a condition: some rows only; `only`: without heirs. A text in
   * place of all: why not.
   */
  model?: string | Record<string, Compared>;
}

/** What of a table is compared. */
export interface Compared {
  columns?: string[];
  where?: string;
  /** A condition on rows that came as changes: others were there already. */
  came?: string;
  only?: boolean;
}

/** One row of the matrix. */
export interface Shape {
  /** What a user can count on; ends the sentence "PostgreSQL 17: …". */
  name: string;
  /** Why a major cannot have it; null where it can. */
  cannot?(major: number): string | null;
  /** Takes much time and memory: in the tests it is played on one server only. */
  heavy?: boolean;
  script(major: number): Script;
}

/** For `cannot`. @param reason of the majors before. */
export function since(first: number, reason: string): (major: number) => string | null {
  return (major) => major < first ? `${reason} from ${first} on` : null;
}

/** An INSERT. */
export function inserted(table: string, key: string, row: Texts): Change {
  const nothing = { oldKey: null, oldRow: null, unchanged: [], options: null };
  return { operation: "insert", table, key, row, ...nothing };
}

/** An UPDATE; the old row only where the server sends it. */
export function updated(
  table: string,
  key: string,
  row: Texts,
  more: Partial<Pick<Change, "oldKey" | "oldRow" | "unchanged">> = {},
): Change {
  return { ...inserted(table, key, row), operation: "update", ...more };
}

/** A DELETE, with what the server sends of the old row. */
export function deleted(table: string, key: string, row: Texts): Change {
  return { ...inserted(table, key, row), operation: "delete", oldRow: row };
}

/** One of the tables of a TRUNCATE. */
export function truncated(
  table: string,
  { cascade = false, restartIdentity = false }: Partial<NonNullable<Change["options"]>> = {},
): Change {
  const options = { cascade, restartIdentity };
  return { ...inserted(table, "", {}), operation: "truncate", key: null, options };
}

/** Whole numbers from the first to the last. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
