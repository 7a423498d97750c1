/** Connection options that are in files: what is read, when, and what comes of what cannot be. */
import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { test } from "node:test";
import { WireError } from "../../../src/wire/errors.ts";
import type { ReadFile } from "../../../src/wire/files.ts";
import { parseConnectionOptions } from "../../../src/wire/options.ts";

const CERT = "-----BEGIN CERTIFICATE-----\ncert\n-----END CERTIFICATE-----\n";
const KEY = "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n";
const ROOT = "-----BEGIN CERTIFICATE-----\nroot\n-----END CERTIFICATE-----\n";

type Files = Record<string, string | { text: string; mode: number; uid?: number }>;

const OWN: Files = {
  "/me/.pgpass": "*:*:*:*:canary-own",
  "/me/.postgresql/root.crt": ROOT,
  "/me/.postgresql/postgresql.crt": CERT,
  "/me/.postgresql/postgresql.key": KEY,
};

function parse(dsn: string, files: Files, env: Record<string, string> = {}) {
  const read: string[] = [];
  const readFile: ReadFile = (path) => {
    read.push(path);
    const file = files[path];
    if (file === undefined) return { reason: "it does not exist" };
    return { mode: 0o100600, uid: 1000, ...(typeof file === "string" ? { text: file } : file) };
  };
  const variables = { USER: "me", HOME: "/me", ...env };
  return { ...parseConnectionOptions(dsn, variables, readFile), read };
}

function refuse(dsn: string, files: Files, env: Record<string, string> = {}): WireError {
  const error = assertThrows(() => parse(dsn, files, env), WireError, undefined, dsn);
  assertFalse(`${error.stack} ${error.cause}`.includes("canary"), dsn);
  return error;
}

test("certificates and keys are files, or the text itself", () => {
  const files = { "/r": ROOT, "/c": CERT, "/k": KEY };
  const all = { rootCert: ROOT, cert: CERT, key: KEY };
  const ssl = (dsn: string, env = {}) => {
    const { mode: _, negotiation: __, sni: ___, ...rest } = parse(dsn, files, env).options.ssl;
    return rest;
  };
  assertEquals(ssl("host=h sslmode=verify-full sslrootcert=/r sslcert=/c sslkey=/k"), all);
  assertEquals(
    ssl("host=h sslmode=require", { PGSSLROOTCERT: "/r", PGSSLCERT: "/c", PGSSLKEY: "/k" }),
    all,
  );
  assertEquals(ssl("sslrootcert=/r"), { rootCert: ROOT });
  assertEquals(ssl("sslcert=/c sslkey=/k sslpassword=p"), {
    cert: CERT,
    key: KEY,
    keyPassword: "p",
  });
  assertEquals(ssl("sslpassword=p"), {});
  assertEquals(ssl("sslcert=/c sslkey=/k sslcertmode=disable"), {});
  const inline = [["sslrootcert", ROOT], ["sslcert", CERT], ["sslkey", KEY]] as const;
  assertEquals(ssl(inline.map(([name, pem]) => `${name}='${pem}'`).join(" ")), all);
  assertEquals(
    ssl(`postgres://h?${inline.map((pair) => pair.map(encodeURIComponent).join("=")).join("&")}`),
    all,
  );
});

test("libpq's own files are used where they are, and missed by nobody", () => {
  const ssl = (dsn: string, files: Files = OWN) => {
    const { rootCert, cert, key } = parse(dsn, files).options.ssl;
    return [rootCert, cert, key];
  };
  for (const mode of ["require", "verify-ca", "verify-full"]) {
    assertEquals(ssl(`host=h sslmode=${mode}`), [ROOT, CERT, KEY], mode);
  }
  // A server that is not of the own authority is no reason to fail where nothing was asked for.
  assertEquals(ssl("host=h"), [undefined, CERT, KEY]);
  assertEquals(ssl("host=h sslrootcert=system"), [undefined, CERT, KEY]);
  assertEquals(ssl("host=h sslmode=verify-full", {}), [undefined, undefined, undefined]);
  const half = { "/me/.postgresql/postgresql.crt": CERT };
  assertEquals(ssl("host=h", half), [undefined, undefined, undefined]);
  assertEquals(ssl("host=h sslkey=/k", { ...half, "/k": KEY }), [undefined, CERT, KEY]);

  const windows = {
    "C:\\me/postgresql/root.crt": ROOT,
    "C:\\me/postgresql/pgpass.conf": "*:*:*:*:w",
  };
  const { options } = parse("sslmode=verify-full", windows, { APPDATA: "C:\\me" });
  assertEquals([options.ssl.rootCert, options.hosts[0]?.password], [ROOT, "w"]);
});

