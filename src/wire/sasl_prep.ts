/**
 * SASLprep as PostgreSQL applies it to passwords (RFC 4013; `pg_saslprep` in the server).
 *
 * A text that SASLprep forbids is used as it is, as the server does. Code points that Unicode 3.2
 * had not assigned are forbidden too; they are recognised here by plane, which is exact for all but
 * texts that mix younger characters of the basic plane with ones that normalization changes.
 */

// deno-lint-ignore no-control-regex
const ASCII = /^[\x00-\x7f]*$/;
// RFC 3454 C.1.2 and B.1.
const OTHER_SPACES = /[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000]/gu;
const MAPPED_TO_NOTHING =
  /\u00ad|\u034f|\u1806|[\u180b-\u180d]|\u200c|\u200d|\u2060|[\ufe00-\ufe0f]|\ufeff/gu;
// RFC 3454 C.2.1, C.2.2, C.3 to C.9.
const PROHIBITED = new RegExp(
  "[" + [
    "\\0-\\x1f\\x7f-\\x9f", // controls
    "\\u0340\\u0341\\u06dd\\u070f\\u180e\\u200c-\\u200f\\u2028-\\u202e\\u2060-\\u2063\\u206a-\\u206f",
    "\\u2ff0-\\u2ffb\\ufeff\\ufff9-\\ufffd",
    "\\u{1d173}-\\u{1d17a}\\u{e0001}\\u{e0020}-\\u{e007f}",
    "\\p{Private_Use}\\p{Surrogate}\\p{Noncharacter_Code_Point}\\p{Unassigned}",
  ].join("") + "]",
  "u",
);
// Beyond the basic plane Unicode 3.2 knew Old Italic, Gothic, Deseret, music, mathematical letters
// and CJK ideographs.
const YOUNGER_THAN_3_2 =
  /[^\0-\uffff\u{10300}-\u{1034a}\u{10400}-\u{1044d}\u{1d000}-\u{1d7ff}\u{20000}-\u{2a6d6}\u{2f800}-\u{2fa1d}]/u;
const RIGHT_TO_LEFT = /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}]/u;
const LEFT_TO_RIGHT =
  /(?![\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}])\p{L}/u;

/**
 * Prepares a password.
 *
 * @example
 * ```ts
 * saslPrep("I\u00adX"); // "IX"
 * saslPrep("\u2168"); // "IX"
 * ```
 */
export function saslPrep(password: string): string {
  if (ASCII.test(password)) return password;
  const prepared = password.replace(OTHER_SPACES, " ").replace(MAPPED_TO_NOTHING, "").normalize(
    "NFKC",
  );
  if (prepared === "" || PROHIBITED.test(prepared) || YOUNGER_THAN_3_2.test(prepared)) {
    return password;
  }
  return isBidiAllowed(prepared) ? prepared : password;
}

/** RFC 3454 section 6: right-to-left text begins and ends so, with no left-to-right letter in it. */
function isBidiAllowed(text: string): boolean {
  if (!RIGHT_TO_LEFT.test(text)) return true;
  const characters = [...text];
  return !LEFT_TO_RIGHT.test(text) && RIGHT_TO_LEFT.test(characters[0]!) &&
    RIGHT_TO_LEFT.test(characters.at(-1)!);
}
