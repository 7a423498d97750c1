/** Rows and positions of streams as the table keeps them: the statements, and what goes in and out of them. */

import { formatLsn, parseLsn } from "../lsn.ts";
import { formatPayload } from "./payload.ts";
import { formatSourcePosition, parseSourcePosition } from "./pgvector_position.ts";
import { type GivenPoints, givenPoints } from "./pgvector_points.ts";
import { ROW_COLUMNS, type TableNames } from "./pgvector_table.ts";
import type { RowState, RowWrite, StreamPosition } from "./rows.ts";
import { checkVector, SinkError, type VectorPoint } from "./sink.ts";

const COLUMNS = ["id", "vector", "payload", ...Object.keys(ROW_COLUMNS)];
const KEPT = COLUMNS.slice(1);

/** Rows are locked by these many locks, so that a large call does not need one each of the server's few. */
const LOCKS = 256;

/**
 * Begins a transaction that writes rows.
 *
 * Two sessions must not write one row at the same time: the second looks for what is later than its own before
 * it sees what the first writes. Points cannot be locked for it, since a new row has none; hence advisory locks,
 * taken in order. The stream's position is first in that order.
 *
 * And what is written next is to be planned for the table as it is: a plan that was kept from when it was
 * small reads all of it.
 *
 * @returns a statement. Parameters: keys of rows as JSON, the name of the table, and none or one position as JSON,
 * in an array. Gives one row: how many positions were stored; none where a later one is.
 */
export function beginStatement({ positions }: TableNames): string {
  return `with stored as (
      insert into ${positions} as p
        (system_id, slot_name, sink_table, timeline, end_lsn, commit_lsn, ordinal, updated_at)
      select system_id, slot_name, sink_table, timeline, end_lsn, commit_lsn, ordinal, pg_catalog.now()
      from pg_catalog.json_populate_recordset(null::${positions}, $3::text::json)
      on conflict (system_id, slot_name, sink_table) do update set
        timeline = excluded.timeline, end_lsn = excluded.end_lsn, commit_lsn = excluded.commit_lsn,
        ordinal = excluded.ordinal, updated_at = excluded.updated_at
      where ${placeOf("p")} <= ${placeOf("excluded")}
      returning 1)
    select (select pg_catalog.count(*) from stored)::text,
      (select pg_catalog.count(pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext($2::text), lock))
       from (
         select distinct pg_catalog.hashtext(key) & ${LOCKS - 1} as lock
         from pg_catalog.json_array_elements_text($1::text::json) as k (key) order by 1) l)::text,
      case when pg_catalog.current_setting('server_version_num')::int >= 120000
        then pg_catalog.set_config('plan_cache_mode', 'force_custom_plan', true) end`;
}

/** Keeps all others from writing rows until the transaction ends. Parameter: the name of the table. */
export const LOCK_ALL_STATEMENT =
  `select pg_catalog.count(pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext($1::text), lock))
   from pg_catalog.generate_series(0, ${LOCKS - 1}) as l (lock)`;

function placeOf(row: string): string {
  return `(${row}.timeline, ${row}.end_lsn, coalesce(${row}.commit_lsn, '0/0'), coalesce(${row}.ordinal, -1))`;
}

/**
 * Writes rows whose locks are held: points that are surplus go, payloads whose vectors are there are replaced, and
 * all others are stored; but nothing of a row of which there is something later.
 *
 * Parameters: a part of what `formatRows` gives. Gives one row: how many points were to keep a vector that is not
 * there.
 */
export function writeStatement(names: TableNames, places: number): string {
  const { vectors } = names;
  const given = COLUMNS.map((name) => name === "vector" ? "given_vector as vector" : name);
  return `with given as (
      select ${given} from ${givenPoints(names, places)} where source_key is not null
    ), stored as (
      select t.id, t.source_table, t.source_key, t.source_system = g.source_system
        and t.source_position collate "C" > g.source_position collate "C" as later
      from (select distinct source_table, source_key, source_system, source_position from given) g
      join ${vectors} t on t.source_table = g.source_table and t.source_key = g.source_key
    ), accepted as (
      select * from given where (source_table, source_key) not in
        (select source_table, source_key from stored where later)
    ), removed as (
      delete from ${vectors} where id in (
        select id from stored where (source_table, source_key) in
          (select source_table, source_key from accepted)
        and id not in (select id from accepted where id is not null))
    ), kept as (
      update ${vectors} t
      set ${KEPT.filter((name) => name !== "vector").map((name) => `${name} = a.${name}`)}
      from accepted a where a.vector is null and t.id = a.id and t.fingerprint = a.fingerprint
      returning 1
    ), written as (
      insert into ${vectors} (${COLUMNS}) select ${COLUMNS} from accepted where vector is not null
      on conflict (id) do update set ${KEPT.map((name) => `${name} = excluded.${name}`)}
    )
    select ((select pg_catalog.count(*) from accepted where id is not null and vector is null)
      - (select pg_catalog.count(*) from kept))::text`;
}

