/**
 * SCRAM-SHA-256 and SCRAM-SHA-256-PLUS as a client, without a socket: texts in, texts out.
 * https://www.postgresql.org/docs/current/sasl-authentication.html, RFC 5802, RFC 7677
 */
import { WireError } from "./errors.ts";

/** The mechanism's name. */
export const SCRAM_SHA_256 = "SCRAM-SHA-256";
/** The same, with the proof tied to the TLS connection. */
export const SCRAM_SHA_256_PLUS = "SCRAM-SHA-256-PLUS";

/**
 * More iterations than this are refused: the server chooses the count before it has proved
 * anything, and a million take up to a third of a second here. PostgreSQL's default is 4096.
 */
export const MAX_SCRAM_ITERATIONS = 1_000_000;

const NONCE_BYTES = 18;

const SERVER_FIRST = /^r=([\x21-\x2b\x2d-\x7e]+),s=([A-Za-z0-9+/]+={0,2}),i=([1-9][0-9]{0,9})$/;
const SERVER_FINAL = /^(?:v=([A-Za-z0-9+/]+={0,2})|e=([^,]*))(?:,.*)?$/s;

const encoder = new TextEncoder();

/**
 * What the exchange says of the TLS connection: the data that it is bound to (`tls-server-end-point`);
 * `"not-offered"`: it could be bound, but the server did not offer it, so that a server which did learns
 * that somebody took it away; `"none"`: there is nothing to bind it to, or it is not wanted.
 */
export type ScramBinding = Uint8Array | "not-offered" | "none";

/** A random client nonce: 24 characters of base64. */
export function randomScramNonce(): string {
  return encodeBase64(crypto.getRandomValues(new Uint8Array(NONCE_BYTES)));
}

/**
 * One exchange: `clientFirst()`, `clientFinal()`, `verifyServerFinal()`, in this
 * order. Only after the last has returned is the server known to know the password.
 */
export class ScramExchange {
  readonly #password: string;
  readonly #nonce: string;
  readonly #user: string;
  readonly #gs2Header: string;
  /** `c=` of the final message. */
  readonly #channelBinding: string;
  #state: "first" | "final" | "verify" | "verified" | "failed" = "first";
  #serverSignature: Uint8Array<ArrayBuffer> | null = null;
  #iterations = 0;

