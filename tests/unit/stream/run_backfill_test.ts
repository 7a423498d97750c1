/** A backfill that is loaded when it is asked for. What it then does is tested against real servers. */

import { assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { test } from "node:test";
import { RunBackfill } from "../../../src/stream/run_backfill.ts";

const JOB = { name: { schema: "public", table: "documents" } };

test("a run that asks for no backfill loads none, and is told of everything", async () => {
  let loads = 0;
  const make = () => Promise.reject(new Error(`loaded ${++loads} times`));
  const backfill = new RunBackfill({ needed: false, make });
  const stop = new AbortController();
  const running = backfill.run(stop.signal);
  assertEquals(await backfill.load(), null);
  const known = { systemId: "1", timeline: 1 };
  await backfill.arrived({ ...known, known, startedAt: "", confirmedLsn: 1n, tables: [] } as never);
  backfill.progressed();
  await backfill.beforeGap();
  await backfill.missed();
  await backfill.overtaken();
  backfill.lost();
  assertEquals({ idle: backfill.idle, status: backfill.status }, { idle: true, status: null });
  stop.abort();
  await running;
  assertEquals(loads, 0);
});

test("where it cannot be loaded, who asked is told so, and the run goes on", async () => {
  let loads = 0;
  const make = () => Promise.reject(new Error(`no such file ${++loads}`));
  const backfill = new RunBackfill({ needed: false, make });
  const stop = new AbortController();
  let over = false;
  const running = backfill.run(stop.signal).then(() => over = true);
  const asked = backfill.add(JOB);
  assertEquals(backfill.idle, false);
  await assertRejects(() => asked, Error, "no such file 1");
  await assertRejects(() => backfill.add(JOB), Error, "no such file 2");
  assertEquals({ idle: backfill.idle, over }, { idle: true, over: false });
  stop.abort();
  await running;
});

test("where it is needed and cannot be loaded, the run fails", async () => {
  const make = () => Promise.reject(new Error("no such file"));
  const backfill = new RunBackfill({ needed: true, make });
  await assertRejects(() => backfill.load(), Error, "no such file");
});

test("who asks when the run is over is told why it ended", async () => {
  const make = () => Promise.reject(new Error("not to be loaded"));
  const backfill = new RunBackfill({ needed: false, make });
  const reason = new Error("told to stop");
  await backfill.run(AbortSignal.abort(reason));
  const error = await backfill.add(JOB).catch((error) => error);
  assertStrictEquals(error, reason);
});
