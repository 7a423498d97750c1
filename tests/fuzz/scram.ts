/**
 * SCRAM, by itself and as a whole start-up, with a server one of whose messages is altered: the client never takes a
 * server for the right one that did not prove that it knows the password, and asks for no more counting than it can
 * do.
 */
import { ScramExchange } from "../../src/wire/scram.ts";
import { serverSignature } from "./in_process_server.ts";
import { converse, PASSWORD } from "./conversation.ts";
import type { Stage } from "./target.ts";
import { Finding } from "./tally.ts";

const EXCHANGES_OF_BATCH = 100;
const CONVERSATIONS_OF_BATCH = 60;
const KINDS = new Set(["authentication"]);
const NONCES = ["sRd3YB8w9RU30LPpGFMXLtnr", "a", "nonce"];
const OTHER_PASSWORDS = ["another", PASSWORD + "x", "PASSWORD"];
/** Counts that lie, and such as only look like a number. */
const COUNTS = [
  "0",
  "-1",
  "1000001",
  "9999999999",
  "4294967297",
  "2147483648",
  "1e9",
  "1.5",
  "00001",
  "0x10",
  " 1",
  "1 ",
  "",
  "99999999999999999999",
  "NaN",
  "Infinity",
  "１",
];
/** The most that is allowed, which takes long: seldom. */
const MOST_COUNT = "1000000";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** See `Batch`. */
export async function batch(stage: Stage): Promise<void> {
  if (stage.dice.chance(0.002)) await exchange(stage, MOST_COUNT);
  for (let i = 0; i < EXCHANGES_OF_BATCH; i++) await exchange(stage, null);
  for (let i = 0; i < CONVERSATIONS_OF_BATCH; i++) {
    await converse(stage, {
      method: stage.dice.chance(0.5) ? "scram" : "scram-plus",
      requireAuth: ["scram-sha-256"],
    });
  }
}

/** Texts in, texts out. @param count in place of the right one */
async function exchange({ dice, mutator, tally }: Stage, count: string | null): Promise<void> {
  const nonce = dice.pick(NONCES);
  const client = new ScramExchange(
    PASSWORD,
    nonce,
    dice.pick(["none", "not-offered", Uint8Array.of(1, 2)]),
  );
  const clientFirst = client.clientFirst();
  const bare = clientFirst.slice(clientFirst.indexOf("n=,"));
  const right = `r=${nonce}${dice.pick(NONCES)},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=${dice.between(1, 3)}`;
  const alter = (text: string, share: number) =>
    dice.chance(share)
      ? decoder.decode(mutator.take(encoder.encode(text)).mutate(encoder.encode(right)).view)
      : text;
  let said = alter(right, 0.4);
  if (dice.chance(0.1)) said = said.replace(/i=\d+$/, `i=${dice.pick(COUNTS)}`);
  if (count !== null) said = right.replace(/i=\d+$/, `i=${count}`);
  // Counting takes its time only; what is asked here is whether the rest holds.
  if (count === null && tooMuch(said)) return;
  tally.begin(said.length);
  try {
    const clientFinal = await client.clientFinal(said);
    const withoutProof = clientFinal.slice(0, clientFinal.lastIndexOf(",p="));
    const password = dice.chance(0.1) ? dice.pick(OTHER_PASSWORDS) : PASSWORD;
    // It goes by what it meant to say, as a server does; or it is one that knows the password and cheats.
    const signed = dice.chance(0.5) ? right : said;
    const signature = serverSignature(password, signed, `${bare},${signed},${withoutProof}`);
    const rightFinal = `v=${signature.toString("base64")}`;
    const final = alter(rightFinal, 0.6);
    tally.bytes += final.length;
    client.verifyServerFinal(final);
    const proven = Buffer.from(/^v=([^,]*)/.exec(final)?.[1] ?? "", "base64").equals(signature);
    const fresh = said.startsWith(`r=${nonce}`) && said[`r=${nonce}`.length] !== ",";
    if (said !== signed || password !== PASSWORD || !proven || !fresh) {
      throw new Finding(`Verified: "${said}", "${final}"`);
    }
    tally.messages++;
  } catch (error) {
    if (error instanceof Finding) throw error;
    tally.refuse(error, KINDS);
    if (client.verified) throw new Finding("Failed, and verified");
  }
}

/** Between what is quick and what is refused. */
function tooMuch(serverFirst: string): boolean {
  const count = Number(/,i=([1-9]\d*)$/.exec(serverFirst)?.[1] ?? 0);
  return count > 10_000 && count <= Number(MOST_COUNT);
}
