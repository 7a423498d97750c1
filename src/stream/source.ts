/** Where a run of a stream has its connections from: a server, or what takes a server's place. */
import type { ChangeEvent, LogicalMessage } from "../change.ts";
import type { Logger } from "../logger.ts";
import type { Connector } from "../wire/connector.ts";
import type { Session, SessionOptions } from "./session.ts";

/** What a run needs of a stream that is open. */
export type OpenSession = Pick<
  Session,
  | "receivedLsn"
  | "confirmedLsn"
  | "waitingBytes"
  | "ask"
  | "confirm"
  | "follow"
  | "close"
  | "break"
  | "discard"
>;

/** Opens a stream; see `Session.open`. */
export type OpenStream = (options: SessionOptions, signal: AbortSignal) => Promise<OpenSession>;

/** What takes a server's place for one stream. */
export interface Source {
  /** Instead of a session with a server. */
  open: OpenStream;
  /** For all that only a server can do. @param logger the stream's */
  connector: (logger: Logger) => Connector;
  /** Instead of waiting before a handler is called again. */
  pause: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Called for each event and each message that is done. @param skipped true where it was given up */
  onSettled: (event: ChangeEvent | LogicalMessage, skipped: boolean) => void;
}
