/** `pgstream status`: how far slots are, and what they keep back. */

import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { type BackfilledTable, readBackfills } from "../../backfill/read_backfills.ts";
import { secondsUntilLost, type SlotReading } from "../../inspect/slot_forecast.ts";
import { readSlots, type SlotStatus } from "../../inspect/slots.ts";
import type { Command, Invocation } from "../command.ts";
import { usageError } from "../errors.ts";
import { formatBytes, formatCount, formatSeconds } from "../progress_line.ts";
import type { Settings } from "../settings.ts";
import type { Terminal, Tone } from "../terminal.ts";
import { padded, widthOf } from "../text_width.ts";

const DEFAULT_INTERVAL_S = 2;

/** A slot, and how long it may go on like this. */
interface SlotForecast extends SlotStatus {
  /** Null where nobody can tell: there is no limit, or it keeps no more than before. */
  secondsUntilLost: number | null;
}

/** `pgstream status`. */
export const status: Command = {
  summary: "Shows slots: how far behind, what WAL they keep, until when; and backfills",
  operands: "",
  description:
    "Of all logical slots of the database, or of the one named by --slot. When WAL runs " +
    "out is told by what was written between two readings: with --watch, and where the server " +
    "has a limit (max_slot_wal_keep_size).",
  options: {
    watch: { type: "boolean", short: "w", help: "again and again, until Ctrl+C" },
    interval: {
      type: "string",
      value: "SECONDS",
      help: `between two readings. Default: ${DEFAULT_INTERVAL_S}`,
    },
    json: { type: "boolean", help: "one line of JSON for each reading" },
  },
  examples: [
    ["pgstream status", "all slots of the database that the file, or DATABASE_URL, names"],
    ["pgstream status --watch --slot docs", "one of them, kept fresh in place"],
  ],
  run,
};

async function run({ values, settings, terminal, signal }: Invocation): Promise<void> {
  const interval = values.interval === undefined ? DEFAULT_INTERVAL_S : Number(values.interval);
  if (!(interval > 0)) throw usageError("--interval is no number above 0", "Such as --interval 5");
  const told = await settings();
  const slotName = values.slot as string | undefined;
  let lines = 0;
  const earlier = new Map<string, SlotReading>();
  const inPlace = values.watch === true && values.json !== true && terminal.isPerson;
  for (;;) {
    const { slots, backfills } = await read(told, slotName, earlier, signal);
    if (values.json === true) await terminal.printJson({ slots, backfills });
    else {
      const text = [...slotTable(slots, terminal), ...backfillLines(backfills)];
      if (inPlace && lines > 0) process.stdout.write(`\x1b[${lines}A\x1b[J`);
      lines = text.length;
      for (const line of text) await terminal.print(line);
    }
    if (values.watch !== true) return;
    await delay(interval * 1000, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
  }
}

async function read(
  { dsn, logger }: Settings,
  slotName: string | undefined,
  earlier: Map<string, SlotReading>,
  signal: AbortSignal,
): Promise<{ slots: SlotForecast[]; backfills: BackfilledTable[] }> {
  const source = { ...dsn === undefined ? {} : { dsn }, logger, signal };
  const which = slotName === undefined ? {} : { slotName };
  const slots = await readSlots({ ...source, ...which });
  const atMs = performance.now();
  const forecasts = slots.map((slot): SlotForecast => {
    const reading = { ...slot, atMs };
    const before = earlier.get(slot.slotName);
    earlier.set(slot.slotName, reading);
    return {
      ...slot,
      secondsUntilLost: before === undefined ? null : secondsUntilLost(before, reading),
    };
  });
  return { slots: forecasts, backfills: await readBackfills({ ...source, ...which }) };
}

function slotTable(slots: readonly SlotForecast[], terminal: Terminal): string[] {
  if (slots.length === 0) return ["There is no logical slot"];
  const head = ["slot", "reader", "behind", "keeps", "until lost"];
  const rows = slots.map((slot): [text: string, tone: Tone | null][] => {
    const { activePid, invalidated, lagBytes, lagSeconds, retainedWalBytes: kept } = slot;
    const age = lagSeconds === null ? "" : `, ${formatSeconds(lagSeconds)}`;
    return [
      [slot.slotName, "strong"],
      invalidated !== null
        ? [`lost (${invalidated})`, "bad"]
        : activePid === null
        ? ["nobody", "warning"]
        : [`PID ${activePid}`, "good"],
      [lagBytes === null ? "?" : `${formatBytes(lagBytes)}${age}`, null],
      [kept === null ? "nothing" : formatBytes(kept), null],
      untilLost(slot),
    ];
  });
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => widthOf(row[column]![0])))
  );
  const line = (cells: readonly [text: string, tone: Tone | null][]) =>
    cells.map(([text, tone], column) => {
      const cell = column === cells.length - 1 ? text : padded(text, widths[column]!);
      return tone === null ? cell : terminal.tone(tone, cell);
    }).join("  ");
  return [line(head.map((title) => [title, "faint"])), ...rows.map(line)];
}

function untilLost(slot: SlotForecast): [text: string, tone: Tone | null] {
  if (slot.invalidated !== null) return ["", null];
  if (slot.walStatus === "unreserved") return ["at the next checkpoint", "bad"];
  if (slot.safeWalBytes === null) return ["no limit", null];
  const left = `${formatBytes(slot.safeWalBytes)} more`;
  if (slot.secondsUntilLost === null) return [left, null];
  return [`${left}, in ${formatSeconds(slot.secondsUntilLost)} at this rate`, "warning"];
}

function backfillLines(tables: readonly BackfilledTable[]): string[] {
  return tables.map(({ slotName, table, rows, done }) =>
    `${slotName}: ${table}: ${formatCount(rows)} rows that were there ${
      done ? "are all read" : "are read by now"
    }`
  );
}
