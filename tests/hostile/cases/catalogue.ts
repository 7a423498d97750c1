/** Servers that lie when `setup()` and `start()` ask them about themselves. */
import { CREATE_MS, type HostileCase, type Operation } from "../../support/hostile_server.ts";
import {
  type Lie,
  postgres,
  PUBLICATION,
  type Question,
  type Row,
  rows,
  SLOT,
  SYSTEM,
  TABLE,
} from "../../support/hostile_postgres.ts";
import { say } from "../../support/scripted_server.ts";

/** The answer cannot be what a PostgreSQL says. */
const NONSENSE = ["catalogue-answer"];
const ABORTED = { kinds: ["aborted"], abortMs: 300, waitsMs: 2000 };

function lying(
  operation: Operation,
  name: string,
  kinds: readonly string[],
  lies: Partial<Record<Question, Lie>>,
): HostileCase {
  return { name, operation, kinds, script: postgres(lies) };
}

const setup = (name: string, kinds: readonly string[], lies: Partial<Record<Question, Lie>>) =>
  lying("setup()", name, kinds, lies);
const start = (name: string, kinds: readonly string[], lies: Partial<Record<Question, Lie>>) =>
  lying("start()", name, kinds, lies);

const table = (parts: Row) => ({ table: rows({ ...TABLE, ...parts }) });
const slot = (parts: Row) => ({ slot: rows({ ...SLOT, ...parts }) });
const publication = (parts: Row) => ({ publication: rows({ ...PUBLICATION, ...parts }) });
const NONE = [say.columns("a"), say.complete("SELECT 0"), say.ready];
const refusal = (code: string) => [say.error("ERROR", code, "no"), say.ready];

const SERVER: HostileCase[] = [
  setup("is as it should be", ["works"], {}),
  setup("does not know its settings", NONSENSE, { server: NONE }),
  setup("has settings of null", ["wal-level", "catalogue-answer"], {
    server: rows({ wal_level: null, encoding: null }),
  }),
  setup("has a wal_level of its own", ["wal-level"], {
    server: rows({ wal_level: "__proto__", encoding: "UTF8" }),
  }),
  setup("has an encoding of none", ["server-encoding"], {
    server: rows({ wal_level: "logical", encoding: "SQL_ASCII" }),
  }),
  setup("has no database", NONSENSE, { database: NONE }),
  setup("has a database of null", NONSENSE, { database: rows({ current_database: null }) }),
  setup("has a database of no columns", NONSENSE, { database: rows({}) }),
  setup("refuses to say what it is", ["privilege-missing"], { server: refusal("42501") }),
  setup("dies while it says what it is", ["connection-lost"], {
    server: [say.error("FATAL", "57P01", "over")],
  }),
];

const TABLES: HostileCase[] = [
  setup("has no table", ["table-missing"], { table: NONE }),
  setup("has a table of no columns", ["table-missing"], { table: rows({}) }),
  setup("has a table of null", ["table-missing"], table({ nspname: null, relname: null })),
  setup("has another table than was asked for", ["table-missing"], table({ relname: "other" })),
  setup("has tables that are alike, and one of null", ["table-missing", "catalogue-answer"], {
    table: NONE,
    similar: rows({ nspname: null, relname: null }),
  }),
  setup("has a table of no OID", NONSENSE, table({ oid: null })),
  setup("has a table of an OID that is no number", NONSENSE, table({ oid: "16385 OR true" })),
  setup("has a table of a negative OID", NONSENSE, table({ oid: "-1" })),
  setup("has a table of an OID beyond all numbers", NONSENSE, table({ oid: "1e999" })),
  setup("has a table of no kind", ["table-not-publishable"], table({ relkind: null })),
  setup(
    "has a table of a kind that objects inherit",
    ["table-not-publishable"],
    table({ relkind: "constructor" }),
  ),
  setup("has a table that is a view", ["table-not-publishable"], table({ relkind: "v" })),
  setup(
    "has a table of no persistence",
    ["table-not-publishable"],
    table({ relpersistence: null }),
  ),
  setup("has a table of no replica identity", NONSENSE, table({ relreplident: null })),
  setup(
    "has a table of a replica identity that nobody knows",
    NONSENSE,
    table({ relreplident: "x" }),
  ),
  setup(
    "has a table of a replica identity that objects inherit",
    NONSENSE,
    table({ relreplident: "constructor" }),
  ),
  setup("has a key that is no JSON", NONSENSE, table({ primary_key: "{" })),
  setup("has a key that is an object", NONSENSE, table({ primary_key: '{"length": 1}' })),
  setup("has a key that is a number", NONSENSE, table({ primary_key: "7" })),
  setup("has a key that is null in JSON", NONSENSE, table({ primary_key: "null" })),
  setup("has a key of numbers", NONSENSE, table({ primary_key: "[1, 2]" })),
  setup("has a key of nulls", NONSENSE, table({ primary_key: "[null]" })),
  setup(
    "has a key in JSON a thousand arrays deep",
    NONSENSE,
    table({ primary_key: "[".repeat(1000) + "]".repeat(1000) }),
  ),
  setup("has columns that are no JSON", NONSENSE, table({ columns: "id, v" })),
  setup("has columns that are a text", NONSENSE, table({ columns: '"id"' })),
  setup("has an index that is no JSON", NONSENSE, table({ identity_index: "x" })),
  setup("has generated columns that are no JSON", NONSENSE, table({ generated: "x" })),
  setup("has no key", ["replica-identity"], table({ primary_key: null })),
  setup("has a table twice", ["works"], { table: rows(TABLE, TABLE) }),
  setup(
    "has a table of ten thousand columns",
    ["works"],
    table({ columns: JSON.stringify(new Array(10_000).fill("c")) }),
  ),
];

