/**
 * Start-ups in every way that a server can ask, and a query behind them, with messages that are altered, missing or
 * cut: a connection or a typed error, at once, and nothing that stays open.
 */
import type { Connection } from "../../src/wire/connection.ts";
import { msg, say } from "../support/scripted_server.ts";
import { converse, type Scene } from "./conversation.ts";
import { goldenMessages } from "./corpus.ts";
import type { Method } from "./in_process_server.ts";
import type { Stage } from "./target.ts";

const CONVERSATIONS_OF_BATCH = 120;
const METHODS: readonly Method[] = ["trust", "cleartext", "md5", "scram", "scram-plus", "refuse"];

const ROWS = [
  say.columns("a", "b"),
  say.row("1", null),
  say.row("é", "x"),
  say.complete("SELECT 2"),
];
const IN_RECOVERY = [say.columns("a", "b"), say.row("off", "off"), say.complete("SELECT 1")];
const COPY = [
  say.copyOut,
  say.copyData("1\ta\n"),
  say.copyData("2\t\\N\n"),
  say.copyDone,
  say.complete("COPY 2"),
];
const FAILED = [say.error("ERROR", "42P01", 'relation "a" does not exist')];
const END = [say.copyDone, say.complete("COPY 0"), say.ready];

/** See `Batch`. */
export async function batch(stage: Stage): Promise<void> {
  for (let i = 0; i < CONVERSATIONS_OF_BATCH; i++) {
    await converse(stage, { method: stage.dice.pick(METHODS), ...useOf(stage) });
  }
}

function useOf({ dice }: Stage): Omit<Scene, "method"> {
  switch (dice.below(6)) {
    case 0:
      return { use: query, answers: [[...dice.pick([ROWS, FAILED, [msg("I")], COPY]), say.ready]] };
    case 1:
      return { use: query, answers: [[...ROWS, ...FAILED, say.ready], [...ROWS, say.ready]] };
    case 2:
      return { use: copyOut, answers: [[...dice.pick([COPY, FAILED, ROWS]), say.ready]] };
    case 3:
      return {
        use: stream,
        answers: [[say.copyBoth, ...dice.pick(goldenFrames), ...END]],
      };
    case 4:
      return {
        targetSessionAttrs: dice.pick(["primary", "read-write", "standby", "read-only"]),
        answers: [[...dice.pick([IN_RECOVERY, IN_RECOVERY, ROWS, FAILED, [msg("I")]]), say.ready]],
      };
    default:
      return {};
  }
}

const goldenFrames = [0, 40, 80].map((from) =>
  goldenMessages.slice(from, from + 20).map((bytes) => say.copyData(bytes))
);

async function query(connection: Connection): Promise<void> {
  await connection.query("SELECT 1");
  await connection.query("SELECT 2");
}

async function copyOut(connection: Connection): Promise<void> {
  for await (const rows of connection.copyOut("COPY t TO STDOUT")) while (rows.advance());
}

async function stream(connection: Connection): Promise<void> {
  const copy = await connection.copyBoth("START_REPLICATION SLOT a LOGICAL 0/0");
  do {
    while (copy.advance());
  } while (await copy.more());
  await copy.end({ timeoutMs: 1000 });
}
