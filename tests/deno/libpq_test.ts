/**
 * Connection options beside libpq's own reading of them, by its own library: the one that comes with
 * PostgreSQL 18. Only Deno can call it without a package.
 */
import { assert, assertEquals } from "@std/assert";
import { WireError } from "../../src/wire/errors.ts";
import { environment } from "../../src/wire/environment.ts";
import { readTextFile } from "../../src/wire/files.ts";
import { parseConnectionOptions } from "../../src/wire/options.ts";
import { postgresFiles } from "../support/servers/postgres_files.ts";

const { bin } = await postgresFiles(18);
const libpq = Deno.dlopen(`${bin}/../lib/libpq.so.5`, {
  PQconnectStart: { parameters: ["buffer"], result: "pointer" },
  PQconninfo: { parameters: ["pointer"], result: "pointer" },
  PQconninfoFree: { parameters: ["pointer"], result: "void" },
  PQerrorMessage: { parameters: ["pointer"], result: "pointer" },
  PQfinish: { parameters: ["pointer"], result: "void" },
  PQhost: { parameters: ["pointer"], result: "pointer" },
  PQpass: { parameters: ["pointer"], result: "pointer" },
  PQport: { parameters: ["pointer"], result: "pointer" },
});

// The fields of PQconninfoOption: six pointers and a number.
const OPTION_BYTES = 56;
const VALUE_AT = 24;

/** What is compared; null: refused. */
type Reading = Record<string, string | undefined> | null;

function text(pointer: Deno.PointerValue): string {
  return pointer === null ? "" : new Deno.UnsafePointerView(pointer).getCString();
}

/** Begins to connect, to where nobody listens, since only then libpq looks at all it was told. */
function readByLibpq(dsn: string): Reading {
  const { symbols } = libpq;
  const connection = symbols.PQconnectStart(new TextEncoder().encode(`${dsn}\0`));
  const error = text(symbols.PQerrorMessage(connection));
  if (error !== "" && !error.startsWith("connection to server")) {
    symbols.PQfinish(connection);
    return null;
  }
  const first = symbols.PQconninfo(connection);
  const all: Record<string, string> = {};
  const view = new Deno.UnsafePointerView(first!);
  for (let at = 0; view.getPointer(at) !== null; at += OPTION_BYTES) {
    all[text(view.getPointer(at))] = text(view.getPointer(at + VALUE_AT));
  }
  symbols.PQconninfoFree(first);
  const reading = {
    host: text(symbols.PQhost(connection)),
    port: text(symbols.PQport(connection)),
    password: text(symbols.PQpass(connection)),
    user: all["user"],
    database: all["dbname"] || all["user"],
    options: all["options"] || "",
    sslmode: all["sslmode"] === "allow" ? "prefer" : all["sslmode"],
    negotiation: all["sslnegotiation"],
    sni: all["sslsni"],
    channelBinding: all["channel_binding"],
    target: all["target_session_attrs"],
    balance: all["load_balance_hosts"],
  };
  symbols.PQfinish(connection);
  return reading;
}

function readByUs(dsn: string): Reading {
  try {
    const { options } = parseConnectionOptions(dsn, environment(), readTextFile);
    const [host] = options.hosts;
    return {
      host: host!.host,
      port: `${host!.port}`,
      password: options.password ?? host!.password ?? "",
      user: options.user,
      database: options.database,
      options: options.options ?? "",
      sslmode: options.ssl.mode,
      negotiation: options.ssl.negotiation,
      sni: options.ssl.sni ? "1" : "0",
      channelBinding: options.channelBinding,
      target: options.targetSessionAttrs,
      balance: options.loadBalanceHosts,
    };
  } catch (error) {
    assert(error instanceof WireError, `${dsn}: ${error}`);
    return null;
  }
}

function compare(dsn: string): void {
  assertEquals(readByUs(dsn), readByLibpq(dsn), dsn);
}

// Nobody listens on port 1, and no name has to be looked up.
const BASE = "user=u password=p hostaddr=127.0.0.1 host=h port=1";

