/** How far work is, in a line. */

import type { BackfillStatus } from "../backfill/job.ts";
import type { StreamStatus } from "../stream/status.ts";

const BAR_COLUMNS = 24;

/** `1,234,567` */
export function formatCount(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

/** `1.5 MB`; powers of 1000. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 1 : 0)} ${units[unit]}`;
}

/** `45 s`, `3 min`, `2.5 h`, `4 d`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Number((seconds / 3600).toFixed(1))} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** Rows of a table that are there already: a bar where it is known how many there are. */
export function backfillLine(status: BackfillStatus): string {
  const { table, rows, estimatedRows, rowsPerSecond, secondsLeft } = status;
  const parts = [`${table}: `];
  if (estimatedRows !== null && estimatedRows > 0) {
    const done = Math.min(1, rows / estimatedRows);
    const full = Math.floor(done * BAR_COLUMNS);
    parts.push(
      `[${"#".repeat(full)}${" ".repeat(BAR_COLUMNS - full)}] ${Math.floor(done * 100)}% `,
      `${formatCount(rows)} of about ${formatCount(estimatedRows)} rows`,
    );
  } else parts.push(`${formatCount(rows)} rows`);
  if (rowsPerSecond > 0) parts.push(`, ${formatCount(rowsPerSecond)}/s`);
  if (secondsLeft !== null) parts.push(`, ${formatSeconds(secondsLeft)} left`);
  return parts.join("");
}

/** What a stream does. @param embedded texts that became vectors */
export function streamLine(status: StreamStatus, embedded: number): string {
  if (status.backfill !== null) return `${status.state}, reading ${backfillLine(status.backfill)}`;
  const { insert, update, delete: deleted, truncate } = status.events;
  const parts = [
    `${formatCount(insert + update + deleted + truncate)} changes`,
    `${formatCount(embedded)} texts embedded`,
    `${formatBytes(status.lagBytes)} and ${formatSeconds(status.lagSeconds)} behind`,
  ];
  if (status.retries > 0) parts.push(`${formatCount(status.retries)} retries`);
  if (status.skipped > 0) parts.push(`${formatCount(status.skipped)} skipped`);
  if (status.reconnects > 0) parts.push(`${formatCount(status.reconnects)} reconnects`);
  return `${status.state}: ${parts.join(", ")}`;
}
