import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { test } from "node:test";
import { WireError } from "../../../src/wire/errors.ts";
import { parseService, readService } from "../../../src/wire/service_file.ts";

const FILE = `
# services
[one]
host=h
  port = 6000
# a comment
password= x = y
host=late

[two]\r
host=b\r
[one]
user=late
`;

test("a service has the parameters between its name and the next one", () => {
  const one = parseService(FILE, "one", "f");
  assertEquals(Object.fromEntries(one!), { host: "h", port: " 6000", password: " x = y" });
  assertEquals(Object.fromEntries(parseService(FILE, "two", "f")!), { host: "b" });
  assertEquals(parseService(FILE, "on", "f"), undefined);
  assertEquals(parseService("host=h", "one", "f"), undefined);
  assertEquals(parseService("[one]", "one", "f")?.size, 0);
});

test("a service file that cannot be read is an error with its line, and nothing that it says", () => {
  for (const line of ["canary", "service=canary", "servicefile = canary", "ldap://canary"]) {
    const text = `[other]\nnonsense\n[one]\nhost=canary\n${line}\n`;
    const error = assertThrows(() => parseService(text, "one", "/f"), WireError, undefined, line);
    assertEquals(error.kind, "invalid-dsn");
    assert(error.message.includes('Line 5 of the service file "/f"'), error.message);
    assertFalse(error.message.includes("canary"));
    // It is nobody else's business.
    assertEquals(parseService(`${text}[two]`, "two", "/f")?.size, 0);
  }
});

test("the named file is looked into, or the user's own, and then the one for all", () => {
  const files: Record<string, string> = {
    "/home/me/.pg_service.conf": "[a]\nhost=own\n",
    "/etc/pg/pg_service.conf": "[a]\nhost=all\n[b]\nhost=all\n",
    "/named": "[a]\nhost=named\n",
    "C:\\me/postgresql/.pg_service.conf": "[a]\nhost=windows\n",
  };
  const env = { HOME: "/home/me", PGSYSCONFDIR: "/etc/pg" };
  const host = (service: string, named?: string, variables: Record<string, string> = env) =>
    readService(
      service,
      named,
      variables,
      (path) =>
        files[path] === undefined
          ? { reason: "it does not exist" }
          : { text: files[path], mode: 0o644, uid: 0 },
    ).get("host");
  assertEquals(host("a"), "own");
  assertEquals(host("b"), "all");
  assertEquals(host("a", "/named"), "named");
  assertEquals(host("b", "/named"), "all");
  assertEquals(host("b", undefined, { HOME: "/gone", PGSYSCONFDIR: "/etc/pg" }), "all");
  assertEquals(host("a", undefined, { APPDATA: "C:\\me" }), "windows");

  const missing = assertThrows(() => host("c"), WireError);
  assertEquals(missing.kind, "invalid-dsn");
  assert(missing.message.includes('"c"') && missing.message.includes("/home/me/.pg_service.conf"));
  const nowhere = assertThrows(() => host("a", undefined, {}), WireError);
  assert(nowhere.hint?.includes("PGSERVICEFILE"));
  const unread = assertThrows(() => host("a", "/gone"), WireError);
  assertEquals(unread.kind, "file-unreadable");
  assert(unread.message.includes('servicefile "/gone": it does not exist'), unread.message);
});