Deno.test("what libpq takes we take, with the same meaning, and what it refuses we refuse", () => {
  for (
    const dsn of [
      "postgres://u:p@127.0.0.1:1/d",
      "postgresql://u%40x:p%3A%2F%25%C3%A9@127.0.0.1:1/d%20b?options=-c%20a%3Db",
      "postgres://u:p:q@127.0.0.1:1",
      "postgres://u:p@127.0.0.1:1/d  ",
      "postgres://u:@127.0.0.1:1/",
      "postgres://u:#p@127.0.0.1:1/d",
      "postgres://u@[::1]:1/d",
      "postgres://u@%2Ftmp%2Fgone:1/d",
      "postgres://u@127.0.0.1:1,127.0.0.2:2/d?target_session_attrs=any",
      "postgres://u@127.0.0.1,127.0.0.2/d?port=1&target_session_attrs=any",
      "postgres://u@127.0.0.1:1,127.0.0.2/d?target_session_attrs=any",
      "postgres://u@127.0.0.1:1,/d?port=1,2,3",
      "postgres:///d?user=a@b&host=/tmp/gone&port=1",
      "postgres://u@127.0.0.1:1/d?ssl=true",
      "postgres://u@127.0.0.1:1/d?sslmode=disable&sslmode=require&",
      "postgres://u@127.0.0.1:x/d",
      "postgres://u@127.0.0.1:0/d",
      "postgres://u@127.0.0.1:65536/d",
      "postgres://u@[::1/d",
      "postgres://u@[::1]x/d",
      "postgres://u:%zz@127.0.0.1:1/d",
      "postgres://u:%00@127.0.0.1:1/d",
      "postgres://u@127.0.0.1:1/d?options",
      "user=u host = 127.0.0.1  port= 1",
      "user=u host='127.0.0.1' port=1 password='a b\\'c\\\\d'",
      "user=u host=127.0.0.1 port=1 password=a\\ b\\'c",
      "user=u host=127.0.0.1 password= port=1",
      "user=u host=127.0.0.1 port=1 password=a'b",
      "user=u host=127.0.0.1 port=1 password=a=b",
      "user=u host=/tmp/gone\tdbname=d\nport=1",
      "user=u host='127.0.0.1",
      "user=u host=127.0.0.1 port",
      "host=127.0.0.1,127.0.0.2 port=1,2,3 user=u",
      "host=127.0.0.1 port=1,2 user=u",
      "host=127.0.0.1,127.0.0.2 hostaddr=127.0.0.1 user=u",
      "host=a,b hostaddr=127.0.0.1,127.0.0.2 port=1 target_session_attrs=any user=u",
      "host=a, hostaddr=127.0.0.1, port=1, target_session_attrs=any user=u",
      "host=h hostaddr=example user=u",
      ...["disable", "allow", "prefer", "require", "verify-full", "maybe", "REQUIRE"].map((mode) =>
        `${BASE} sslmode=${mode}`
      ),
      ...["require", "prefer", "maybe", "disable"].map((word) =>
        `${BASE} channel_binding=${word} sslmode=require`
      ),
      ...["direct", "postgres", "maybe"].flatMap((word) =>
        ["prefer", "require", "verify-full", "disable"].map((mode) =>
          `${BASE} sslnegotiation=${word} sslmode=${mode}`
        )
      ),
      ...["", "sslmode=verify-ca", "sslmode=verify-full", "sslmode=disable"].map((mode) =>
        `${BASE} sslrootcert=system ${mode}`
      ),
      ...["any", "read-write", "read-only", "primary", "standby", "prefer-standby", "master"].map(
        (word) => `${BASE} target_session_attrs=${word}`,
      ),
      ...["random", "disable", "maybe"].map((word) => `${BASE} load_balance_hosts=${word}`),
      ...[
        "md5",
        "password,scram-sha-256",
        "!none",
        "!password,!md5,!gss",
        "maybe",
        "!md5,password",
        "password,!md5",
        "md5,",
        "none,none1",
      ].map((list) => `${BASE} require_auth=${list}`),
      ...["TLSv1", "TLSv1.1", "tlsv1.2", "TLSv9"].map((version) =>
        `${BASE} ssl_min_protocol_version=${version}`
      ),
      ...["disable", "prefer"].map((word) => `${BASE} gssencmode=${word} sslsni=0`),
      `${BASE} sslcertmode=allow min_protocol_version=3.0 max_protocol_version=latest`,
      `${BASE} keepalives=0 keepalives_idle=10 tcp_user_timeout=0 replication=database`,
    ]
  ) {
    compare(dsn);
  }
});

