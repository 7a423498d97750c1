import { PgStreamError } from "../errors.ts";

/** Where decoding stopped. */
export interface DecodeErrorOptions {
  /** Byte1 of the message as a character; null for a message of no bytes. */
  messageType: string | null;
  /** Bytes of the message that had been read. */
  offset: number;
  /** The way out. */
  hint: string;
  /** What was caught. */
  cause?: unknown;
}

/**
 * Bytes that are not a message of pgoutput, or one that its decoder cannot place: `kind` is
 * `"decode"`. Its text tells offsets and lengths, never a value of a row. Trying the same bytes
 * again cannot help; what was decoded before stays valid.
 */
export class DecodeError extends PgStreamError {
  /** `"DecodeError"` */
  override name: string = "DecodeError";
  /** Byte1 of the message as a character, e.g. `"I"` for Insert; null for a message of no bytes. */
  readonly messageType: string | null;
  /** Bytes of the message that had been read when it failed. */
  readonly offset: number;

  /** Made by the decoder. @param reason what is wrong, as the end of a sentence. */
  constructor(reason: string, options: DecodeErrorOptions) {
    const { messageType, offset, hint, cause } = options;
    super(
      `Cannot decode pgoutput message ${JSON.stringify(messageType)} at byte ${offset}: ${reason}`,
      { kind: "decode", hint, cause },
    );
    this.messageType = messageType;
    this.offset = offset;
  }
}

/**
 * A transaction that cannot be put together from its parts: `kind` is `"stream-too-large"`, or
 * `"stream-order"` where messages came that no server sends in that order; `"invalid-option"` of the assembler's own.
 */
export class AssemblyError extends PgStreamError {
  /** `"AssemblyError"` */
  override name: string = "AssemblyError";
}
