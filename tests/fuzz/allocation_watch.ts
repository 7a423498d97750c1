/** How large an array the library makes: a length that lies must not make it large. */

const RealUint8Array = globalThis.Uint8Array;
let largest = 0;

const Watched: Uint8ArrayConstructor = new Proxy(RealUint8Array, {
  construct(target, args, newTarget): object {
    const [first] = args as [unknown];
    // A number of bytes, or what they are copied from; a view of a buffer takes none.
    const size = typeof first === "number"
      ? first
      : first instanceof RealUint8Array
      ? first.length
      : 0;
    if (size > largest) largest = size;
    return Reflect.construct(target, args, newTarget === Watched ? target : newTarget);
  },
});

/**
 * Runs something, and looks at every `new Uint8Array` of a size.
 *
 * @returns the largest, in bytes
 */
export function largestArrayOf(run: () => void): number {
  largest = 0;
  globalThis.Uint8Array = Watched;
  try {
    run();
  } finally {
    globalThis.Uint8Array = RealUint8Array;
  }
  return largest;
}