Deno.test("files and variables mean what they mean to libpq", async () => {
  const home = await Deno.makeTempDir();
  const before = Deno.env.toObject();
  try {
    for (const name of Object.keys(before)) if (name.startsWith("PG")) Deno.env.delete(name);
    Deno.env.set("HOME", home);
    await Deno.writeTextFile(
      `${home}/.pgpass`,
      "# a comment\n127.0.0.1:1:d:u:a\\:b\\\\c:d\nh:*:*:u:host\n127.0.0.2:*:*:*: late \\\n",
      { mode: 0o600 },
    );
    await Deno.writeTextFile(
      `${home}/.pg_service.conf`,
      "[s]\nhost=127.0.0.1\n  port=1\nuser= u\n# x\nport=2\n\n[t]\nhost=127.0.0.2\r\nport=1 \n[n]\nservice=s\n[bad]\nnonsense\n",
    );
    for (
      const dsn of [
        "host=127.0.0.1 port=1 user=u dbname=d",
        "host=127.0.0.1 port=1 user=u dbname=e",
        "host=127.0.0.2 port=1 user=u",
        "host=h hostaddr=127.0.0.1 port=1 user=u",
        "hostaddr=127.0.0.1 port=1 user=u dbname=d",
        "host=127.0.0.1 port=1 user=u dbname=d password=p",
        "service=s",
        "service=s dbname=d port=1 user=u",
        "service=t user=u",
        "service=n user=u",
        "service=bad user=u",
        "service=gone user=u",
        `service=s servicefile=${home}/gone`,
      ]
    ) {
      compare(dsn);
    }
    for (
      const variables of [
        { PGUSER: "eu", PGPASSWORD: "ep", PGDATABASE: "ed", PGOPTIONS: "-c x=y" },
        { PGSSLMODE: "require", PGSSLNEGOTIATION: "direct", PGSSLSNI: "0" },
        { PGCHANNELBINDING: "disable", PGTARGETSESSIONATTRS: "primary" },
        { PGLOADBALANCEHOSTS: "random", PGREQUIREAUTH: "md5,!md5" },
        { PGREQUIRESSL: "1" },
        { PGREQUIRESSL: "1", PGSSLMODE: "disable" },
        { PGSSLROOTCERT: "system" },
        { PGSERVICE: "t" },
        { PGSERVICE: "gone" },
        { PGSERVICE: "s", PGPORT: "9", PGUSER: "nobody" },
      ]
    ) {
      // libpq asks the system for the user.
      for (const [name, value] of Object.entries({ PGUSER: "pu", ...variables })) {
        Deno.env.set(name, value);
      }
      compare("host=127.0.0.1 port=1 user=u dbname=d");
      compare("postgres://127.0.0.1:1");
      for (const name of Object.keys(variables)) Deno.env.delete(name);
    }
    Deno.env.set("PGPORT", "1");
    compare("host=127.0.0.1,127.0.0.2 user=u target_session_attrs=any");
    compare("postgres://u@127.0.0.1,127.0.0.2/d?target_session_attrs=any");
    await Deno.chmod(`${home}/.pgpass`, 0o640);
    compare("host=127.0.0.1 port=1 user=u dbname=d");
  } finally {
    for (const name of Object.keys(Deno.env.toObject())) Deno.env.delete(name);
    for (const [name, value] of Object.entries(before)) Deno.env.set(name, value);
    await Deno.remove(home, { recursive: true });
  }
});
