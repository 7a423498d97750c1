/** The base of every error that this library throws; each room derives its own class from it. */

/** What an error is made of, beside its message. */
export interface PgStreamErrorOptions {
  /** For programs, e.g. `"slot-in-use"`. Kinds are kebab-case and stable. */
  kind: string;
  /** The way out, for people: the statement to run, the option to set. */
  hint?: string;
  /** True where the same call may succeed later with nothing changed. Default: false. */
  retryable?: boolean;
  /** What was caught. Never holds a password. */
  cause?: unknown;
}

/** An error with a `kind` that programs can branch on and a `hint` that says what to do. */
export class PgStreamError extends Error {
  /** `"PgStreamError"`, or the name of the derived class. */
  override name: string = "PgStreamError";
  /** For programs, e.g. `"slot-in-use"`, `"publication-missing"`, `"handler-failed"`. */
  readonly kind: string;
  /** The way out, for people: the statement to run, the option to set. The message ends with it. */
  declare readonly hint?: string;
  /** The message without the hint. */
  declare readonly summary: string;
  /** True where the same call may succeed later with nothing changed. */
  readonly retryable: boolean;

  /** An error whose message names the thing, followed by the way out, which is `options.hint`. */
  constructor(message: string, options: PgStreamErrorOptions) {
    const { kind, hint, cause } = options;
    // Whoever prints an error prints its message; of the rest, some runtimes and loggers show nothing.
    super(
      hint === undefined ? message : `${message}. ${hint}`,
      cause === undefined ? {} : { cause },
    );
    this.kind = kind;
    // Not enumerable: whoever prints the fields too would print the same words again.
    Object.defineProperty(this, "summary", { value: message });
    if (hint !== undefined) Object.defineProperty(this, "hint", { value: hint });
    this.retryable = options.retryable ?? false;
  }
}

/**
 * True where trying the same thing again may help: a lost connection, a server that is starting,
 * a slot that another session is about to let go. Errors of other libraries are not retryable.
 */
export function isRetryable(error: unknown): boolean {
  return error instanceof PgStreamError && error.retryable;
}