  /**
   * Begins an exchange.
   *
   * @param password as the user has it; SASLprep is applied to it.
   * @param nonce printable ASCII without a comma, fresh for each exchange.
   * @param binding bytes make it a SCRAM-SHA-256-PLUS exchange.
   * @param user none as a rule: Postgres takes that of the start-up. Without `=` and `,`.
   */
  constructor(password: string, nonce: string, binding: ScramBinding = "none", user = "") {
    this.#password = password;
    this.#nonce = nonce;
    this.#user = user;
    const bound = typeof binding !== "string";
    this.#gs2Header = bound
      ? "p=tls-server-end-point,,"
      : binding === "not-offered"
      ? "y,,"
      : "n,,";
    const data = bound ? binding : [];
    this.#channelBinding = encodeBase64(
      Uint8Array.from([...encoder.encode(this.#gs2Header), ...data]),
    );
  }

  /** True once the server's signature was found right. */
  get verified(): boolean {
    return this.#state === "verified";
  }

  /** The iteration count that the server asked for; 0 until it has. */
  get iterations(): number {
    return this.#iterations;
  }

  /** client-first-message. */
  clientFirst(): string {
    this.#advance("first", "final");
    return this.#gs2Header + this.#clientFirstBare();
  }

  /**
   * client-final-message.
   *
   * @param serverFirst the server's `r=…,s=…,i=…`.
   * @throws {WireError} `"authentication"` where the nonce is not ours continued, the salt or the
   * count does not parse, or the count is above {@linkcode MAX_SCRAM_ITERATIONS}.
   */
  async clientFinal(serverFirst: string): Promise<string> {
    this.#advance("final", "failed");
    const match = SERVER_FIRST.exec(serverFirst);
    if (match === null) throw failure("its first message does not parse");
    const [, nonce, saltText, iterationsText] = match as unknown as [
      string,
      string,
      string,
      string,
    ];
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw failure("its nonce does not continue ours");
    }
    const salt = decodeBase64(saltText);
    const iterations = Number(iterationsText);
    if (iterations > MAX_SCRAM_ITERATIONS) {
      throw failure(
        `it asks for ${iterations} iterations, more than ${MAX_SCRAM_ITERATIONS}`,
        "Lower scram_iterations on the server and set the password again.",
      );
    }
    this.#iterations = iterations;

    const saltedPassword = await pbkdf2(await prepared(this.#password), salt, iterations);
    const clientKey = await hmac(saltedPassword, "Client Key");
    const storedKey = new Uint8Array(await crypto.subtle.digest("SHA-256", clientKey));
    const withoutProof = `c=${this.#channelBinding},r=${nonce}`;
    const authMessage = `${this.#clientFirstBare()},${serverFirst},${withoutProof}`;
    const clientSignature = await hmac(storedKey, authMessage);
    const proof = clientKey.map((byte, i) => byte ^ clientSignature[i]!);
    this.#serverSignature = await hmac(await hmac(saltedPassword, "Server Key"), authMessage);
    this.#state = "verify";
    return `${withoutProof},p=${encodeBase64(proof)}`;
  }

  /**
   * Checks the server's signature, in a time that does not depend on where it is wrong.
   *
   * @param serverFinal the server's `v=…`, or its `e=…`.
   * @throws {WireError} `"authentication"` where the server reports an error or its signature is
   * wrong.
   */
  verifyServerFinal(serverFinal: string): void {
    this.#advance("verify", "failed");
    const match = SERVER_FINAL.exec(serverFinal);
    if (match === null) throw failure("its final message does not parse");
    const [, signature, error] = match;
    if (signature === undefined) throw failure(`it reports "${error}"`);
    if (!equalBytes(decodeBase64(signature), this.#serverSignature!)) {
      throw failure(
        "its signature is wrong: it does not know the password",
        "Someone may be answering in the server's place. Check the address.",
      );
    }
    this.#state = "verified";
  }

  #clientFirstBare(): string {
    return `n=${this.#user},r=${this.#nonce}`;
  }

  #advance(from: string, to: "final" | "failed"): void {
    if (this.#state !== from) throw failure("its messages came out of order");
    this.#state = to;
  }
}

function failure(what: string, hint?: string, cause?: unknown): WireError {
  return new WireError(`Cannot authenticate the server by SCRAM-SHA-256: ${what}`, {
    kind: "authentication",
    cause,
    ...(hint === undefined ? {} : { hint }),
  });
}

/** SASLprep leaves ASCII as it is. */
async function prepared(password: string): Promise<string> {
  // deno-lint-ignore no-control-regex
  if (/^[\x00-\x7f]*$/.test(password)) return password;
  const { saslPrep } = await import("./sasl_prep.ts");
  return saslPrep(password);
}

async function pbkdf2(
  password: string,
  salt: Uint8Array<ArrayBuffer>,
  iterations: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const key = await crypto.subtle.importKey("raw", encoder.encode(password), "PBKDF2", false, [
    "deriveBits",
  ]);
  const algorithm = { name: "PBKDF2", hash: "SHA-256", salt, iterations };
  try {
    return new Uint8Array(await crypto.subtle.deriveBits(algorithm, key, 256));
  } catch (error) {
    // Workers allow 100,000.
    throw failure(`this runtime refuses ${iterations} iterations`, undefined, error);
  }
}

async function hmac(key: Uint8Array<ArrayBuffer>, text: string): Promise<Uint8Array<ArrayBuffer>> {
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const imported = await crypto.subtle.importKey("raw", key, algorithm, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", imported, encoder.encode(text)));
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= a[i]! ^ b[i]!;
  return difference === 0;
}

function encodeBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    throw failure("it sent base64 that does not parse");
  }
}
