/** Why a server lets nobody in: errors of the start-up are all fatal, and say for themselves what is wrong. */
import { PostgresError, type ServerMessage } from "./postgres_error.ts";

/**
 * An error of the start-up, with a way to get in where its words tell one.
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
