/** Which release this is. */

/** As in `deno.json`, which a program that is installed has not. */
export const VERSION = "0.1.0";
