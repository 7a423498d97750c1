/** What somebody who looked found: at a server, a table, a store. */

/** One thing that was looked at. Survives `JSON.stringify`. */
export interface Finding {
  /** What was looked at, for programs: `"wal-level"`, `"replica-identity"`. Kebab-case and stable. */
  check: string;
  /** `ok`: as it should be; `warning`: it works, though not as one might think; `problem`: it does not work. */
  level: "ok" | "warning" | "problem";
  /** Which table, slot, publication or store; null where there is only one. */
  subject: string | null;
  /** What is the case, in a sentence without a full stop. Holds no secret and no value of a row. */
  message: string;
  /** The statement, the setting or the option that mends it. */
  fix?: string;
}
