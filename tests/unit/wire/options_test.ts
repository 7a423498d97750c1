import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { test } from "node:test";
import { WireError } from "../../../src/wire/errors.ts";
import { environment } from "../../../src/wire/environment.ts";
import { addressOf, parseConnectionOptions } from "../../../src/wire/options.ts";

const defaults = {
  host: "localhost",
  port: 5432,
  user: "me",
  database: "me",
  applicationName: "pgstream",
  connectTimeoutMs: 10_000,
};

function parse(dsn: string | undefined, env: Record<string, string> = {}) {
  return parseConnectionOptions(dsn, { USER: "me", ...env });
}

test("a URI is read as libpq reads it", () => {
  const table: [string, Record<string, unknown>][] = [
    ["postgres://", {}],
    ["postgresql://localhost", {}],
    ["postgresql:///db", { database: "db" }],
    ["postgresql://h:1/d", { host: "h", port: 1, database: "d" }],
    ["postgresql://u@h/", { user: "u", host: "h", database: "u" }],
    ["postgres://u:p@h:6000/d", {
      user: "u",
      password: "p",
      host: "h",
      port: 6000,
      database: "d",
    }],
    ["postgres://u%40x:p%40%3A%2F%3F%23%25%C3%A9@h/d%20b", {
      user: "u@x",
      password: "p@:/?#%é",
      host: "h",
      database: "d b",
    }],
    ["postgres://u:p:q@h/d", { user: "u", password: "p:q", host: "h", database: "d" }],
    ["postgres://u:p@x@h/d", { user: "u", password: "p@x", host: "h", database: "d" }],
    ["postgres://u:#p@h/d", { user: "u", password: "#p", host: "h", database: "d" }],
    ["postgres://u:@h/d", { user: "u", host: "h", database: "d" }],
    ["postgres://[::1]:6000/d", { host: "::1", port: 6000, database: "d" }],
    ["postgres://[2001:db8::1]/d", { host: "2001:db8::1", database: "d" }],
    ["postgres://%2Fvar%2Frun/d", { host: "/var/run", database: "d" }],
    ["postgres:///d?host=/tmp&port=5433", { host: "/tmp", port: 5433, database: "d" }],
    ["postgres://h?user=a&password=b%26c&dbname=d", {
      host: "h",
      user: "a",
      password: "b&c",
      database: "d",
    }],
    ["postgres://h/d?application_name=my%20app&connect_timeout=3", {
      host: "h",
      database: "d",
      applicationName: "my app",
      connectTimeoutMs: 3000,
    }],
    ["postgres://h/d?fallback_application_name=f", {
      host: "h",
      database: "d",
      applicationName: "f",
    }],
    ["postgres://h/d?options=-c%20statement_timeout%3D5s", {
      host: "h",
      database: "d",
      options: "-c statement_timeout=5s",
    }],
    ["postgres://h/d?connect_timeout=0", { host: "h", database: "d", connectTimeoutMs: 0 }],
    ["postgres://h/d?hostaddr=10.0.0.1", { host: "10.0.0.1", database: "d" }],
  ];
  for (const [dsn, fields] of table) {
    assertEquals<unknown>(parse(dsn).options, { ...defaults, ...fields }, dsn);
  }
});

test("key=value pairs are read as libpq reads them", () => {
  const table: [string, Record<string, unknown>][] = [
    ["host=h port=1 user=u password=p dbname=d", {
      host: "h",
      port: 1,
      user: "u",
      password: "p",
      database: "d",
    }],
    ["  host = h  port= 1 ", { host: "h", port: 1 }],
    ["host='h' password='a b\\'c\\\\d'", { host: "h", password: "a b'c\\d" }],
    ["password=a\\ b\\'c", { password: "a b'c" }],
    ["password='' host=h", { host: "h" }],
    ["password= host=h", { password: "host=h" }],
    ["password=a'b", { password: "a'b" }],
    ["password=a=b", { password: "a=b" }],
    ["host=a host=b", { host: "b" }],
    ["host=/tmp\tdbname=d\n", { host: "/tmp", database: "d" }],
    ["database=d", { database: "d" }],
  ];
  for (const [dsn, fields] of table) {
    assertEquals<unknown>(parse(dsn).options, { ...defaults, ...fields }, dsn);
  }
});

test("the environment fills in what the DSN lacks, and the DSN wins", () => {
  const env = {
    PGHOST: "eh",
    PGPORT: "7",
    PGUSER: "eu",
    PGPASSWORD: "ep",
    PGDATABASE: "ed",
    PGAPPNAME: "ea",
    PGCONNECT_TIMEOUT: "2",
    PGSSLMODE: "disable",
    PGOPTIONS: "-c x=y",
  };
  const fromEnv = {
    host: "eh",
    port: 7,
    user: "eu",
    password: "ep",
    database: "ed",
    applicationName: "ea",
    connectTimeoutMs: 2000,
    options: "-c x=y",
  };
  assertEquals<unknown>(parse(undefined, env), { options: fromEnv, warnings: [] });
  assertEquals<unknown>(parse("host=h", env).options, { ...fromEnv, host: "h" });
  assertEquals<unknown>(parse("postgres://a:b@c:1/d?application_name=e", env).options, {
    ...fromEnv,
    host: "c",
    port: 1,
    user: "a",
    password: "b",
    database: "d",
    applicationName: "e",
  });
});

