/**
 * What real servers sent, made wrong, through two decoders. One is given everything, in the middle of a buffer that is
 * overwritten afterwards; the other, its twin, only what the first one took, by itself. Both must tell the same: so
 * what is refused leaves no trace, what is taken owns its memory, and what lies around a message is not looked at.
 */
import * as pgoutput from "../../src/pgoutput/mod.ts";
import { DecodeError, PgOutputDecoder, type PgStreamError } from "../../src/pgoutput/mod.ts";
import { largestArrayOf } from "./allocation_watch.ts";
import { goldenMessages, goldenStreams, streamedMessages } from "./corpus.ts";
import { Comparison } from "./same.ts";
import type { Stage } from "./target.ts";
import { Finding, hex, type Tally } from "./tally.ts";

const PASSES_OF_BATCH = 20;
/** So few that it is too many now and then. */
const MOST_KEPT = 100;
/** What a message may make its decoder allocate at once: not more than its own bytes. */
const SLACK_BYTES = 64;

/** What makes whole transactions of parts, where there is something that does. */
interface Assembler {
  accept(message: unknown): readonly unknown[];
  reset(): void;
}

const Assembler = (pgoutput as Record<string, unknown>).StreamAssembler as
  | (new (options: { maxMessages: number }) => Assembler)
  | undefined;

const streams = Assembler === undefined ? goldenStreams : [...goldenStreams, ...streamedMessages];

/** See `Batch`. */
export function batch({ dice, mutator, spare, tally, watched }: Stage): void {
  const decoder = new PgOutputDecoder();
  const twin = new PgOutputDecoder();
  const comparison = new Comparison();
  const assemblers = Assembler === undefined
    ? null
    : [0, 1].map(() => new Assembler({ maxMessages: MOST_KEPT })) as [Assembler, Assembler];
  for (let pass = 0; pass < PASSES_OF_BATCH; pass++) {
    decoder.reset();
    twin.reset();
    comparison.reset();
    for (const assembler of assemblers ?? []) assembler.reset();
    const { messages } = dice.pick(streams);
    const wrong = dice.pick([0.02, 0.2, 0.5, 0.9]);
    for (let index = 0; index < messages.length; index++) {
      // Now and then one is missing, comes twice, or comes from elsewhere.
      if (dice.chance(0.01)) continue;
      if (dice.chance(0.01)) index = dice.below(messages.length);
      mutator.take(dice.chance(0.01) ? dice.pick(goldenMessages) : messages[index]!);
      if (dice.chance(wrong)) mutator.mutate(dice.pick(goldenMessages));
      const { bytes, start, end, length } = mutator;
      const copy = spare.take(mutator.view).view;
      tally.begin(length);
      let message: unknown;
      const decode = () => {
        message = decodeAt(decoder, bytes, start, end, tally);
      };
      if (!watched) {
        decode();
      } else {
        const largest = largestArrayOf(decode);
        if (largest > length + SLACK_BYTES) {
          throw new Finding(`An array of ${largest} bytes for ${hex(copy)}`);
        }
      }
      if (message instanceof DecodeError) {
        if (dice.chance(0.2)) expectRefused(decoder, copy, message, tally);
        continue;
      }
      bytes.fill(0xa5, start, end);
      tally.messages++;
      tally.bytes += length;
      const expected = decodeAt(twin, copy, 0, length, tally, true);
      if (!comparison.same(message, expected)) {
        throw new Finding(`The twin tells another thing of ${hex(copy)}: ${expected}`);
      }
      if (assemblers !== null) assemble(assemblers, message, expected, comparison, tally);
      if (dice.chance(0.05)) {
        expectRefused(decoder, copy.subarray(0, -1), null, tally);
        expectRefused(decoder, mutator.take(copy).add(Uint8Array.of(0)).view, null, tally);
      }
    }
  }
}

/** What is put together of the same parts is the same; so is why it cannot be. */
function assemble(
  [ours, twins]: readonly [Assembler, Assembler],
  message: unknown,
  twin: unknown,
  comparison: Comparison,
  tally: Tally,
): void {
  const accept = (assembler: Assembler, part: unknown): readonly unknown[] | string => {
    try {
      return assembler.accept(part);
    } catch (error) {
      tally.refuse(error);
      return (error as PgStreamError).message;
    }
  };
  const whole = accept(ours, message);
  const expected = accept(twins, twin);
  if (!comparison.part(whole, expected)) throw new Finding(`Put together in two ways: ${whole}`);
  if (typeof whole === "string") { for (const assembler of [ours, twins]) assembler.reset(); }
}

/** @returns a message, or why it was refused */
function decodeAt(
  decoder: PgOutputDecoder,
  bytes: Uint8Array,
  start: number,
  end: number,
  tally: Tally,
  whole = false,
): unknown {
  try {
    return whole ? decoder.decode(bytes) : decoder.decodeAt(bytes, start, end);
  } catch (error) {
    tally.refuse(error);
    if (!(error instanceof DecodeError)) throw new Finding(`Not a DecodeError: ${error}`);
    if (!(error.offset >= 0 && error.offset <= end - start)) {
      throw new Finding(`Byte ${error.offset} of ${end - start}`);
    }
    return error;
  }
}

/** @param before why the same bytes were refused; null where they were not looked at yet */
function expectRefused(
  decoder: PgOutputDecoder,
  bytes: Uint8Array,
  before: DecodeError | null,
  tally: Tally,
): void {
  tally.bytes += bytes.length;
  const outcome = decodeAt(decoder, bytes, 0, bytes.length, tally, true);
  if (!(outcome instanceof DecodeError)) {
    throw new Finding(`Too few bytes, too many, or refused before; and taken: ${hex(bytes)}`);
  }
  if (before !== null && outcome.message !== before.message) {
    throw new Finding(`Refused for another reason: ${outcome.message} / ${before.message}`);
  }
}
