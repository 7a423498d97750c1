/** One connection's life: check what the stream needs, stream, deliver, confirm, close. */
import type { ChangeEvent } from "../change.ts";
import { Delivery, type Handle } from "../delivery/delivery.ts";
import { DeliveryError } from "../delivery/errors.ts";
import { EventBuilder } from "../delivery/event_builder.ts";
import { Frontier, type TrackedTransaction } from "../delivery/frontier.ts";
import { formatLsn, type Lsn } from "../lsn.ts";
import { PgOutputDecoder, type PgOutputMessage, type Relation } from "../pgoutput/mod.ts";
import { PublicationError, ReplicationError, SlotError } from "../replication/errors.ts";
import {
  checkPartitionRoots,
  readPublication,
  unpublishedTables,
} from "../replication/publication.ts";
import { currentDatabase } from "../replication/server.ts";
import { ReplicationStream } from "../replication/replication_stream.ts";
import { checkSlot, readSlot } from "../replication/slot.ts";
import { type CatalogTable, readTables } from "../replication/tables.ts";
import { formatTableName, type TableName } from "../table_name.ts";
import type { Connector } from "../wire/connector.ts";
import type { Patience } from "./patience.ts";

/** What a handler gets to finish its event where nobody says how long. */
export const DEFAULT_FINISH_MS = 10_000;

/** What a session works with. */
export interface SessionOptions {
  connector: Connector;
  slotName: string;
  publicationName: string;
  tables: readonly TableName[];
  maxQueueBytes: number;
  handle: Handle;
  /** Called after each event that was handled. */
  onHandled: (event: ChangeEvent) => void;
}

/** A stream that is open. Made by `open`, used by one `run`. */
export class Session {
  readonly #options: SessionOptions;
  readonly #stream: ReplicationStream;
  readonly #frontier: Frontier;
  readonly #delivery: Delivery;
  readonly #decoder = new PgOutputDecoder();
  readonly #builder = new EventBuilder();
  /** Watched tables by OID, as the catalogue last showed them. */
  readonly #tables: Map<number, CatalogTable>;
  #transaction: TrackedTransaction | null = null;

  private constructor(
    options: SessionOptions,
    stream: ReplicationStream,
    start: { tables: readonly CatalogTable[]; confirmedLsn: Lsn },
  ) {
    this.#options = options;
    this.#stream = stream;
    this.#tables = new Map(start.tables.map((table) => [table.oid, table]));
    this.#frontier = new Frontier(start.confirmedLsn);
    this.#delivery = new Delivery({
      handle: options.handle,
      frontier: this.#frontier,
      maxQueueBytes: options.maxQueueBytes,
      onHandled: (event) => {
        options.onHandled(event);
        this.#confirm();
      },
    });
  }

  /**
   * Checks slot, publication and tables, and starts the stream at the slot's confirmed position.
   *
   * @throws {SlotError}, {PublicationError}, {ReplicationError}: what is not there, and what to run.
   */
  static async open(options: SessionOptions, signal: AbortSignal): Promise<Session> {
    const { connector, slotName, publicationName } = options;
    const start = await readStart(options, signal);
    const stream = await ReplicationStream.open({
      connector,
      slotName,
      publicationName,
      startLsn: start.confirmedLsn,
      signal,
    });
    connector.logger.info(
      `Streaming from slot "${slotName}" at ${formatLsn(start.confirmedLsn)}, ` +
        `walsender PID ${stream.processId}`,
    );
    return new Session(options, stream, start);
  }

  /** Positions and sizes as they are now. */
  get progress(): {
    receivedLsn: Lsn;
    confirmedLsn: Lsn;
    queueBytes: number;
    transactions: number;
  } {
    return {
      receivedLsn: this.#stream.receivedLsn,
      confirmedLsn: this.#frontier.confirmed,
      queueBytes: this.#delivery.queueBytes,
      transactions: this.#frontier.transactions,
    };
  }

  /**
   * Streams until `signal` is aborted, or something fails. Either way the event in hand is finished,
   * as far as `patience` goes, and what is handled is confirmed, before the connection is closed.
   */
  async run(signal: AbortSignal, patience: Patience): Promise<void> {
    const stop = new AbortController();
    const delivering = this.#delivery.run(stop.signal);
    const reading = this.#read(stop.signal);
    const told = new Promise<void>((resolve) => {
      const tell = () => {
        // At once: a handler that returns nothing gives way to no promise between two events.
        stop.abort(signal.reason);
        resolve();
      };
      if (signal.aborted) return tell();
      signal.addEventListener("abort", tell, { once: true });
    });
    try {
      await Promise.race([told, reading, delivering]);
    } finally {
      stop.abort(signal.reason);
      if (patience.limitMs === null) patience.limit(DEFAULT_FINISH_MS);
      if (!await patience.settled(delivering)) {
        this.#options.connector.logger.warn(
          `The handler did not finish within ${patience.limitMs} ms of being told to stop: ` +
            "its event comes again",
        );
      }
      await this.#stream.close();
      await reading.catch(() => {});
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    for (;;) {
      const messages = await this.#stream.read();
      if (signal.aborted) return;
      if (messages === null) {
        throw new ReplicationError("The server ended the stream", {
          kind: "stream-ended",
          retryable: true,
          hint: "It is being shut down or restarted: start again when it is back.",
        });
      }
      for (const message of messages) {
        if (message.type === "primaryKeepalive") {
          this.#frontier.keepalive(message.walEnd);
        } else {
          const decoded = this.#decoder.decode(message.data);
          if (decoded.type === "relation") await this.#declare(decoded);
          else this.#accept(decoded, message.data.length);
          const room = this.#delivery.room();
          if (room !== null) await room;
          if (signal.aborted) return;
        }
      }
      this.#confirm();
    }
  }

  #accept(message: PgOutputMessage, bytes: number): void {
    switch (message.type) {
      case "begin":
        if (this.#transaction !== null) throw outOfPlace("begin", "inside");
        this.#transaction = this.#frontier.begin();
        this.#builder.begin(message);
        break;
      case "insert":
      case "update":
      case "delete":
      case "truncate":
        for (const event of this.#builder.build(message)) {
          this.#delivery.offer(event, bytes, this.#open(message.type));
        }
        break;
      case "commit":
        this.#frontier.commit(this.#open(message.type), message.endLsn);
        this.#transaction = null;
        break;
      default:
        // Origin, Type, Message: nothing that a handler of rows is told.
        break;
    }
  }

  #open(type: string): TrackedTransaction {
    if (this.#transaction !== null) return this.#transaction;
    throw outOfPlace(type, "outside");
  }

  async #declare(relation: Relation): Promise<void> {
    const { schema, name } = relation;
    const watched = this.#options.tables.some((table) =>
      table.schema === schema && table.table === name
    );
    if (!watched && this.#tables.has(relation.oid)) {
      this.#options.connector.logger.warn(
        `Table ${formatTableName(this.#tables.get(relation.oid)!)} is now called ` +
          `${formatTableName({ schema, table: name })}, which is not watched: ` +
          "its changes are not handed out",
      );
      this.#tables.delete(relation.oid);
    }
    this.#builder.declare(relation, watched ? await this.#primaryKey(relation) : null);
  }

  /** From the catalogue, read again where it does not fit the relation: the table was altered. */
  async #primaryKey(relation: Relation): Promise<readonly string[]> {
    const known = this.#tables.get(relation.oid)?.primaryKey;
    if (known !== undefined && fits(known, relation)) return known;
    const connection = await this.#options.connector.connect({});
    try {
      const [table] = await readTables(connection, [
        { schema: relation.schema, table: relation.name },
      ]);
      this.#tables.set(table!.oid, table!);
      const primaryKey = table!.oid === relation.oid ? primaryKeyIn(table!, relation) : null;
      if (primaryKey !== null) return primaryKey;
    } catch (error) {
      // Dropped since: what is left of its changes is known by its replica identity.
      if (!(error instanceof ReplicationError)) throw error;
    } finally {
      await connection.close();
    }
    return relation.replicaIdentity === "default"
      ? relation.columns.filter((column) => column.key).map((column) => column.name)
      : [];
  }

  #confirm(): void {
    this.#stream.acknowledge(this.#frontier.confirmed);
  }
}