const SLOTS: HostileCase[] = [
  setup("has a slot of another plugin", ["slot-plugin"], slot({ plugin: "wal2json" })),
  setup("has a slot of no plugin", ["slot-plugin"], slot({ plugin: null })),
  setup("has a slot of another database", ["slot-database"], slot({ database: "other" })),
  setup(
    "has a physical slot",
    ["slot-plugin"],
    slot({ plugin: null, database: null, confirmed_flush_lsn: null }),
  ),
  setup("has a slot of two phases", ["slot-two-phase"], slot({ two_phase: "t" })),
  setup("has a slot that is invalid", ["slot-lost"], slot({ invalidation_reason: "idle_timeout" })),
  setup("has a slot whose WAL is lost", ["slot-lost"], slot({ wal_status: "lost" })),
  setup("has a slot that is a copy", ["slot-standby"], slot({ synced: "t", on_standby: "t" })),
  setup(
    "has a slot that somebody holds for a while",
    ["slot-in-use"],
    slot({ temporary: "t", active_pid: "7" }),
  ),
  setup("has a slot at a position that is none", NONSENSE, slot({ confirmed_flush_lsn: "0:100" })),
  setup("has a slot at a position of no characters", NONSENSE, slot({ confirmed_flush_lsn: "" })),
  setup(
    "has a slot at a position of a million characters",
    NONSENSE,
    slot({ confirmed_flush_lsn: "0".repeat(1e6) }),
  ),
  setup("has a slot that is held by no number", NONSENSE, slot({ active_pid: "nobody" })),
  setup("has a slot of no columns", ["slot-plugin", "catalogue-answer"], { slot: rows({}) }),
  setup("makes a slot and does not say where", NONSENSE, { slot: NONE, createSlot: NONE }),
  setup("makes a slot at null", NONSENSE, { slot: NONE, createSlot: rows({ lsn: null }) }),
  setup("makes a slot at a position that is none", NONSENSE, {
    slot: NONE,
    createSlot: rows({ lsn: "x" }),
  }),
  setup("has no slot left", ["slots-exhausted"], { slot: NONE, createSlot: refusal("53400") }),
  setup("waits for writers of null", ["slot-creation-blocked"], {
    slot: NONE,
    createSlot: refusal("57014"),
    backend: rows({ pid: null, age: null }),
  }),
  {
    ...setup("never makes the slot", [], { slot: NONE, createSlot: (peer) => peer.closed() }),
    ...ABORTED,
  },
  { ...setup("is for ever making the slot", [], slot({ confirmed_flush_lsn: null })), ...ABORTED },
  {
    ...lying(
      "SlotManager.setup()",
      "goes on making the slot",
      ["slot-in-use"],
      slot({ confirmed_flush_lsn: null }),
    ),
    waitsMs: CREATE_MS,
  },
  {
    ...lying("SlotManager.setup()", "has the slot already, and has no such slot", [
      "slot-in-use",
      "slot-missing",
    ], { slot: NONE, createSlot: refusal("42710") }),
    waitsMs: CREATE_MS,
  },
];

