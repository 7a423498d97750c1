/** The server's side of SCRAM-SHA-256, step by step, each of which can be made wrong. */
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import { saslPrep } from "../../src/wire/sasl_prep.ts";
import { CANARY } from "./canary.ts";
import { type Peer, say } from "./scripted_server.ts";

/** A running exchange. */
export interface Exchange {
  clientNonce: string;
  /** What the server said in its first message. */
  serverFirst: string;
  /** What the server has to prove: `v=` and the base64 of its signature. */
  final: string;
  signature: Uint8Array;
}

const salt = randomBytes(16).toString("base64");

/** Offers the mechanisms and reads the client's first message. @returns its nonce */
export async function offer(peer: Peer, ...mechanisms: string[]): Promise<string> {
  await peer.startup();
  await peer.send(say.sasl(...(mechanisms.length === 0 ? ["SCRAM-SHA-256"] : mechanisms)));
  return nonceOf((await peer.message()).text);
}

function nonceOf(initial: string): string {
  return /,r=([^,]*)$/.exec(initial)![1]!;
}

/** A right first message. */
export function serverFirst(clientNonce: string, iterations = 4096): string {
  return `r=${clientNonce}${randomBytes(12).toString("base64")},s=${salt},i=${iterations}`;
}

/** Sends a right first message, and reads the client's final one. */
export async function exchange(peer: Peer, password: string = CANARY): Promise<Exchange> {
  const clientNonce = await offer(peer);
  return await continueWith(peer, clientNonce, serverFirst(clientNonce), password);
}

const SALT_AND_ITERATIONS = /,s=([^,]*),i=(\d+)/;

/** True where the message has what the server needs to go on with it. */
export function isExchange(serverFirst: string): boolean {
  return SALT_AND_ITERATIONS.test(serverFirst);
}

/** The same with a first message of the script's own, which the client has to take. */
export async function continueWith(
  peer: Peer,
  clientNonce: string,
  serverFirst: string,
  password: string = CANARY,
): Promise<Exchange> {
  await peer.send(say.saslContinue(serverFirst));
  const clientFinal = (await peer.message()).text;
  const withoutProof = clientFinal.slice(0, clientFinal.lastIndexOf(",p="));
  const [, saltText, iterations] = SALT_AND_ITERATIONS.exec(serverFirst)!;
  const salted = pbkdf2Sync(
    saslPrep(password),
    Buffer.from(saltText!, "base64"),
    Number(iterations),
    32,
    "sha256",
  );
  const authMessage = `n=,r=${clientNonce},${serverFirst},${withoutProof}`;
  const hmac = (key: Uint8Array, text: string) => createHmac("sha256", key).update(text).digest();
  const signature = hmac(hmac(salted, "Server Key"), authMessage);
  const clientKey = hmac(salted, "Client Key");
  const clientSignature = hmac(createHash("sha256").update(clientKey).digest(), authMessage);
  const proof = Buffer.from(clientFinal.slice(clientFinal.lastIndexOf(",p=") + 3), "base64");
  const knows = proof.every((byte, i) => byte === (clientKey[i]! ^ clientSignature[i]!));
  if (password === CANARY && !knows) throw new Error("The client's proof is wrong");
  return { clientNonce, serverFirst, final: `v=${signature.toString("base64")}`, signature };
}