/** What `readState` reads, of points of rows. */
export const STATE_COLUMNS = "id::text, source_table, source_key, chunk::text, chunks::text, " +
  "fingerprint, model, payload::text, source_system, source_position";

/** Reads a row of `STATE_COLUMNS`. */
export function readState(row: unknown): RowState {
  const [id, table, key, chunk, chunks, fingerprint, model, payload, systemId, position] =
    row as string[];
  return {
    id: id!,
    table: table!,
    key: key!,
    chunk: Number(chunk),
    chunks: Number(chunks),
    fingerprint: fingerprint!,
    model: model!,
    payload: JSON.parse(payload!),
    position: { systemId: systemId!, ...parseSourcePosition(position!) },
  };
}

/** @throws {SinkError} `sink-id`, `sink-vector`: a row cannot be stored. */
export function checkRows(rows: readonly RowWrite[]): void {
  for (const { table, key, model, points } of rows) {
    if (`${table}${key}${model}`.includes("\0")) {
      throw new SinkError(
        "A row's table, key or model holds U+0000, which Postgres cannot store in a text",
        { kind: "sink-id", sink: "pgvector", hint: "Leave the zero byte out of it" },
      );
    }
    for (const { vector } of points) if (vector !== null) checkVector(vector, "pgvector");
  }
}

/**
 * Writes rows, each as its points, which go into one statement: what a row has beside them is surplus. A row
 * without points is one that has neither id nor vector.
 *
 * @param formatVector as the column of the table reads it.
 */
export function* formatRows(
  rows: readonly RowWrite[],
  formatVector: (vector: VectorPoint["vector"]) => string,
): Generator<GivenPoints> {
  for (const { table, key, model, position, points } of rows) {
    const ofRow = JSON.stringify({
      source_table: table,
      source_key: key,
      chunks: points.length,
      model,
      source_system: position.systemId,
      source_position: formatSourcePosition(position),
    }).slice(1);
    yield {
      json: points.length === 0
        ? [`{${ofRow}`]
        : points.map(({ id, fingerprint, payload }, chunk) =>
          `{"id":${JSON.stringify(id)},"chunk":${chunk},"fingerprint":${
            JSON.stringify(fingerprint)
          },"payload":${formatPayload(payload, "pgvector")},${ofRow}`
        ),
      vectors: points.length === 0
        ? [null]
        : points.map(({ vector }) => vector === null ? null : formatVector(vector)),
    };
  }
}

/** Writes a position as JSON, as a row of the table of positions. */
export function formatStreamPosition(position: StreamPosition, { text }: TableNames): string {
  return JSON.stringify({
    system_id: position.systemId,
    slot_name: position.slotName,
    sink_table: text,
    timeline: position.timeline,
    end_lsn: position.endLsn,
    commit_lsn: position.commitLsn,
    ordinal: position.ordinal,
  });
}

/** Gives none or one row for `readStreamPosition`. Parameters: system, slot, name of the table of vectors. */
export function positionStatement({ positions }: TableNames): string {
  return `select timeline::text, end_lsn::text, commit_lsn::text, ordinal::text from ${positions}
    where system_id = $1::text and slot_name = $2::text and sink_table = $3::text`;
}

/** Reads a row of `positionStatement`. */
export function readStreamPosition(
  row: unknown,
  source: { systemId: string; slotName: string },
): StreamPosition {
  const [timeline, endLsn, commitLsn, ordinal] = row as [
    string,
    string,
    string | null,
    string | null,
  ];
  // Servers differ in how many zeroes they print.
  const sameLsn = (text: string) => formatLsn(parseLsn(text));
  return {
    systemId: source.systemId,
    timeline: Number(timeline),
    slotName: source.slotName,
    endLsn: sameLsn(endLsn),
    commitLsn: commitLsn === null ? null : sameLsn(commitLsn),
    ordinal: ordinal === null ? null : Number(ordinal),
  };
}
