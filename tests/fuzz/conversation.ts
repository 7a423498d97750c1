/** One connection to a server that says something wrong: how it is made, and what must come of it. */
import { Connection } from "../../src/wire/connection.ts";
import type { ConnectionOptions } from "../../src/wire/options.ts";
import { recordedCertificate } from "../support/recorded_certificate.ts";
import { concat, int32, msg, say } from "../support/scripted_server.ts";
import { type Character, InProcessServer, type Method } from "./in_process_server.ts";
import { type Dice, NOISE } from "./dice.ts";
import type { Stage } from "./target.ts";
import { Finding, hex } from "./tally.ts";

/** Must be seen nowhere; found by its first letters. */
export const PASSWORD = "canary-Zq7 w";
const MARK = "canary-Zq7";
const USER = "app";
/** Where a server says nothing. */
const TIMEOUT_MS = 5;

/** What there is to be. */
export interface Scene {
  method: Method;
  requireAuth?: ConnectionOptions["requireAuth"];
  /** What is asked once the connection is there. Default: nothing. */
  use?: (connection: Connection) => Promise<unknown>;
  answers?: readonly Uint8Array[][];
  targetSessionAttrs?: ConnectionOptions["targetSessionAttrs"];
}

const REFUSALS = [
  'no pg_hba.conf entry for host "127.0.0.1", user "app", database "db", no encryption',
  'password authentication failed for user "app"',
  "SCRAM channel binding check failed",
  "sorry, too many clients already",
];
/** Below what a message of the start-up may have. */
const LONGEST_REFUSAL = 1_000_000;

/** One of them, or one or two of its words again and again: no words of a stranger may take long. */
function refusalOf(dice: Dice): string {
  const refusal = dice.pick(REFUSALS);
  if (dice.chance(0.5)) return refusal;
  const words = refusal.split(" ");
  const from = dice.below(words.length);
  const piece = `${words.slice(from, from + dice.between(1, 2)).join(" ")} `;
  return piece.repeat(dice.size(LONGEST_REFUSAL / piece.length)) + dice.pick(["", refusal, "\n"]);
}

const EXTRA = [
  say.notice("a notice"),
  say.parameter("TimeZone", "UTC"),
  say.parameter("in_hot_standby", "off"),
  say.parameter("default_transaction_read_only", "off"),
];

/** What may come in place of something else. */
const OTHERS = [
  say.authenticationOk,
  say.cleartext,
  msg("R", int32(5), [1, 2, 3, 4]),
  say.sasl("SCRAM-SHA-256"),
  say.saslContinue("r=a,s=AAAA,i=1"),
  say.saslFinal("v=AAAA"),
  say.error("FATAL", "57P03", "the database system is starting up"),
  say.key,
  say.ready,
];

