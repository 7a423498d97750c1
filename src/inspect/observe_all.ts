/** Several observers of one stream. */

import type { Observe, StreamObserver } from "../observer.ts";

/** Tells all of them; of work, each within the one before it. */
export function observeAll(...observers: readonly StreamObserver[]): StreamObserver {
  const observe: Observe = (work, run) => {
    const outwards = observers.toReversed();
    const all = outwards.reduce(
      (inner, observer) => () => observer.observe?.(work, inner) ?? inner(),
      run,
    );
    return all();
  };
  return {
    observe,
    settled(event, skipped) {
      for (const observer of observers) observer.settled?.(event, skipped);
    },
  };
}
