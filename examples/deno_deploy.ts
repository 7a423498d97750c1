/**
 * Deno Deploy, or any server that Deno runs: a cron job and a webhook handle what was committed since they ran
 * last.
 *
 *     psql "$DATABASE_URL" -c 'CREATE TABLE documents (id bigint PRIMARY KEY, content text)'
 *     deno run --unstable-cron --allow-net --allow-env examples/deno_deploy.ts
 *     curl -X POST http://localhost:8000
 *
 * The first run makes the slot "deno_deploy_example"; from then on it holds on to the WAL between two runs,
 * until it is dropped. Reads DATABASE_URL, or the PG* variables. Keep strangers away from the webhook.
 */
import { type CatchUpReport, PgStream } from "@pgstream/pgstream";

/** Runs that overlap do no harm: one works, the others report `busy`. */
async function catchUp(): Promise<CatchUpReport> {
  const stream = new PgStream({ slotName: "deno_deploy_example" });
  stream.watch("documents");
  stream.onChange((event) => console.log(event.operation, event.key, JSON.stringify(event.row)));
  try {
    await stream.setup();
    return await stream.catchUp({ signal: AbortSignal.timeout(60_000) });
  } finally {
    await stream.stop();
  }
}

Deno.cron("catch up", "* * * * *", async () => {
  const { events, lsn } = await catchUp();
  console.log(`${events} events, up to ${lsn}`);
});

Deno.serve(async (request) => {
  if (request.method !== "POST") return new Response("POST catches up\n", { status: 405 });
  return Response.json(await catchUp());
});
