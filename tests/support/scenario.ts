/**
 * A stream beside a second slot of the same publication. What an event says of its transaction is
 * compared with what the server says of it: through that slot, read by SQL, its bytes read by hand.
 */

import { assertAlmostEquals, assertEquals, assertInstanceOf } from "@std/assert";
import type postgres from "postgres";
import type { ChangeEvent } from "../../mod.ts";
import type { TestPostgres } from "./servers/test_postgres.ts";
import { collect, type Collected, type LogLines, uniqueName } from "./streams.ts";

/** A row as text, as `values: "text"` gives it. */
export type Texts = Record<string, string | null>;

/** What an event tells of the change itself; rows as entries, so that nothing hides behind a prototype. */
export interface Change {
  operation: string;
  table: string;
  key: string | null;
  oldKey: string | null;
  row: [string, unknown][];
  oldRow: [string, unknown][] | null;
  unchanged: readonly string[];
  backfill: boolean;
}

function changeOf(event: ChangeEvent): Change {
  const { operation, schema, table, key, oldKey, row, oldRow, unchanged, backfill } = event;
  return {
    operation,
    table: `${schema}|${table}`,
    key,
    oldKey,
    row: Object.entries(row),
    oldRow: oldRow === null ? null : Object.entries(oldRow),
    unchanged,
    backfill,
  };
}

/** Of a table in the schema `public`, as the others are. */
export function inserted(table: string, key: string, row: Texts): Change {
  return {
    operation: "insert",
    table: `public|${table}`,
    key,
    oldKey: null,
    row: Object.entries(row),
    oldRow: null,
    unchanged: [],
    backfill: false,
  };
}

/** The old row only where the server sends it. */
export function updated(
  table: string,
  key: string,
  row: Texts,
  { oldKey = null, oldRow = null, unchanged = [] }: {
    oldKey?: string | null;
    oldRow?: Texts | null;
    unchanged?: string[];
  } = {},
): Change {
  return {
    ...inserted(table, key, row),
    operation: "update",
    oldKey,
    oldRow: oldRow === null ? null : Object.entries(oldRow),
    unchanged,
  };
}

/** With what the server sends of the old row. */
export function deleted(table: string, key: string, row: Texts): Change {
  return { ...inserted(table, key, row), operation: "delete", oldRow: Object.entries(row) };
}

/** One of the tables of a TRUNCATE. */
export function truncated(table: string): Change {
  return { ...inserted(table, "", {}), operation: "truncate", key: null };
}

/** Where a change stands, as the server tells it. */
interface Coordinates {
  operation: string;
  table: string;
  lsn: string;
  ordinal: number;
  xid: number;
  commitTimeMs: number;
}

const OPERATIONS: Record<string, string> = { I: "insert", U: "update", D: "delete", T: "truncate" };
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1);

/** https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html, read by hand. */
async function coordinatesOnServer(
  db: TestPostgres,
  slot: string,
  publication: string,
): Promise<Coordinates[]> {
  const messages = await db.query<{ data: string }>(
    `SELECT encode(data, 'hex') AS data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
      'proto_version', '1', 'publication_names', $2)`,
    [slot, `"${publication}"`],
  );
  const names = new Map<number, string>();
  const found: Coordinates[] = [];
  let transaction = { lsn: "", xid: 0, commitTimeMs: 0 };
  let ordinal = 0;
  for (const { data } of messages) {
    const bytes = Uint8Array.from(data.match(/../g)!, (pair) => parseInt(pair, 16));
    const view = new DataView(bytes.buffer);
    const letter = String.fromCharCode(bytes[0]!);
    if (letter === "B") {
      transaction = {
        lsn: `${view.getUint32(1).toString(16)}/${view.getUint32(5).toString(16)}`.toUpperCase(),
        commitTimeMs: Number(view.getBigInt64(9)) / 1000 + POSTGRES_EPOCH_MS,
        xid: view.getUint32(17),
      };
      ordinal = 0;
    } else if (letter === "R") {
      const [schema, table] = new TextDecoder("utf-8", { ignoreBOM: true })
        .decode(bytes.subarray(5)).split("\0");
      names.set(view.getUint32(1), `${schema}|${table}`);
    } else if (OPERATIONS[letter] !== undefined) {
      const oids = letter === "T"
        ? Array.from({ length: view.getUint32(1) }, (_, index) => view.getUint32(6 + 4 * index))
        : [view.getUint32(1)];
      for (const oid of oids) {
        found.push({
          operation: OPERATIONS[letter]!,
          table: names.get(oid)!,
          ordinal: ordinal++,
          ...transaction,
        });
      }
    }
  }
  return found;
}

/** A stream beside a second slot of the same publication. */
export interface Scenario extends Collected {
  /** Runs SQL in one transaction. @returns its id, and when the server says that it was committed. */
  commit(sql: string): Promise<{ xid: number; commitTimeMs: number | null }>;
  /** Compares all that has been handed out with what the server says, in order and in full. */
  expect(...changes: Change[]): Promise<ChangeEvent[]>;
}

/** Runs `body` with a new stream; what it leaves is taken away. */
export async function scenario(
  db: TestPostgres,
  sql: postgres.Sql,
  options: { create: string; watch: string[]; logger?: LogLines; delivered?: string[] },
  body: (scenario: Scenario) => Promise<void>,
): Promise<void> {
  await db.query(options.create);
  const watched = options.delivered ?? options.watch.map((table) => `public|${table}`);
  const stream = await collect(db, options.watch, { logger: options.logger ?? false });
  const reference = uniqueName("reference");
  await db.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [reference]);
  try {
    await body({
      ...stream,
      async commit(text) {
        const [row] = await sql.begin(async (tx) => {
          await tx.unsafe(text);
          return await tx`SELECT txid_current()::text AS xid,
            current_setting('track_commit_timestamp') AS tracked`;
        });
        const xid = Number(BigInt(row!.xid) & 0xffff_ffffn);
        if (row!.tracked !== "on") return { xid, commitTimeMs: null };
        const [time] = await db.query<{ ms: string }>(
          "SELECT (extract(epoch FROM pg_xact_commit_timestamp($1::text::xid)) * 1000)::text AS ms",
          [String(xid)],
        );
        return { xid, commitTimeMs: Number(time!.ms) };
      },
      async expect(...changes) {
        const events = await stream.drain();
        assertEquals(events.map(changeOf), changes);
        const onServer = (await coordinatesOnServer(db, reference, stream.slotName))
          .filter(({ table }) => watched.includes(table));
        assertEquals(
          events.map((event) => ({
            operation: event.operation,
            table: `${event.schema}|${event.table}`,
            lsn: event.lsn,
            ordinal: event.ordinal,
            xid: event.xid,
          })),
          onServer.map(({ commitTimeMs: _, ...coordinates }) => coordinates),
        );
        events.forEach((event, index) => {
          assertInstanceOf(event.commitTime, Date);
          assertAlmostEquals(event.commitTime.getTime(), onServer[index]!.commitTimeMs, 1);
        });
        return events;
      },
    });
    await stream.stop();
  } finally {
    await stream.stream.stop();
    await db.query("SELECT pg_drop_replication_slot($1)", [reference]);
  }
}

/** A text of 5,120 characters that cannot be compressed. */
export const LONG_TEXT: string =
  "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 160))";
