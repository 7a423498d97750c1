/**
 * timestamp and timestamptz → `Date`.
 * https://www.postgresql.org/docs/current/datatype-datetime.html
 */

const TIMESTAMP =
  /^(\d{4,6})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?( BC)?$/;

/**
 * Reads a timestamp with a time zone, `2026-01-31 12:00:00.123456+00`, in ISO order. Microseconds are
 * cut. What a `Date` cannot hold, `infinity` and years behind 275760, is an Invalid Date.
 *
 * @throws {RangeError} where the text is anything else; the message does not repeat it.
 */
export function parseTimestamptz(text: string): Date {
  return parse(text, true);
}

/** The same for a timestamp without a time zone: it is taken for the local time of the process. */
export function parseTimestamp(text: string): Date {
  return parse(text, false);
}

function parse(text: string, zoned: boolean): Date {
  if (zoned) {
    const ms = parseUtc(text);
    if (!Number.isNaN(ms)) return new Date(ms);
  }
  const match = TIMESTAMP.exec(text);
  if (match === null) {
    if (text === "infinity" || text === "-infinity") return new Date(NaN);
    throw new RangeError("no timestamp in ISO order");
  }
  const year = match[12] === undefined ? Number(match[1]) : 1 - Number(match[1]);
  const [month, day] = [Number(match[2]), Number(match[3])];
  const [hour, minute, second] = [Number(match[4]), Number(match[5]), Number(match[6])];
  const ms = match[7] === undefined ? 0 : Number(match[7].slice(0, 3).padEnd(3, "0"));
  if (
    month < 1 || month > 12 || day < 1 || day > 31 || hour > 24 || minute > 59 || second > 60 ||
    (match[8] !== undefined) !== zoned
  ) throw new RangeError("no timestamp of its type");
  // Date.UTC and the constructor take the years 0 to 99 for 1900 to 1999.
  const date = new Date(0);
  if (zoned) {
    date.setUTCFullYear(year, month - 1, day);
    date.setUTCHours(hour, minute, second - offsetOf(match), ms);
  } else {
    date.setFullYear(year, month - 1, day);
    date.setHours(hour, minute, second, ms);
  }
  return date;
}

/**
 * The form of nearly all, `2026-01-31 12:00:00.123456+00`, in a quarter of the time: connections of a stream have
 * UTC as their zone.
 *
 * @returns NaN for any other, which need not be wrong
 */
function parseUtc(text: string): number {
  const end = text.length - 3;
  if (end < 19 || end > 26 || !text.endsWith("+00")) return NaN;
  const year = digitsAt(text, 0, 4);
  const month = digitsAt(text, 5, 2);
  const day = digitsAt(text, 8, 2);
  const hour = digitsAt(text, 11, 2);
  const minute = digitsAt(text, 14, 2);
  const second = digitsAt(text, 17, 2);
  const fraction = end === 19 ? 0 : digitsAt(text, 20, end - 20) * 10 ** (26 - end);
  // What is no digit is NaN, for which nothing of this is true.
  const right = year >= 100 && month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour <= 24 &&
    minute <= 59 && second <= 60 && fraction >= 0;
  if (!right || !separated(text, end)) return NaN;
  return Date.UTC(year, month - 1, day, hour, minute, second, Math.floor(fraction / 1000));
}

function separated(text: string, end: number): boolean {
  return text[4] === "-" && text[7] === "-" && text[10] === " " && text[13] === ":" &&
    text[16] === ":" && (end === 19 || (text[19] === "." && end > 20));
}

/** NaN where there is anything else. */
function digitsAt(text: string, at: number, count: number): number {
  let value = 0;
  for (let index = at; index < at + count; index++) {
    const digit = text.charCodeAt(index) - 0x30;
    if (!(digit >= 0 && digit <= 9)) return NaN;
    value = value * 10 + digit;
  }
  return value;
}

/** What the zone is ahead of UTC, in seconds. */
function offsetOf({ 8: sign, 9: hours, 10: minutes = "0", 11: seconds = "0" }: string[]): number {
  const offset = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds);
  return sign === "-" ? -offset : offset;
}
