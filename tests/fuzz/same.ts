/** Whether two decoders told the same. */

/** Compares what two decoders made of the same bytes. */
export class Comparison {
  /** Relations by what the other decoder has in their place: rows must refer to the very one that came before. */
  #relations = new WeakMap<object, object>();

  /** Begins a new connection. */
  reset(): void {
    this.#relations = new WeakMap();
  }

  /** True where both are the same, in all that they hold. */
  same(a: unknown, b: unknown): boolean {
    if (isRelation(a) && isRelation(b)) {
      if (!sameFields(a, b, this)) return false;
      this.#relations.set(a, b);
      return true;
    }
    return this.part(a, b);
  }

  /** The same for a part of a message. */
  part(a: unknown, b: unknown): boolean {
    if (a === b) return true;
    if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) {
      return Object.is(a, b);
    }
    if (a instanceof Uint8Array) return b instanceof Uint8Array && sameBytes(a, b);
    if (Array.isArray(a)) {
      if (!Array.isArray(b) || a.length !== b.length) return false;
      for (let i = 0; i < a.length; i++) if (!this.part(a[i], b[i])) return false;
      return true;
    }
    if (isRelation(a)) return this.#relations.get(a) === b;
    return sameFields(a, b, this);
  }
}

function isRelation(value: unknown): value is object {
  return typeof value === "object" && value !== null && "type" in value &&
    value.type === "relation" && "columns" in value;
}

function sameFields(a: object, b: object, comparison: Comparison): boolean {
  if (Object.getPrototypeOf(a) !== Object.getPrototypeOf(b)) {
    // Rows of each decoder have a prototype that inherits nothing; all else is a plain object.
    return false;
  }
  let fields = 0;
  for (const name in a) {
    fields++;
    if (!comparison.part((a as Fields)[name], (b as Fields)[name])) return false;
  }
  for (const _name in b) fields--;
  return fields === 0;
}

type Fields = Record<string, unknown>;

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