const PUBLICATIONS: HostileCase[] = [
  setup("has no publication", ["works"], { publication: NONE }),
  setup("has a publication of no columns", NONSENSE, { publication: rows({}) }),
  setup("has a publication of no OID", NONSENSE, publication({ oid: null })),
  setup(
    "has a publication of an OID that is no number",
    NONSENSE,
    publication({ oid: "5; DROP TABLE documents" }),
  ),
  setup("publishes tables of null", NONSENSE, {
    publicationTables: rows({ oid: null, nspname: null, relname: null }),
  }),
  setup("publishes a table of an OID that is no number", NONSENSE, {
    publicationTables: rows({ oid: "x", nspname: "public", relname: "documents" }),
  }),
  ...["id", "{}", "[1]", '["id"'].map((columns) =>
    setup(`publishes of a table the columns ${columns}, which are no list`, NONSENSE, {
      publicationTables: rows({ oid: "16385", nspname: "public", relname: "documents", columns }),
    })
  ),
  setup("publishes of a table other columns, and rows, than are watched", ["works"], {
    publicationTables: rows({
      oid: "16385",
      nspname: "public",
      relname: "documents",
      columns: "[]",
      filter: "); DROP TABLE documents; --",
    }),
  }),
  setup("publishes tables of no columns", NONSENSE, {
    publicationTables: [say.columns(), say.row(), say.complete("SELECT 1"), say.ready],
  }),
  setup("publishes schemas of null", NONSENSE, { publicationSchemas: rows({ nspname: null }) }),
  setup("publishes ten thousand tables", ["works"], {
    publicationTables: rows(
      { oid: "16385", nspname: "public", relname: "documents" },
      ...Array.from(
        { length: 10_000 },
        (_, i) => ({ oid: `${i + 20_000}`, nspname: "public", relname: `t${i}` }),
      ),
    ),
  }),
  setup("has the publication already, and has no such publication", ["postgres"], {
    publication: NONE,
    createPublication: refusal("42710"),
  }),
  setup("is for ever met by others at its publication", ["postgres"], {
    publication: NONE,
    createPublication: refusal("XX000"),
  }),
  setup("does not let the publication be made", ["publication-privilege"], {
    publication: NONE,
    createPublication: refusal("42501"),
  }),
  {
    ...setup("never says whether there is a publication", [], {
      publication: (peer) => peer.closed(),
    }),
    ...ABORTED,
  },
];

const STARTS: HostileCase[] = [
  start("starts as it should", ["works"], {}),
  start("has no publication when the stream starts", ["publication-missing"], {
    publication: NONE,
  }),
  start("publishes nothing when the stream starts", ["table-not-published"], {
    publicationTables: NONE,
  }),
  start("has no slot when the stream starts", ["slot-missing"], { slot: NONE }),
  start("has no table when the stream starts", ["table-missing"], { table: NONE }),
  start("does not know since when it runs", NONSENSE, { startedAt: NONE }),
  start("runs since null", NONSENSE, { startedAt: rows({ pg_postmaster_start_time: null }) }),
  start("has no database when the stream starts", NONSENSE, { database: NONE }),
  start("knows no system when the stream starts", NONSENSE, { identify: NONE }),
  start("is no system when the stream starts", NONSENSE, {
    identify: rows({ ...SYSTEM, systemid: null }),
  }),
  start(
    "has a slot beyond its own end",
    ["lsn-beyond-server"],
    slot({ confirmed_flush_lsn: "FFFFFFFF/FFFFFFFF" }),
  ),
  start(
    "has a slot at a position that is none when the stream starts",
    NONSENSE,
    slot({ confirmed_flush_lsn: "here" }),
  ),
  start("has a key of rubbish when the stream starts", NONSENSE, table({ primary_key: "]" })),
  start("does not know the client's session when the stream starts", NONSENSE, { backend: NONE }),
  start("has a wal_sender_timeout of words when the stream starts", NONSENSE, {
    timeout: rows({ setting: "a minute" }),
  }),
  start("publishes the partitions, not the root", ["publication-partition-root"], {
    ...table({ relkind: "p" }),
  }),
  {
    ...start("says nothing when the stream starts", [], { identify: (peer) => peer.closed() }),
    ...ABORTED,
  },
];

/** By what is lied about. */
export const CATALOGUE: readonly HostileCase[] = [
  ...SERVER,
  ...TABLES,
  ...SLOTS,
  ...PUBLICATIONS,
  ...STARTS,
];
