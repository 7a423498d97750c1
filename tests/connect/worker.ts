/** Connects as it is told by HTTP, in workerd. */

import { connect } from "cloudflare:sockets";
import { workersConnect } from "../../src/workers.ts";
import { outcomeOf } from "./outcome.ts";

export default {
  async fetch(request: Request): Promise<Response> {
    const { dsns, secret } = await request.json() as { dsns: string[]; secret: string };
    const outcomes: string[] = [];
    for (const dsn of dsns) outcomes.push(await outcomeOf(dsn, secret, workersConnect(connect)));
    return Response.json(outcomes);
  },
};
