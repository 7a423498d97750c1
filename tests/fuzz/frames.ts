/**
 * Streams of frames, cut anywhere and made wrong: the frames are those that a plain reading of the protocol gives, each
 * to its last byte, and whatever else comes is a `ProtocolError`. Then the messages in them.
 */
import {
  decodeAuthentication,
  decodeBackendKeyData,
  decodeCommandComplete,
  decodeCopyResponse,
  decodeDataRow,
  decodeEmpty,
  decodeNegotiateProtocolVersion,
  decodeNotification,
  decodeParameterStatus,
  decodeReadyForQuery,
  decodeRowDescription,
} from "../../src/wire/backend.ts";
import {
  type FrameLimits,
  FrameReader,
  SESSION_LIMITS,
  STARTUP_LIMITS,
} from "../../src/wire/frames.ts";
import { decodeServerMessage } from "../../src/wire/postgres_error.ts";
import { concat, int16, int32, msg, say } from "../support/scripted_server.ts";
import { largestArrayOf } from "./allocation_watch.ts";
import { goldenMessages } from "./corpus.ts";
import { NOISE } from "./dice.ts";
import type { Mutator } from "./mutate.ts";
import type { Stage } from "./target.ts";
import { Finding, hex, type Tally } from "./tally.ts";

const STREAMS_OF_BATCH = 20;
/** Streams up to here are cut at each of their bytes. */
const CUT_EVERYWHERE_BYTES = 300;
const KINDS = new Set(["protocol-violation"]);
const MIB = 1 << 20;

const AT_ANY_TIME = [
  say.error("FATAL", "28P01", "password authentication failed", "Hlook\0P12\0L1\0"),
  say.error("ERROR", "42P01", 'relation "a" does not exist', "Ddetail\0Wwhere\0qquery\0"),
  say.notice("a notice of the server"),
  say.parameter("server_version", "18.4"),
  say.parameter("TimeZone", "UTC"),
  say.ready,
  msg("Z", "T"),
  msg("Z", "E"),
];

const STARTUP = [
  ...AT_ANY_TIME,
  say.authenticationOk,
  say.cleartext,
  msg("R", int32(5), [1, 2, 3, 4]),
  say.sasl("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"),
  say.saslContinue("r=sRd3YB8w9RU30LPpGFMXLtnrougXEdG8owKKakGw,s=sOerjKbUBfLbxv/Xc1Xw7A==,i=4096"),
  say.saslFinal("v=9yukrbw1u+/3gQyT1OkZI2RXczuhAwNODwRdhBpPvmQ="),
  msg("R", int32(7)),
  say.key,
  msg("K", int32(77), new Uint8Array(32).fill(7)),
  msg("v", int32(196_608), int32(2), "_pq_.a\0_pq_.b\0"),
];

const SESSION = [
  ...AT_ANY_TIME,
  say.columns("id", "title", "größe"),
  say.row("1", null, ""),
  say.row("a".repeat(700), "é世", null),
  say.complete("SELECT 1"),
  msg("I"),
  say.copyOut,
  say.copyBoth,
  msg("G", [0], int16(3), int16(0), int16(0), int16(0)),
  say.copyDone,
  msg("A", int32(5), "channel\0payload\0"),
  ...goldenMessages.map((bytes) => say.copyData(bytes)),
];

/** Longer than what is made room for at once. */
const LARGE = say.copyData(concat([NOISE, NOISE.subarray(0, NOISE.length / 2)]));

/** Where frames lie, by a plain reading of the protocol. */
class Reference {
  readonly starts: number[] = [];
  readonly ends: number[] = [];
  /** True where a frame follows that has no place, or a length that is not allowed. */
  fails = false;
  /** True where a part of a frame follows. */
  partial = false;

  constructor(stream: Uint8Array, limits: FrameLimits) {
    const view = new DataView(stream.buffer, stream.byteOffset, stream.length);
    let at = 0;
    while (at < stream.length) {
      if (stream.length - at < 5) {
        this.partial = true;
        return;
      }
      const limit = limits[stream[at]!]!;
      const length = view.getInt32(at + 1);
      if (limit < 0 || length < 4 || length - 4 > limit) {
        this.fails = true;
        return;
      }
      const end = at + 1 + length;
      if (end > stream.length) {
        this.partial = true;
        return;
      }
      this.starts.push(at + 5);
      this.ends.push(end);
      at = end;
    }
  }
}

/** See `Batch`. */
export function batch({ dice, mutator, spare, tally, watched }: Stage): void {
  for (let round = 0; round < STREAMS_OF_BATCH; round++) {
    const [limits, frames] = dice.chance(0.25)
      ? [STARTUP_LIMITS, STARTUP] as const
      : [SESSION_LIMITS, SESSION] as const;
    // Of its frames; in half of the streams none is wrong, so that many are read behind one another.
    const wrong = dice.pick([0, 0, 0.01, 0.05, 0.3]);
    spare.end = spare.start;
    const count = dice.size(400);
    for (let i = 0; i < count; i++) {
      const frame = dice.pick(frames);
      const altered = wrong > 0 && dice.chance(wrong);
      spare.add(altered ? mutator.alterFrame(frame, dice.pick(frames)).view : frame);
    }
    if (dice.chance(0.03)) spare.add(LARGE).add(dice.pick(frames));
    if (dice.chance(0.3)) spare.mutate(mutator.view);
    // What frames are views of must not change: a copy, as of what a socket hands over.
    const stream = spare.view.slice();
    const reference = new Reference(stream, limits);
    const play = () => {
      tally.begin(stream.length);
      readCut(stream, limits, reference, () => stream.length);
      tally.begin(stream.length);
      const most = dice.size(stream.length + 1);
      readCut(stream, limits, reference, () => dice.between(1, most));
      if (stream.length < 2000) {
        tally.begin(stream.length);
        readCut(stream, limits, reference, () => 1);
      }
      if (stream.length < CUT_EVERYWHERE_BYTES) {
        for (let cut = 1; cut < stream.length; cut++) {
          tally.begin(stream.length);
          let first = true;
          readCut(stream, limits, reference, () => {
            const size = first ? cut : stream.length;
            first = false;
            return size;
          });
        }
      }
    };
    if (!watched) {
      play();
    } else {
      const largest = largestArrayOf(play);
      if (largest > Math.max(MIB, 2 * stream.length)) {
        throw new Finding(`An array of ${largest} bytes for a stream of ${stream.length}`);
      }
    }
    tally.messages += reference.starts.length;
    if (reference.fails) tally.count("ProtocolError protocol-violation");
    decodeBodies(stream, reference, tally, mutator, dice.chance(0.1));
  }
}

