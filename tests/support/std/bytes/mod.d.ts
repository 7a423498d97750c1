/** Types for the byte functions that `deno-std` ships as untyped JavaScript; those of `jsr:@std/bytes`. */

/** One new array of all of them, in order. */
export declare function concat(buffers: readonly Uint8Array[]): Uint8Array<ArrayBuffer>;
/** Copies what fits of `src` into `dst` from `offset` on; returns how many bytes that was. */
export declare function copy(src: Uint8Array, dst: Uint8Array, offset?: number): number;
export declare function equals(a: Uint8Array, b: Uint8Array): boolean;
export declare function startsWith(source: Uint8Array, prefix: Uint8Array): boolean;
export declare function endsWith(source: Uint8Array, suffix: Uint8Array): boolean;
export declare function includesNeedle(
  source: Uint8Array,
  needle: Uint8Array,
  start?: number,
): boolean;
/** Index of the first occurrence at or after `start`, or −1. */
export declare function indexOfNeedle(
  source: Uint8Array,
  needle: Uint8Array,
  start?: number,
): number;
/** Index of the last occurrence that begins at or before `start`, or −1. */
export declare function lastIndexOfNeedle(
  source: Uint8Array,
  needle: Uint8Array,
  start?: number,
): number;
/** One new array: `source`, `count` times. */
export declare function repeat(source: Uint8Array, count: number): Uint8Array<ArrayBuffer>;
