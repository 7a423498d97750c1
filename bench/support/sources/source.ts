/** What contenders that stream one table have in common, so that a benchmark names only what it does with a row. */

/** Who streams; the name of a module beside this one. */
export type SourceName = "pgstream" | "pg_logical_replication";

/** What is streamed, and from where. */
export interface SourceOptions {
  dsn: string;
  /** The slot's name, and the publication's. */
  slotName: string;
  table: string;
  /** Where pg-logical-replication is installed. */
  peerFolder: string;
  /** Called with the `id` of each insert. */
  onInsert: (id: string | number) => unknown;
  /** True where `onInsert` is slow, and is to be waited for. */
  waits: boolean;
}

/** A stream that runs. */
export interface Source {
  /** Confirms what is handled, and closes. */
  stop(): Promise<void>;
}

/** Streams, and returns once the server sends. Loads nothing of the other contender. */
export async function openSource(name: SourceName, options: SourceOptions): Promise<Source> {
  const { open } = await import(`./${name}.ts`);
  return await open(options);
}