test("no certificate is read for a connection that will not be encrypted", () => {
  for (const dsn of ["host=h sslmode=disable sslrootcert=/gone", "host=/tmp,/run sslcert=/gone"]) {
    const { read, options } = parse(dsn, OWN);
    assertEquals(read, ["/me/.pgpass"], dsn);
    assertEquals([options.ssl.rootCert, options.ssl.cert], [undefined, undefined], dsn);
  }
  assertEquals(parse("host=/tmp,h", OWN).options.ssl.cert, CERT);
  assertEquals(parse("host=/tmp hostaddr=10.0.0.1", OWN).options.ssl.cert, CERT);
});

test("verify-ca by the runtime's authorities says how little that is", () => {
  const warned = (dsn: string) =>
    parse(dsn, { "/r": ROOT }).warnings.join().includes("verify-full");
  assert(warned("sslmode=verify-ca"));
  assertFalse(warned("sslmode=verify-ca sslrootcert=/r"));
  assertFalse(warned("sslmode=verify-full"));
  assertFalse(warned("sslmode=require"));
});

test("a file that was named and cannot be used is an error that names it", () => {
  const files: Files = {
    "/c": CERT,
    "/k": KEY,
    "/der": "canary",
    "/open": { text: KEY, mode: 0o100640 },
    "/world": { text: KEY, mode: 0o100604, uid: 0 },
  };
  const table: [string, ...string[]][] = [
    ["sslrootcert=/gone", "sslrootcert", '"/gone"', "does not exist"],
    ["sslcert=/gone sslkey=/k", "sslcert", '"/gone"'],
    ["sslcert=/c sslkey=/gone", "sslkey", '"/gone"'],
    ["passfile=/gone", "passfile", '"/gone"'],
    ["service=x servicefile=/gone", "servicefile", '"/gone"'],
    ["sslrootcert=/der", "sslrootcert", '"/der"', "PEM"],
    ["sslcert=/c sslkey=/der", "sslkey", '"/der"', "PEM"],
    ["sslcert=/c sslkey=/open", "sslkey", '"/open"', "chmod 0600"],
    ["sslcert=/c sslkey=/world", "sslkey", '"/world"', "chmod 0600"],
  ];
  for (const [dsn, ...texts] of table) {
    const error = refuse(dsn, files);
    assertEquals(error.kind, "file-unreadable", dsn);
    for (const text of texts) assert(error.message.includes(text), error.message);
  }
  assertEquals(refuse("", {}, { PGPASSFILE: "/gone" }).kind, "file-unreadable");
  // What libpq forbids for its own files, too.
  refuse("host=h", { ...OWN, "/me/.postgresql/postgresql.key": { text: KEY, mode: 0o644 } });
  // Debian lends root's keys to a group.
  const lent = { "/c": CERT, "/k": { text: KEY, mode: 0o100640, uid: 0 } };
  assertEquals(parse("sslcert=/c sslkey=/k", lent).options.ssl.key, KEY);

  assertEquals(refuse("sslcert=/c", files).kind, "invalid-dsn");
  assertEquals(refuse("sslkey=/k", files).kind, "invalid-dsn");
});

test("a key that was written in a wrong way is not shown as the path that it is taken for", () => {
  for (
    const key of [
      `MC4CAQAwBQYDK2VwBCIEI${"canary".repeat(8)}=`,
      "MC4CAQAwBQYDK2VwBCIEI\ncanary",
      "---BEGIN PRIVATE KEY---- canary",
    ]
  ) {
    const error = refuse(`sslcert=/c sslkey='${key}'`, { "/c": CERT });
    assertEquals(error.kind, "file-unreadable");
  }
});

