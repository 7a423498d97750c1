/** Where the library says what it does. `console` is a `Logger`. */
export interface Logger {
  /** Details for someone who looks for a fault. */
  debug(message: string, ...details: unknown[]): void;
  /** What happens in normal work: connected, created, stopped. */
  info(message: string, ...details: unknown[]): void;
  /** What should be looked at, though work goes on. */
  warn(message: string, ...details: unknown[]): void;
  /** What stops the work. */
  error(message: string, ...details: unknown[]): void;
}

function nothing(): void {}

/** Says nothing. */
export const silentLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: nothing,
  error: nothing,
};

/** The default: warnings and errors to the console, nothing else. */
export const consoleLogger: Logger = {
  debug: nothing,
  info: nothing,
  warn: (message, ...details) => console.warn(message, ...details),
  error: (message, ...details) => console.error(message, ...details),
};