test("with no DSN, DATABASE_URL is the DSN; with one, it is not looked at", () => {
  const env = { DATABASE_URL: "postgres://u@h/d", PGPORT: "7" };
  assertEquals(parse(undefined, env).options.host, "h");
  assertEquals(parse(undefined, env).options.port, 7);
  assertEquals(parse("postgres://x", env).options.host, "x");
  assertEquals(parse("postgres://x", env).options.user, "me");
});

test("no user at all is an error that says where to put one", () => {
  const error = assertThrows(() => parseConnectionOptions("postgres://h/d", {}), WireError);
  assertEquals(error.kind, "user-missing");
  assert(error.hint?.includes("PGUSER"));
});

test("unknown parameters are dropped with a warning that shows no value", () => {
  const { options, warnings } = parse("postgres://localhost/d?geqo=canary&Weird-name=canary");
  assertEquals<unknown>(options, { ...defaults, database: "d" });
  assertEquals(warnings.length, 2);
  assert(warnings[0]!.includes('"geqo"'));
  assertFalse(warnings.join().includes("canary") || warnings.join().includes("Weird"));
});

test("a parameter called as what every object inherits is unknown like any other", () => {
  for (const name of ["toString", "constructor", "__proto__", "valueOf"]) {
    const { options, warnings } = parse(`postgres://localhost/d?${name}=1`);
    assertEquals(options, { ...defaults, database: "d" }, name);
    assertEquals(warnings.length, 1, name);
  }
});

test("encryption that is asked for and cannot be had is an error", () => {
  for (const sslmode of ["allow", "require", "verify-ca", "verify-full"]) {
    for (const dsn of [`postgres://h/d?sslmode=${sslmode}`, `host=h sslmode=${sslmode}`]) {
      const error = assertThrows(() => parse(dsn), WireError, sslmode);
      assertEquals(error.kind, "tls-unsupported");
    }
    assertThrows(() => parse("postgres://h", { PGSSLMODE: sslmode }), WireError, sslmode);
  }
  assertThrows(() => parse("postgres://h?channel_binding=require"), WireError, "channel_binding");
  assertThrows(() => parse("postgres://h?sslnegotiation=direct"), WireError, "sslnegotiation");
  assertEquals(assertThrows(() => parse("host=h sslmode=maybe"), WireError).kind, "invalid-dsn");
});

test("plaintext to another machine warns, unless it was said", () => {
  for (const local of ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "%2Ftmp"]) {
    assertEquals(parse(`postgres://${local}/d`).warnings, [], local);
  }
  for (const remote of ["db.example.org", "10.0.0.1", "127.evil.example", "[2001:db8::1]"]) {
    const { warnings } = parse(`postgres://${remote}/d`);
    assertEquals(warnings.length, 1, remote);
    assert(warnings[0]!.includes("not be encrypted"));
    assertEquals(parse(`postgres://${remote}/d?sslmode=disable`).warnings, []);
  }
});

test("several hosts are refused for now, however they are written", () => {
  for (const dsn of ["postgres://a,b/d", "postgres://a:1,b:2/d", "host=a,b", "host=a port=1,2"]) {
    assertEquals(assertThrows(() => parse(dsn), WireError).kind, "multiple-hosts", dsn);
  }
});

test("a DSN that cannot be read is a typed error that repeats nothing of it", () => {
  const dsns = [
    "canary",
    "mysql://u:canary@h/d",
    "postgres://u:canary/x@h/d",
    "postgres://u:canary?x@h/d",
    "postgres://u:1/canary@h/d",
    "postgres://u:1?canary=a@h/d",
    "postgres://u:canary%@h/d",
    "postgres://u:canary%ff@h/d",
    "postgres://u:p@h:canary/d",
    "postgres://u:p@h:0/d",
    "postgres://u:p@h:65536/d",
    "postgres://u:p@h:1e3/d",
    "postgres://u:p@[::1/canary",
    "postgres://u:p@a:b:c/canary",
    "postgres://h/d?canary",
    "postgres://h/d?connect_timeout=canary",
    "postgres://h/d?connect_timeout=-1",
    "postgres://h/d?connect_timeout=99999999",
    "postgres://h/d?password=canary%00",
    "host=h password='canary",
    "host=h password='canary'canary",
    "host=h canary",
    "host=h password=canary\\",
    "=canary",
  ];
  for (const dsn of dsns) {
    const error = assertThrows(() => parse(dsn), WireError, undefined, dsn);
    assertEquals(error.kind, "invalid-dsn", dsn);
    const shown = `${error.message} ${error.hint} ${error.stack} ${String(error.cause)}`;
    assertFalse(shown.replace(/at .*/g, "").includes("canary"), shown);
  }
});

test("a host that begins with a slash is the directory of a unix socket", () => {
  assertEquals(addressOf({ host: "/tmp", port: 5433 }), { path: "/tmp/.s.PGSQL.5433" });
  assertEquals(addressOf({ host: "/tmp/", port: 1 }), { path: "/tmp/.s.PGSQL.1" });
  assertEquals(addressOf({ host: "h", port: 1 }), { host: "h", port: 1 });
});

test("the environment is read without asking or failing", () => {
  const env = environment();
  for (const [name, value] of Object.entries(env)) {
    assert(/^(DATABASE_URL|PG[A-Z_]+|USER|USERNAME|LOGNAME)$/.test(name), name);
    assertEquals(typeof value, "string");
  }
});