/** Connects, and judges what comes of it. */
export async function converse(stage: Stage, scene: Scene): Promise<void> {
  const { dice, mutator, tally } = stage;
  const wrong = dice.pick([0, 0.1, 0.3]);
  let altered = false;
  const alter = (message: Uint8Array): Uint8Array => {
    if (wrong === 0 || !dice.chance(wrong)) return message;
    altered = true;
    // Missing, twice, or another one in its place: whole messages, but not in their order.
    switch (dice.below(10)) {
      case 0:
        return new Uint8Array(0);
      case 1:
        return concat([message, message]);
      case 2:
        return dice.pick(OTHERS);
      case 3:
        return concat([dice.pick(OTHERS), message]);
    }
    const other = dice.chance(0.5) ? message : dice.pick(EXTRA);
    return mutator.alterFrame(message, other).view.slice();
  };
  const mode = dice.pick(["disable", "prefer", "require"] as const);
  const character: Character = {
    method: scene.method,
    password: dice.chance(0.9) ? PASSWORD : null,
    encrypts: mode !== "prefer" || dice.chance(0.5),
    certificate: dice.chance(0.2)
      ? mutator.take(recordedCertificate).mutate(NOISE.subarray(0, 200)).view.slice()
      : dice.pick([recordedCertificate, null]),
    stalls: dice.chance(0.02),
    refusal: refusalOf(dice),
    extra: EXTRA.filter(() => dice.chance(0.3)),
    answers: scene.answers ?? [],
    alter,
  };
  const servers: InProcessServer[] = [];
  const options: ConnectionOptions = {
    hosts: [{ host: "127.0.0.1", port: 5432 }],
    user: USER,
    password: PASSWORD,
    database: "db",
    applicationName: "pgstream",
    connectTimeoutMs: character.stalls ? TIMEOUT_MS : 5000,
    ssl: { mode, negotiation: dice.chance(0.9) ? "postgres" : "direct", sni: true },
    channelBinding: dice.chance(0.9) ? "prefer" : "require",
    targetSessionAttrs: scene.targetSessionAttrs ?? "any",
    loadBalanceHosts: "disable",
    ...(scene.requireAuth === undefined ? {} : { requireAuth: scene.requireAuth }),
  };
  tally.begin(0);
  let connection: Connection | null = null;
  let failure: unknown = null;
  const warnings: string[] = [];
  try {
    connection = await Connection.connect(options, {
      connect: () => {
        const server = new InProcessServer(character, dice);
        servers.push(server);
        return Promise.resolve(server);
      },
      warnOnce: (message) => warnings.push(message),
    });
    tally.messages++;
    // A statement waits for as long as it takes.
    if (!character.stalls) await scene.use?.(connection);
  } catch (error) {
    failure = error;
  } finally {
    await connection?.close();
  }
  for (const { sent } of servers) for (const bytes of sent) tally.bytes += bytes.length;
  const what = () => servers.map(({ sent }) => sent.map(hex).join(" ")).join(" / ");
  if (failure !== null) {
    tally.refuse(failure);
    if (showsPassword(failure)) throw new Finding(`The password is in ${failure}: ${what()}`);
  }
  if (warnings.some((warning) => warning.includes(MARK))) {
    throw new Finding("A warning with the password");
  }
  if (servers.some(({ closed }) => !closed)) {
    throw new Finding(`A connection stays open: ${what()}`);
  }
  if (connection !== null && scene.requireAuth?.[0] === "scram-sha-256") expectProof(servers, what);
  if (failure !== null && !altered && expectedToWork(character, options, scene)) {
    throw new Finding(`Nothing was wrong, and it failed: ${failure}: ${what()}`);
  }
}

/** That what was sent in the end holds what only the right server can say. */
function expectProof(servers: readonly InProcessServer[], what: () => string): void {
  const proven = servers.some(({ proof, sent }) => {
    if (proof === null) return false;
    const text = sent.map((bytes) => Buffer.from(bytes).toString("latin1")).join("");
    // 43 characters of base64 are its 32 bytes; what stands behind them may be of the next message.
    const signatures = [...text.matchAll(/v=([A-Za-z0-9+/]{43})/g)].map(([, found]) => found!);
    return text.includes(proof.serverFirst) &&
      signatures.some((found) => Buffer.from(found, "base64").equals(proof.signature));
  });
  if (!proven) throw new Finding(`Connected to a server that proved nothing: ${what()}`);
}

function expectedToWork(
  { method, password, stalls, certificate, encrypts }: Character,
  { channelBinding, ssl }: ConnectionOptions,
  { answers, targetSessionAttrs = "any" }: Scene,
): boolean {
  if (channelBinding === "require" || ssl.negotiation === "direct" || !encrypts) return false;
  if (certificate !== null && certificate !== recordedCertificate) return false;
  return method !== "refuse" && password !== null && !stalls && answers === undefined &&
    targetSessionAttrs === "any";
}

function showsPassword(failure: unknown): boolean {
  for (let error = failure; error instanceof Error; error = error.cause) {
    const { message, hint = "" } = error as Error & { hint?: string };
    if (message.includes(MARK) || hint.includes(MARK)) return true;
  }
  return false;
}
