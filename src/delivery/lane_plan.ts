/** Which lanes an event belongs to: changes of one key share a lane, and so keep their order. */
import type { ChangeEvent } from "../change.ts";
import type { Relation } from "../pgoutput/mod.ts";
import { formatTableName } from "../table_name.ts";
import { DeliveryError } from "./errors.ts";
import type { EventTable } from "./event_builder.ts";

/**
 * The key, or keys, by which an event is ordered: events that share one are handed out in commit order.
 * Where two changes of a row may give different keys, return both on the change that leads from the one
 * to the other.
 */
export type LaneKey = (event: ChangeEvent) => string | readonly string[];

/** The number of one lane, those of several, or null for all. */
export type Place = number | readonly number[] | null;

/** Assigns lanes by key. */
export class LanePlan {
  /** How many lanes there are. */
  readonly count: number;
  readonly #key: LaneKey | undefined;

  /** @param key in place of the primary key */
  constructor(count: number, key?: LaneKey) {
    this.count = count;
    this.#key = key;
  }

  /** @throws {DeliveryError} of kind `lane-key` where the user's function gives no key. */
  place(event: ChangeEvent, table: EventTable): Place {
    if (this.count === 1) return 0;
    if (event.operation === "truncate") return null;
    if (this.#key !== undefined) return this.#byKeys(this.#userKeys(event, this.#key));
    const name = formatTableName(table.name);
    if (!table.keyed) return this.#lane(name);
    const lane = this.#lane(`${name} ${event.key}`);
    if (event.oldKey === null) return lane;
    const oldLane = this.#lane(`${name} ${event.oldKey}`);
    return lane === oldLane ? lane : [oldLane, lane];
  }

  #byKeys(keys: readonly string[]): Place {
    const lanes = [...new Set(keys.map((key) => this.#lane(key)))];
    return lanes.length === 1 ? lanes[0]! : lanes;
  }

  #userKeys(event: ChangeEvent, keyOf: LaneKey): readonly string[] {
    let keys: unknown;
    let cause: unknown;
    try {
      keys = keyOf(event);
      if (typeof keys === "string") return [keys];
      if (Array.isArray(keys) && keys.length > 0 && keys.every((key) => typeof key === "string")) {
        return keys;
      }
    } catch (error) {
      cause = error;
    }
    throw new DeliveryError(
      `The option key gave no key for ${event.operation} of ${formatTableName(event)} ` +
        `at ${event.lsn}, event ${event.ordinal} of its transaction`,
      {
        kind: "lane-key",
        hint: "It has to return a string, or several, for each insert, update and delete.",
        cause,
      },
    );
  }

  /** FNV-1a over the UTF-16 units: cheap, and the same everywhere. */
  #lane(key: string): number {
    let hash = 0x811c9dc5;
    for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
    return (hash >>> 0) % this.count;
  }
}

/**
 * True where every change of the table tells the primary key, the old one too where it changes. With
 * USING INDEX the server sends that index's columns of an old row and no others.
 */
export function tellsPrimaryKey(relation: Relation, primaryKey: readonly string[]): boolean {
  if (primaryKey.length === 0 || relation.replicaIdentity === "nothing") return false;
  return primaryKey.every((name) =>
    relation.columns.some((column) =>
      column.name === name && (column.key || relation.replicaIdentity !== "index")
    )
  );
}
