import { assertEquals } from "@std/assert";
import { test } from "node:test";
import { parsePasswordFile } from "../../../src/wire/password_file.ts";

const key = { host: "h", port: 5432, database: "d", user: "u" };

test("the first line that fits has the password, and a star fits everything", () => {
  const table: [string, string | undefined][] = [
    ["h:5432:d:u:secret", "secret"],
    ["*:*:*:*:secret", "secret"],
    ["x:*:*:*:no\nh:5433:*:*:no\nh:*:x:*:no\nh:*:*:x:no\nh:*:*:u:yes\n*:*:*:*:late", "yes"],
    ["x:5432:d:u:secret", undefined],
    ["h:543:d:u:secret", undefined],
    ["H:5432:d:u:secret", undefined],
    ["", undefined],
    ["h:5432:d:secret", undefined],
    ["# a comment\n#h:5432:d:u:no\nh:5432:d:u:yes\n", "yes"],
    ["h:5432:d:u:yes\r\n", "yes"],
    // As libpq: a colon ends the password too, and spaces count.
    ["h:5432:d:u:a:b", "a"],
    ["h:5432:d:u: a ", " a "],
    ["h:5432:d:u:a\\:b\\\\c", "a:b\\c"],
    ["h:5432:d:u:a\\", "a\\"],
    [" h:5432:d:u:no", undefined],
    // The first line that fits is the last that is looked at.
    ["h:5432:d:u:\nh:5432:d:u:no", undefined],
    ["h*:5432:d:u:no", undefined],
    ["\\*:5432:d:u:no", undefined],
  ];
  for (const [text, password] of table) {
    assertEquals(parsePasswordFile(text)(key), password, text);
  }
});

test("colons, backslashes and stars in a field are escaped", () => {
  const find = parsePasswordFile("\\:\\:1:*:a\\\\b:u\\:v:secret\n\\*:*:*:*:star\n");
  assertEquals(find({ host: "::1", port: 1, database: "a\\b", user: "u:v" }), "secret");
  assertEquals(find({ host: "::1", port: 1, database: "a\\\\b", user: "u:v" }), undefined);
  assertEquals(find({ host: "*", port: 1, database: "d", user: "u" }), "star");
});

test("a unix socket is found by its folder, and as localhost", () => {
  const socket = { ...key, host: "/run/postgresql" };
  assertEquals(parsePasswordFile("/run/postgresql:*:*:*:folder")(socket), "folder");
  assertEquals(parsePasswordFile("localhost:*:*:*:local")(socket), "local");
  assertEquals(parsePasswordFile("localhost:*:*:*:local")(key), undefined);
  assertEquals(parsePasswordFile("localhost:*:*:*:a")({ ...key, host: "localhost" }), "a");
});