/** Reads a stream in chunks of these sizes, and compares each frame. */
function readCut(
  stream: Uint8Array<ArrayBuffer>,
  limits: FrameLimits,
  reference: Reference,
  sizeOf: () => number,
): void {
  const reader = new FrameReader(limits);
  /** Frames that are no views: they must stay what they are. */
  const spanning: { bytes: Uint8Array; index: number }[] = [];
  let index = 0;
  let failure: unknown = null;
  for (let at = 0; at < stream.length && failure === null;) {
    const chunk = stream.subarray(at, at + sizeOf());
    at += chunk.length;
    try {
      reader.push(chunk);
      while (reader.advance()) {
        const start = reference.starts[index];
        const end = reference.ends[index];
        if (start === undefined || end === undefined) throw new Finding("A frame too many");
        if (reader.type !== stream[start - 5]) throw new Finding(`Frame ${index}: another type`);
        if (reader.end - reader.start !== end - start) {
          throw new Finding(
            `Frame ${index}: ${reader.end - reader.start} bytes, not ${end - start}`,
          );
        }
        if (reader.bytes === chunk) {
          if (chunk.byteOffset + reader.start !== start) {
            throw new Finding(`Frame ${index}: elsewhere`);
          }
        } else {
          const bytes = reader.frame.body;
          if (end > start && bytes.buffer === stream.buffer) {
            throw new Finding(`Frame ${index}: a view of another chunk`);
          }
          spanning.push({ bytes, index });
        }
        index++;
      }
    } catch (error) {
      failure = error;
    }
  }
  if (failure instanceof Finding) throw failure;
  if (reference.fails) {
    if (failure === null) throw new Finding("A frame that must be refused was taken for none");
    judge(failure);
  } else if (failure !== null) {
    throw new Finding(`Right frames were refused: ${failure}`);
  } else if (reader.midFrame !== reference.partial) {
    throw new Finding(`midFrame is ${reader.midFrame} at the end of the stream`);
  }
  if (index !== reference.starts.length) {
    throw new Finding(`${index} frames of ${reference.starts.length}`);
  }
  for (const { bytes, index } of spanning) {
    const start = reference.starts[index]!;
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] !== stream[start + i]) throw new Finding(`Frame ${index}: another byte at ${i}`);
    }
  }
}

function judge(error: unknown): void {
  if ((error as { kind?: unknown }).kind === "protocol-violation") return;
  throw new Finding(`Not a ProtocolError: ${error}`);
}

/** The reader of each type's body; whether what it reads has an end of its own, so that one byte less is too few. */
const READERS: Readonly<
  Record<string, readonly [read: (body: Uint8Array) => unknown, ends: boolean]>
> = {
  R: [decodeAuthentication, false],
  K: [decodeBackendKeyData, false],
  C: [decodeCommandComplete, true],
  W: [decodeCopyResponse, true],
  G: [decodeCopyResponse, true],
  H: [decodeCopyResponse, true],
  c: [(body) => decodeEmpty("CopyDone", body), true],
  I: [(body) => decodeEmpty("EmptyQueryResponse", body), true],
  D: [(body) => decodeDataRow(body, body.length < 2 ? 0 : (body[0]! << 8) | body[1]!), true],
  E: [decodeServerMessage, true],
  N: [decodeServerMessage, true],
  v: [decodeNegotiateProtocolVersion, true],
  A: [decodeNotification, true],
  S: [decodeParameterStatus, true],
  Z: [decodeReadyForQuery, true],
  T: [decodeRowDescription, true],
};

/** Reads what is in the frames; one byte less, or one more, is never the same message. */
function decodeBodies(
  stream: Uint8Array,
  { starts, ends }: Reference,
  tally: Tally,
  mutator: Mutator,
  cutToo: boolean,
): void {
  for (let index = 0; index < starts.length; index++) {
    const start = starts[index]!;
    const reader = READERS[String.fromCharCode(stream[start - 5]!)];
    if (reader === undefined) continue;
    const [read, ends_] = reader;
    const body = stream.subarray(start, ends[index]!);
    tally.begin(body.length);
    if (!takes(read, body, tally) || !cutToo || !ends_) continue;
    const cut = body.subarray(0, -1);
    if (body.length > 0 && takes(read, cut, tally)) {
      throw new Finding(`Cut, and taken: ${hex(cut)}`);
    }
    const more = mutator.take(body).add(Uint8Array.of(0)).view;
    if (takes(read, more, tally)) throw new Finding(`A byte left over, and taken: ${hex(more)}`);
  }
}

function takes(read: (body: Uint8Array) => unknown, body: Uint8Array, tally: Tally): boolean {
  try {
    read(body);
    return true;
  } catch (error) {
    tally.refuse(error, KINDS);
    return false;
  }
}
