import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import { ReplicationError } from "../../../src/replication/errors.ts";
import { checkSupported, pluginOptionsSql } from "../../../src/replication/plugin_options.ts";
import type { PgOutputOptions } from "../../../src/replication/stream_options.ts";

function serverOf(major: number) {
  return {
    serverVersion: major * 10_000 + 4,
    parameters: new Map([["server_version", `${major}.4`]]),
  };
}

describe("what pgoutput is asked for", () => {
  const asked: [PgOutputOptions, string][] = [
    [{}, "proto_version '1'"],
    [
      { streaming: false, twoPhase: false, messages: false, binary: false, origin: "any" },
      "proto_version '1'",
    ],
    [{ protocolVersion: 4 }, "proto_version '4'"],
    [{ messages: true }, "proto_version '1', messages 'on'"],
    [{ binary: true, origin: "none" }, "proto_version '1', origin 'none', binary 'on'"],
    [{ streaming: true }, "proto_version '2', streaming 'on'"],
    [{ streaming: true, protocolVersion: 3 }, "proto_version '3', streaming 'on'"],
    [{ streaming: true, twoPhase: true }, "proto_version '3', streaming 'on', two_phase 'on'"],
    [{ streaming: "parallel" }, "proto_version '4', streaming 'parallel'"],
  ];
  for (const [options, sql] of asked) {
    test(`${JSON.stringify(options)} is the least protocol that has it`, () => {
      assertEquals(pluginOptionsSql(options), sql);
    });
  }

  const refused: [object, RegExp][] = [
    [{ streaming: true, protocolVersion: 1 }, /^streaming: true needs protocol 2, and .* is 1\./],
    [{ twoPhase: true, protocolVersion: 2 }, /^twoPhase: true needs protocol 3, and .* is 2\./],
    [{ streaming: "parallel", protocolVersion: 3 }, /^streaming: "parallel" needs protocol 4/],
    [{ protocolVersion: 0 }, /^protocolVersion cannot be 0\. It is one of 1, 2, 3, 4\./],
    [{ protocolVersion: "2" }, /^protocolVersion cannot be "2"/],
    [{ streaming: "on" }, /^streaming cannot be "on"\. It is one of false, true, "parallel"\./],
    [{ origin: "', x '" }, /^origin cannot be "', x '"/],
    [{ messages: 1 }, /^messages cannot be 1/],
    [{ binary: null }, /^binary cannot be null/],
    [{ twoPhase: () => {} }, /^twoPhase cannot be function/],
  ];
  for (const [options, message] of refused) {
    test(`${JSON.stringify(options)}: ${message.source}`, () => {
      const error = assertThrows(() => pluginOptionsSql(options), ReplicationError);
      assertEquals(error.kind, "invalid-option");
      assertMatch(error.message, message);
    });
  }
});

describe("a server that is too old is told apart from one that is not", () => {
  const needs: [PgOutputOptions, string, number][] = [
    [{ protocolVersion: 2 }, "protocolVersion: 2", 14],
    [{ protocolVersion: 3 }, "protocolVersion: 3", 15],
    [{ protocolVersion: 4 }, "protocolVersion: 4", 16],
    [{ streaming: true }, "streaming: true", 14],
    [{ streaming: "parallel" }, 'streaming: "parallel"', 16],
    [{ twoPhase: true }, "twoPhase: true", 15],
    [{ messages: true }, "messages: true", 14],
    [{ binary: true }, "binary: true", 14],
    [{ origin: "none" }, 'origin: "none"', 16],
  ];
  for (const [options, option, major] of needs) {
    test(`${option} needs PostgreSQL ${major}`, () => {
      checkSupported(options, serverOf(major));
      const error = assertThrows(
        () => checkSupported(options, serverOf(major - 1)),
        ReplicationError,
        `needs PostgreSQL ${major}, and the server is PostgreSQL ${major - 1}.4. `,
      );
      assertStringIncludes(error.message, option);
      assertEquals([error.kind, error.retryable], ["not-supported", false]);
    });
  }

  test("what is off by default needs nothing", () => {
    const off = { protocolVersion: 1, streaming: false, messages: false, origin: "any" } as const;
    checkSupported(off, serverOf(10));
  });
});
