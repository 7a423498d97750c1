/** Handlers whose calls somebody is told of. */
import type { Handler, HandlerContext } from "../delivery/handler.ts";
import type { Observe } from "../observer.ts";

/** The same handlers; each call is a piece of work. */
export function observed(handlers: Handler[], observe: Observe | undefined): Handler[] {
  if (observe === undefined) return handlers;
  return handlers.map(({ batch, call }) => ({
    batch,
    call: (given: never, context: HandlerContext) =>
      observe(
        { kind: "batch", size: batch ? (given as unknown[]).length : 1 },
        async () => await call(given, context),
      ),
  } as Handler));
}