test("a password that nobody gave is looked up for each host", () => {
  const files: Files = {
    "/me/.pgpass": "a:5432:d:u:pa\nb:1:*:u:pb\nlocalhost:*:*:*:pl\n10.0.0.9:*:*:*:p9\n",
    "/named": "*:*:*:*:pn",
    "/open": { text: "*:*:*:*:canary", mode: 0o100640, uid: 0 },
  };
  const passwords = (dsn: string, env = {}) => {
    const { hosts, password } = parse(dsn, files, env).options;
    return [password, ...hosts.map((host) => host.password)];
  };
  assertEquals(passwords("host=a,b,c,/tmp port=5432,1,1,1 user=u dbname=d"), [
    undefined,
    "pa",
    "pb",
    undefined,
    "pl",
  ]);
  assertEquals(passwords("host=a hostaddr=10.0.0.9 user=u dbname=d"), [undefined, "pa"]);
  assertEquals(passwords("hostaddr=10.0.0.9"), [undefined, "p9"]);
  assertEquals(passwords("host=x passfile=/named"), [undefined, "pn"]);
  assertEquals(passwords("host=x", { PGPASSFILE: "/named" }), [undefined, "pn"]);
  // What was given is used, and no file is read.
  assertEquals(passwords("host=a password=p passfile=/gone"), ["p", undefined]);
  assertEquals(passwords("host=a", { PGPASSWORD: "p", PGPASSFILE: "/gone" }), ["p", undefined]);
  assertEquals(parse("password=p sslmode=disable", OWN).read, []);

  const { options, warnings } = parse("host=x passfile=/open", files);
  assertEquals(options.hosts, [{ host: "x", port: 5432 }]);
  assert(warnings[0]?.includes('"/open"') && warnings[0].includes("chmod 0600"), warnings[0]);
  assertFalse(warnings.join().includes("canary"));
});

test("a service goes before the environment, and the DSN before both", () => {
  const files: Files = {
    "/me/.pg_service.conf":
      "[s]\nhost=sh\nport=2\nuser=su\nsslmode=verify-full\nsslrootcert=system\nodd=canary\n",
    "/named": "[s]\nhost=nh\n[ssl]\nssl=true\n",
  };
  const env = { PGHOST: "eh", PGPORT: "1", PGUSER: "eu", PGDATABASE: "ed", PGSSLMODE: "disable" };
  const { options, warnings } = parse("service=s port=3", files, env);
  assertEquals(
    [options.hosts, options.user, options.database, options.ssl.mode],
    [[{ host: "sh", port: 3 }], "su", "ed", "verify-full"],
  );
  assert(warnings.length === 1 && warnings[0]!.includes('"odd"'), warnings.join());

  const host = (dsn: string, env = {}) => parse(dsn, files, env).options.hosts[0]?.host;
  assertEquals(host("", { PGSERVICE: "s" }), "sh");
  assertEquals(host("postgres://?service=s"), "sh");
  assertEquals(host("host=h", { PGSERVICE: "s" }), "h");
  assertEquals(host("service=s", { PGSERVICE: "gone" }), "sh");
  assertEquals(host("service=s", { PGSERVICEFILE: "/named" }), "nh");
  assertEquals(host("service=s servicefile=/named", { PGSERVICEFILE: "/gone" }), "nh");
  assertEquals(parse("service=ssl servicefile=/named", files).options.ssl.mode, "require");
  assertEquals(refuse("service=gone", files).kind, "invalid-dsn");
});

test("without files, what is named is an error and what is not is not missed", () => {
  const options = (dsn: string) => parseConnectionOptions(dsn, { USER: "me", HOME: "/me" }).options;
  assertEquals(options("host=h sslmode=verify-full").ssl.rootCert, undefined);
  const error = assertThrows(() => options("host=h sslrootcert=/r"), WireError);
  assertEquals(error.kind, "file-unreadable");
  assert(error.hint?.includes("PEM"));
});
