/** What real servers sent: the golden files, whichever there are. */
import { readdirSync, readFileSync } from "node:fs";
import { bytesOf } from "../support/golden.ts";

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
