/** What real servers sent: the golden files, whichever there are. */
import { readdirSync, readFileSync } from "node:fs";
import { bytesOf } from "../support/golden.ts";
import { concat, int32 } from "../support/scripted_server.ts";

const FOLDER = new URL("../golden/", import.meta.url);

/** The messages of one slot, in their order. */
export interface GoldenStream {
  /** `pg18.jsonl text` */
  name: string;
  messages: readonly Uint8Array[];
}

/** Of each file and each of its slots. */
export const goldenStreams: readonly GoldenStream[] = readStreams();

/** All of them. */
export const goldenMessages: readonly Uint8Array[] = goldenStreams.flatMap(({ messages }) =>
  messages
);

function readStreams(): GoldenStream[] {
  const streams = new Map<string, Uint8Array[]>();
  for (const file of readdirSync(FOLDER).filter((name) => name.endsWith(".jsonl")).sort()) {
    for (const line of readFileSync(new URL(file, FOLDER), "utf8").split("\n")) {
      if (line === "") continue;
      const { slot, hex } = JSON.parse(line) as { slot?: string; hex?: string };
      if (hex === undefined) continue;
      const name = `${file} ${slot}`;
      const messages = streams.get(name) ?? [];
      streams.set(name, messages);
      messages.push(bytesOf(hex));
    }
  }
  return [...streams].map(([name, messages]) => ({ name, messages }));
}

/** Texts of values of all types that are in them, each once, short ones only. */
export const goldenTexts: readonly string[] = readTexts();

function readTexts(): string[] {
  const texts = new Set<string>();
  for (const message of goldenMessages) {
    // What stands behind `t` and a length, for the most part.
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    for (let at = 0; at + 5 <= message.length; at++) {
      const length = message[at] === 0x74 ? view.getInt32(at + 1) : -1;
      if (length < 1 || length > 200 || at + 5 + length > message.length) continue;
      texts.add(new TextDecoder().decode(message.subarray(at + 5, at + 5 + length)));
    }
  }
  return [...texts];
}

/** Types of messages that tell in a stream which (sub)transaction they belong to. */
const WITH_XID = new Set(Array.from("IUDTRYM", (letter) => letter.charCodeAt(0)));
const XID = 771;
const SUB_XID = 772;

/** The same as servers send it in parts (protocols 2 to 4), one transaction between others, and what ends those. */
export const streamedMessages: readonly GoldenStream[] = goldenStreams.map((
  { name, messages },
) => ({
  name: `${name}, streamed`,
  messages: streamed(messages),
}));

function streamed(messages: readonly Uint8Array[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  let count = 0;
  for (const message of messages) {
    if (!WITH_XID.has(message[0]!)) continue;
    const first = count === 0;
    if (count % 20 === 0) parts.push(letters("S", int32(XID), [first ? 1 : 0]));
    const xid = count % 7 < 5 ? XID : SUB_XID;
    parts.push(letters(String.fromCharCode(message[0]!), int32(xid), message.subarray(1)));
    if (count % 20 === 19) {
      parts.push(letters("E"));
      if (count % 40 === 39) parts.push(letters("A", int32(XID), int32(SUB_XID)));
      else parts.push(letters("A", int32(XID), int32(SUB_XID), int64(9), int64(10)));
      parts.push(...messages.slice(0, 3));
    }
    count++;
  }
  if (count % 20 !== 0) parts.push(letters("E"));
  const prepared = [[0], int64(1), int64(2), int64(3), int32(XID), "gid\0"];
  return [
    ...parts,
    letters("c", int32(XID), [0], int64(1), int64(2), int64(3)),
    // In the order of no server; each is one that there is.
    letters("S", int32(XID), [1]),
    letters("E"),
    letters("p", ...prepared),
    letters("b", ...prepared.slice(1)),
    letters("P", ...prepared),
    letters("K", ...prepared),
    letters("r", [0], int64(1), int64(2), int64(3), int64(4), int32(XID), "gid\0"),
  ];
}

function letters(type: string, ...parts: (string | number[] | Uint8Array)[]): Uint8Array {
  const bytes = parts.map((part) =>
    typeof part === "string" ? new TextEncoder().encode(part) : Uint8Array.from(part)
  );
  return concat([Uint8Array.of(type.charCodeAt(0)), ...bytes]);
}

function int64(value: number): number[] {
  return [...int32(0), ...int32(value)];
}
