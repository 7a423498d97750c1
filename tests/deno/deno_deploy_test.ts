/** examples/deno_deploy.ts, as it stands, with the permissions that its header names. */
import { assert, assertEquals } from "@std/assert";
import { testPostgres } from "../support/servers/test_postgres.ts";
import { until } from "../support/streams.ts";

Deno.test("examples/deno_deploy.ts: the webhook catches up, time and again", async () => {
  const example = new URL("../../examples/deno_deploy.ts", import.meta.url);
  const [, flags] = /deno run (.+) examples\//.exec(await Deno.readTextFile(example))!;
  const source = await testPostgres();
  await source.query("CREATE TABLE documents (id bigint PRIMARY KEY, content text)");
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", ...flags!.split(" "), example.pathname],
    env: {
      DATABASE_URL: source.dsn,
      DENO_SERVE_ADDRESS: "tcp:127.0.0.1:0",
      NO_COLOR: "1",
    },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let output = "";
  const { promise: listening, resolve, reject } = Promise.withResolvers<string>();
  const reading = [child.stdout, child.stderr].map(async (stream) => {
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      output += text;
      const [url] = /http:\/\/127\.0\.0\.1:\d+\//.exec(output) ?? [];
      if (url !== undefined) resolve(url);
    }
    reject(new Error(`It ended: ${output}`));
  });
  try {
    const url = await listening;
    const post = async () => {
      const answer = await fetch(url, { method: "POST", signal: AbortSignal.timeout(30_000) });
      assertEquals(answer.status, 200, output);
      return await answer.json() as { events: number; busy: boolean };
    };
    assertEquals((await post()).events, 0);
    await source.query("INSERT INTO documents VALUES (1, 'first'), (2, 'second')");
    // A run of the cron job may be at it.
    await until("both rows to be handled", async () => {
      await post();
      return output.includes('insert 2 {"id":"2","content":"second"}');
    });
    assert(output.includes('insert 1 {"id":"1","content":"first"}'), output);
    await until("nothing to be left", async () => {
      const { events, busy } = await post();
      return events === 0 && !busy;
    });
    const read = await fetch(url);
    assertEquals([read.status, await read.text()], [405, "POST catches up\n"]);
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await Promise.allSettled(reading);
    await source.stop();
  }
});
