import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { consoleLogger, type Logger, silentLogger } from "../../src/logger.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** What reaches the console while the logger is told one thing of each level. */
function consoleCallsOf(logger: Logger): unknown[][] {
  const calls: unknown[][] = [];
  const original = { ...console };
  for (const level of [...LEVELS, "log" as const]) {
    console[level] = (...args: unknown[]) => void calls.push([level, ...args]);
  }
  try {
    for (const level of LEVELS) logger[level](`a ${level}`, 1, { two: 2 });
  } finally {
    Object.assign(console, original);
  }
  return calls;
}

test("by default warnings and errors reach the console with their details, and nothing else", () => {
  assertEquals(consoleCallsOf(consoleLogger), [
    ["warn", "a warn", 1, { two: 2 }],
    ["error", "a error", 1, { two: 2 }],
  ]);
});

test("logger: false says nothing at all", () => {
  assertEquals(consoleCallsOf(silentLogger), []);
});

test("the console itself is a logger", () => {
  const logger: Logger = console;
  assertEquals(consoleCallsOf(logger).length, LEVELS.length);
});
