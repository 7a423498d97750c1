/** Why there is no connection: the server lets us in no further, or we tell it no more. */
import { type Address, formatAddress } from "../transport/transport.ts";
import type { Login } from "./authentication.ts";
import { notBound } from "./channel_binding.ts";
import { WireError } from "./errors.ts";
import type { AuthMethod } from "./options.ts";
import { PostgresError, type ServerMessage } from "./postgres_error.ts";
import { SCRAM_SHA_256_PLUS } from "./scram.ts";

/**
 * An error of the server's, all of which are fatal here, with a way to get in where its words tell one.
 *
 * @param told a secret that the server may repeat.
 */
export function refusal(response: ServerMessage, told: string | null): PostgresError {
  let shown = response;
  if (told !== null) {
    const hidden = Object.entries(response).map(([name, value]) => [
      name,
      typeof value === "string" ? value.replaceAll(told, "…") : value,
    ]);
    shown = Object.fromEntries(hidden) as unknown as ServerMessage;
  }
  const { message } = shown;
  const [, , hint = shown.hint] =
    REFUSALS.find(([words, ends]) =>
      message.includes(words) && ends.some((end) => message.endsWith(end))
    ) ?? [];
  return new PostgresError({ ...shown, ...(hint === undefined ? {} : { hint }) });
}

/**
 * What of the server's words tells how to get in, and what they end in; in another language they tell nothing. No
 * patterns: on a million words of a stranger's one of these could take minutes.
 */
const REFUSALS: readonly (readonly [words: string, ends: readonly string[], hint: string])[] = [
  [
    "pg_hba.conf ",
    ["no encryption", "SSL off"],
    "Try sslmode=require: pg_hba.conf may let this user in with encryption only.",
  ],
  [
    "pg_hba.conf ",
    ["SSL encryption", "SSL on"],
    "Check user and database; else try sslmode=disable, in a network that you trust: pg_hba.conf " +
    "may let this user in without encryption only.",
  ],
  [
    "SCRAM channel binding",
    [""],
    "What the server sent is not what arrived here, or the other way round: somebody is in between.",
  ],
];

/** The error for what the server asks of us, or lets us in without, against the options. */
export function methodRefused(method: AuthMethod, { requireAuth, link }: Login): WireError {
  const does = method === "none" ? "lets us in without asking" : `asks for ${METHODS[method]}`;
  if (requireAuth?.includes(method) === false) {
    return new WireError(
      `The server at ${formatAddress(link.address)} ${does}, and require_auth is ${
        requireAuth.join(",")
      }`,
      {
        kind: "authentication-not-allowed",
        hint: method === "none"
          ? "Let pg_hba.conf ask for scram-sha-256; where it asks for a certificate, add none."
          : "Someone may be answering in the server's place; else let pg_hba.conf ask for " +
            "scram-sha-256.",
      },
    );
  }
  return notBound(
    `the server at ${formatAddress(link.address)} ${does}`,
    "Someone may be answering in the server's place; else let pg_hba.conf ask for scram-sha-256.",
  );
}

/** The error for a server that ties no proof to the connection. */
export function bindingRefused(address: Address): WireError {
  return notBound(
    `the server at ${formatAddress(address)} does not offer ${SCRAM_SHA_256_PLUS}`,
    "PostgreSQL does since 11. A pooler, or someone, may be answering in its place.",
  );
}

const METHODS: Readonly<Record<Exclude<AuthMethod, "none">, string>> = {
  "password": "the password in the clear",
  "md5": "md5",
  "scram-sha-256": "SCRAM-SHA-256",
};
