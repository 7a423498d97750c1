/** A Worker that catches up when it is asked to, and says what it was given. */

import { connect } from "cloudflare:sockets";
import { type CatchUpReport, PgStream, PgStreamError } from "../../../mod.ts";
import { workersConnect } from "../../../src/workers.ts";

/** What is asked for. */
export interface CatchUpOrder {
  dsn: string;
  slotName: string;
  table: string;
  /** The key of an event that the handler throws at. */
  failAt?: string;
  /** `setup()` comes first. */
  setUp?: boolean;
  /** No `connect` is passed. */
  withoutConnect?: boolean;
}

/** What came of it. */
export interface CatchUpAnswer {
  keys: string[];
  values: (string | null)[];
  report: CatchUpReport | null;
  error: FoundError | null;
}

/** What a program sees of an error. */
export interface FoundError {
  name: string;
  kind: string;
  message: string;
  hint: string | null;
  retryable: boolean;
  /** Of the cause, in full. */
  cause: string;
}

export default {
  async fetch(request: Request): Promise<Response> {
    const order = await request.json() as CatchUpOrder;
    const answer: CatchUpAnswer = { keys: [], values: [], report: null, error: null };
    try {
      const { dsn, slotName } = order;
      const how = order.withoutConnect ? {} : { connect: workersConnect(connect) };
      const stream = new PgStream({ dsn, slotName, ...how });
      stream.watch(order.table);
      stream.onChange((event) => {
        if (event.key === order.failAt) throw new Error("The handler cannot take it");
        answer.keys.push(String(event.key));
        answer.values.push(event.row?.["v"] as string | null);
      });
      if (order.setUp) await stream.setup();
      answer.report = await stream.catchUp();
      await stream.stop();
    } catch (error) {
      answer.error = found(error);
    }
    return Response.json(answer);
  },
};

function found(error: unknown): FoundError {
  const { name, message, cause } = error as Error;
  if (!(error instanceof PgStreamError)) throw error;
  const { kind, hint = null, retryable } = error;
  return { name, kind, message, hint, retryable, cause: String(cause) };
}
