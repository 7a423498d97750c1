/** Gathers findings. */

import type { Finding } from "../finding.ts";

/** An error of ours, as far as a finding needs it. */
interface Told {
  readonly kind: string;
  readonly summary: string;
  readonly hint?: string;
}

/** What was found, in the order in which it was looked at. */
export class Findings {
  /** All of it. */
  readonly all: Finding[] = [];

  /** It is as it should be. */
  ok(check: string, message: string, subject: string | null = null): void {
    this.all.push({ check, level: "ok", subject, message });
  }

  /** It works, though not as one might think. */
  warning(check: string, message: string, fix: string, subject: string | null = null): void {
    this.all.push({ check, level: "warning", subject, message, fix: withoutRun(fix) });
  }

  /** It does not work. */
  problem(check: string, message: string, fix: string, subject: string | null = null): void {
    this.all.push({ check, level: "problem", subject, message, fix: withoutRun(fix) });
  }

  /** What an error tells, by its kind. */
  error({ kind, summary, hint }: Told, subject: string | null = null): void {
    this.problem(kind, summary, hint ?? "See the server's log", subject);
  }
}

/** The statement alone, so that it can be pasted. */
function withoutRun(fix: string): string {
  const statement = /^Run: (.*;)$/.exec(fix)?.[1];
  return statement ?? fix;
}