function outOfPlace(type: string, where: "inside" | "outside"): DeliveryError {
  return new DeliveryError(`The server sent ${type} ${where} of a transaction`, {
    kind: "transaction-order",
    hint: "Start again: what is not confirmed comes once more.",
  });
}

/**
 * The primary key under the names that its columns had when the change was written, or null. Where no
 * column was ever dropped, a renamed one is known by its place: columns are only added at the end.
 */
function primaryKeyIn(table: CatalogTable, relation: Relation): readonly string[] | null {
  if (fits(table.primaryKey, relation)) return table.primaryKey;
  const names = relation.columns.map((column) => column.name);
  // A column list, or generated columns, leave out columns in the middle: then places tell nothing.
  const aligned = names.length <= table.columns.length && table.generated.length === 0 &&
    names.every((name, place) => !table.columns.includes(name) || table.columns[place] === name);
  if (!aligned) return null;
  const then = table.primaryKey.map((column) => names[table.columns.indexOf(column)]);
  if (then.some((name) => name === undefined)) return null;
  return fits(then as string[], relation) ? then as string[] : null;
}

/** True where this can have been the relation's primary key when the change was written. */
function fits(primaryKey: readonly string[], relation: Relation): boolean {
  const columns = relation.replicaIdentity === "default"
    ? relation.columns.filter((column) => column.key)
    : relation.columns;
  const names = new Set(columns.map((column) => column.name));
  return primaryKey.every((column) => names.has(column)) &&
    (relation.replicaIdentity !== "default" || names.size === primaryKey.length);
}

async function readStart(
  { connector, slotName, publicationName, tables: names }: SessionOptions,
  signal: AbortSignal,
): Promise<{ tables: CatalogTable[]; confirmedLsn: Lsn }> {
  const setup = "Run setup() first: it creates what is missing.";
  const connection = await connector.connect({ signal });
  try {
    const slot = await readSlot(connection, slotName, signal);
    if (slot === null) {
      throw new SlotError(`Slot "${slotName}" does not exist`, {
        kind: "slot-missing",
        slotName,
        hint: `${setup} If it was there before, changes since then were missed.`,
      });
    }
    checkSlot(slotName, slot, await currentDatabase(connection, signal));
    const publication = await readPublication(connection, publicationName, signal);
    if (publication === null) {
      throw new PublicationError(`Publication "${publicationName}" does not exist`, {
        kind: "publication-missing",
        publicationName,
        hint: setup,
      });
    }
    const tables = await readTables(connection, names, signal);
    const unpublished = unpublishedTables(publication, tables).map(formatTableName);
    if (unpublished.length > 0) {
      throw new PublicationError(
        `Publication "${publicationName}" does not publish ${unpublished.join(", ")}`,
        { kind: "table-not-published", publicationName, hint: setup },
      );
    }
    checkPartitionRoots(publicationName, publication, tables);
    return { tables, confirmedLsn: slot.confirmedFlushLsn! };
  } finally {
    await connection.close();
  }
}
