import { assert, assertEquals, assertFalse, assertThrows } from "@std/assert";
import { test } from "node:test";
import { WireError } from "../../../src/wire/errors.ts";
import { environment } from "../../../src/wire/environment.ts";
import { addressOf, parseConnectionOptions } from "../../../src/wire/options.ts";

const SSL = { mode: "prefer", negotiation: "postgres", sni: true };

const defaults = {
  hosts: [{ host: "localhost", port: 5432 }],
  user: "me",
  database: "me",
  applicationName: "pgstream",
  connectTimeoutMs: 10_000,
  ssl: SSL,
  channelBinding: "prefer",
  targetSessionAttrs: "any",
  loadBalanceHosts: "disable",
};

function parse(dsn: string | undefined, env: Record<string, string> = {}) {
  return parseConnectionOptions(dsn, { USER: "me", ...env });
}

function refuse(dsn: string, env: Record<string, string> = {}): WireError {
  const error = assertThrows(() => parse(dsn, env), WireError, undefined, dsn);
  assertEquals(error.kind, "invalid-dsn", dsn);
  return error;
}

/** Of one host, what is said of it is written beside the rest. */
function expected({ host = "localhost", hostaddr, port = 5432, ...rest }: Record<string, unknown>) {
  const hosts = [{ host, ...(hostaddr === undefined ? {} : { hostaddr }), port }];
  return { ...defaults, hosts, ...rest };
}

test("a URI is read as libpq reads it", () => {
  const table: [string, Record<string, unknown>][] = [
    ["postgres://", {}],
    ["postgresql://localhost", {}],
    ["postgresql:///db", { database: "db" }],
    ["postgresql:///db\n", { database: "db" }],
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
    ["postgres://h/d?hostaddr=10.0.0.1", { host: "h", hostaddr: "10.0.0.1", database: "d" }],
    ["postgres:///d?hostaddr=10.0.0.1", { host: "10.0.0.1", database: "d" }],
    ["postgres://h/d?user=a@b.iam", { host: "h", database: "d", user: "a@b.iam" }],
    ["postgres://h/d?&connect_timeout=3&", { host: "h", database: "d", connectTimeoutMs: 3000 }],
  ];
  for (const [dsn, fields] of table) {
    assertEquals<unknown>(parse(dsn).options, expected(fields), dsn);
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
    assertEquals<unknown>(parse(dsn).options, expected(fields), dsn);
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
    ...defaults,
    hosts: [{ host: "eh", port: 7 }],
    ssl: { ...SSL, mode: "disable" },
    user: "eu",
    password: "ep",
    database: "ed",
    applicationName: "ea",
    connectTimeoutMs: 2000,
    options: "-c x=y",
  };
  assertEquals<unknown>(parse(undefined, env), { options: fromEnv, warnings: [] });
  assertEquals<unknown>(parse("host=h", env).options, {
    ...fromEnv,
    hosts: [{ host: "h", port: 7 }],
  });
  assertEquals<unknown>(parse("postgres://a:b@c:1/d?application_name=e", env).options, {
    ...fromEnv,
    hosts: [{ host: "c", port: 1 }],
    user: "a",
    password: "b",
    database: "d",
    applicationName: "e",
  });
});

test("with no DSN, DATABASE_URL is the DSN; with one, it is not looked at", () => {
  const env = { DATABASE_URL: "postgres://u@h/d", PGPORT: "7" };
  assertEquals(parse(undefined, env).options.hosts, [{ host: "h", port: 7 }]);
  assertEquals(parse("postgres://x", env).options.hosts, [{ host: "x", port: 7 }]);
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
    assertEquals<unknown>(options, { ...defaults, database: "d" }, name);
    assertEquals(warnings.length, 1, name);
  }
});

test("several hosts have a port each, or one for all, and what is empty has its default", () => {
  const table: [string, [host: string, port: number, hostaddr?: string][]][] = [
    ["postgres://a,b/d", [["a", 5432], ["b", 5432]]],
    ["postgres://a:1,b:2/d", [["a", 1], ["b", 2]]],
    ["postgres://a:1,b/d", [["a", 1], ["b", 5432]]],
    ["postgres://:1,:2/d", [["localhost", 1], ["localhost", 2]]],
    ["postgres://a,b/d?port=7", [["a", 7], ["b", 7]]],
    ["postgres://[::1]:1,%2Ftmp:2,c:3", [["::1", 1], ["/tmp", 2], ["c", 3]]],
    ["postgres:///?host=a,b&port=1,2", [["a", 1], ["b", 2]]],
    ["host=a,b port=7", [["a", 7], ["b", 7]]],
    ["host=a,,c port=1,,3", [["a", 1], ["localhost", 5432], ["c", 3]]],
    ["host='a, b'", [["a", 5432], ["b", 5432]]],
    ["hostaddr=::1,10.0.0.2", [["::1", 5432], ["10.0.0.2", 5432]]],
    ["host=a,b hostaddr=10.0.0.1,", [["a", 5432, "10.0.0.1"], ["b", 5432]]],
    ["host=a,, hostaddr=,10.0.0.1,", [["a", 5432], ["10.0.0.1", 5432], ["localhost", 5432]]],
    ["hostaddr=fe80::1%eth0", [["fe80::1%eth0", 5432]]],
  ];
  for (const [dsn, hosts] of table) {
    assertEquals<unknown>(
      parse(dsn).options.hosts,
      hosts.map(([host, port, hostaddr]) => ({
        host,
        ...(hostaddr === undefined ? {} : { hostaddr }),
        port,
      })),
      dsn,
    );
  }
  // As libpq: the comma of the hosts says that each of them has a port, the default one.
  assertEquals(parse("postgres://a,b", { PGPORT: "7" }).options.hosts[1]?.port, 5432);
  assertEquals(parse("host=a,b", { PGPORT: "7" }).options.hosts[1]?.port, 7);

  for (
    const dsn of [
      "host=a,b port=1,2,3",
      "host=a port=1,2",
      "host=a,b hostaddr=10.0.0.1",
      "host=a hostaddr=10.0.0.1,10.0.0.2",
      "host=a hostaddr=canary.example",
      "host=a,b port=1,canary",
      "postgres://a:1,b:0/d",
    ]
  ) {
    assertFalse(refuse(dsn).message.includes("canary"), dsn);
  }
});

test("one of several hosts must be the primary, unless something else is said", () => {
  const target = (dsn: string, env = {}) => parse(dsn, env).options.targetSessionAttrs;
  assertEquals(target("host=a"), "any");
  assertEquals(target("host=a,b"), "primary");
  assertEquals(target("host=a,b target_session_attrs=any"), "any");
  assertEquals(target("host=a", { PGTARGETSESSIONATTRS: "prefer-standby" }), "prefer-standby");
});

test("what connecting is to be like is read as libpq reads it", () => {
  const table: [string, Record<string, unknown>][] = [
    ["sslsni=0", { ssl: { ...SSL, sni: false } }],
    ["sslsni=1", {}],
    ["channel_binding=require", { channelBinding: "require" }],
    ["channel_binding=disable", { channelBinding: "disable" }],
    ["target_session_attrs=read-only", { targetSessionAttrs: "read-only" }],
    ["load_balance_hosts=random", { loadBalanceHosts: "random" }],
    ["keepalives=0", { keepaliveMs: 0 }],
    ["keepalives=0 keepalives_idle=60", { keepaliveMs: 0 }],
    ["keepalives=1", {}],
    ["keepalives=1 keepalives_idle=60", { keepaliveMs: 60_000 }],
    ["keepalives_idle=0", {}],
    ["require_auth=scram-sha-256", { requireAuth: ["scram-sha-256"] }],
    ["require_auth=scram-sha-256,gss,md5", { requireAuth: ["md5", "scram-sha-256"] }],
    ["require_auth=!none", { requireAuth: ["password", "md5", "scram-sha-256"] }],
    ["require_auth=!password,!md5,!sspi", { requireAuth: ["scram-sha-256", "none"] }],
    ["require_auth=", {}],
    ["sslmode=allow", {}],
    ["sslmode=prefer", {}],
    ...["disable", "require", "verify-full"].map((mode): [string, Record<string, unknown>] => [
      `sslmode=${mode}`,
      { ssl: { ...SSL, mode } },
    ]),
    ["sslmode=require sslnegotiation=direct", {
      ssl: { ...SSL, mode: "require", negotiation: "direct" },
    }],
    ["sslrootcert=system", { ssl: { ...SSL, mode: "verify-full" } }],
    ["sslrootcert=system sslmode=verify-full", { ssl: { ...SSL, mode: "verify-full" } }],
    ["ssl=true", { ssl: { ...SSL, mode: "require" } }],
    ["ssl=false", { ssl: { ...SSL, mode: "disable" } }],
    ["ssl=verify-full", { ssl: { ...SSL, mode: "verify-full" } }],
    ["sslmode=verify-full ssl=true", { ssl: { ...SSL, mode: "verify-full" } }],
    ["sslmode=no-verify", { ssl: { ...SSL, mode: "require" } }],
    ["gssencmode=disable sslcompression=0 client_encoding=auto replication=database", {}],
    ["gssencmode=prefer krbsrvname=x min_protocol_version=3.0 max_protocol_version=latest", {}],
    ["ssl_min_protocol_version=TLSv1.2 sslcertmode=allow", {}],
  ];
  for (const [dsn, fields] of table) {
    const { options, warnings } = parse(dsn);
    assertEquals<unknown>(options, { ...defaults, ...fields }, dsn);
    assertEquals(warnings, [], dsn);
    // The same words in a URI.
    const query = dsn.replaceAll(" ", "&");
    assertEquals<unknown>(parse(`postgres://?${query}`).options, { ...defaults, ...fields }, query);
  }
});

test("each variable of libpq stands in for its parameter", () => {
  const table: [Record<string, string>, Record<string, unknown>][] = [
    [{ PGHOSTADDR: "10.0.0.1" }, { hosts: [{ host: "10.0.0.1", port: 5432 }] }],
    [{ PGCHANNELBINDING: "require" }, { channelBinding: "require" }],
    [{ PGREQUIREAUTH: "md5" }, { requireAuth: ["md5"] }],
    [{ PGTARGETSESSIONATTRS: "primary" }, { targetSessionAttrs: "primary" }],
    [{ PGLOADBALANCEHOSTS: "random" }, { loadBalanceHosts: "random" }],
    [{ PGSSLSNI: "0" }, { ssl: { ...SSL, sni: false } }],
    [{ PGSSLROOTCERT: "system" }, { ssl: { ...SSL, mode: "verify-full" } }],
    [{ PGREQUIRESSL: "1" }, { ssl: { ...SSL, mode: "require" } }],
    [{ PGREQUIRESSL: "1", PGSSLMODE: "disable" }, { ssl: { ...SSL, mode: "disable" } }],
    [{ PGSSLMODE: "require", PGSSLNEGOTIATION: "direct" }, {
      ssl: { ...SSL, mode: "require", negotiation: "direct" },
    }],
  ];
  for (const [env, fields] of table) {
    assertEquals<unknown>(parse("", env).options, { ...defaults, ...fields }, JSON.stringify(env));
  }
  assertEquals(parse("ssl=true", { PGSSLMODE: "disable" }).options.ssl.mode, "require");
});

test("a protection that is not to be had is refused, never ignored", () => {
  for (
    const dsn of [
      "gssencmode=require",
      "sslcrl=/crl.pem",
      "sslcrldir=/crl",
      "requirepeer=postgres",
      "ssl_min_protocol_version=TLSv1.3",
      "ssl_min_protocol_version=canary",
      "min_protocol_version=3.2",
      "sslcertmode=require",
      "sslmode=maybe",
      "ssl=maybe",
      "sslsni=2",
      "sslnegotiation=maybe",
      "sslnegotiation=direct",
      "sslnegotiation=direct sslmode=allow",
      "sslrootcert=system sslmode=verify-ca",
      "sslrootcert=system sslmode=disable",
      "channel_binding=maybe",
      "target_session_attrs=maybe",
      "load_balance_hosts=maybe",
      "require_auth=gss",
      "require_auth=gss,oauth,sspi",
      "require_auth=!password,!md5,!scram-sha-256,!none",
      "require_auth=maybe",
      "require_auth=md5,",
      "require_auth=!md5,password",
      "require_auth=password,!md5",
      "keepalives=maybe",
      "keepalives_idle=-1",
    ]
  ) {
    const name = /^\w+/.exec(dsn)![0].replace(/^ssl$/, "sslmode");
    assert(refuse(dsn).message.includes(name), dsn);
    assertFalse(refuse(dsn).message.includes("canary"), dsn);
  }
  for (const [variable, value] of [["PGSSLCRL", "x"], ["PGREQUIREPEER", "x"]] as const) {
    refuse("", { [variable]: value });
  }
  refuse("", { PGGSSENCMODE: "require" });
  refuse("", { PGSSLMINPROTOCOLVERSION: "TLSv1.3" });
});

test("what cannot be done and protects from nothing is dropped with a warning", () => {
  for (
    const name of [
      "keepalives_interval",
      "keepalives_count",
      "tcp_user_timeout",
      "ssl_max_protocol_version",
      "sslkeylogfile",
    ]
  ) {
    const { options, warnings } = parse(`${name}=1`);
    assertEquals<unknown>(options, defaults, name);
    assert(warnings.length === 1 && warnings[0]!.includes(`"${name}"`), name);
  }
});

test("connection strings of hosted Postgres can be used as they are", () => {
  const require = { ...SSL, mode: "require" };
  const table: [string, Record<string, unknown>, warnings: string[]][] = [
    // Neon
    [
      "postgresql://u:p@ep-x-1.us-east-2.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
      {
        host: "ep-x-1.us-east-2.aws.neon.tech",
        database: "neondb",
        ssl: require,
        channelBinding: "require",
      },
      [],
    ],
    [
      "postgres://u:p@h/neondb?options=endpoint%3Dep-x-1&sslmode=verify-full&sslrootcert=system",
      {
        host: "h",
        database: "neondb",
        options: "endpoint=ep-x-1",
        ssl: { ...SSL, mode: "verify-full" },
      },
      [],
    ],
    // Supabase, with what its dashboard and Vercel add
    [
      "postgres://u:p@db.x.supabase.co:6543/postgres?sslmode=require&supa=base-pooler.x&pgbouncer=true",
      { host: "db.x.supabase.co", port: 6543, database: "postgres", ssl: require },
      ["supa", "pgbouncer"],
    ],
    // Prisma
    [
      "postgresql://u:p@h:5432/d?schema=public&connection_limit=5&pool_timeout=2&sslaccept=strict",
      { host: "h", database: "d" },
      ["schema", "connection_limit", "pool_timeout", "sslaccept"],
    ],
    // Heroku, with node-postgres
    ["postgres://u:p@h.amazonaws.com:5432/d?sslmode=no-verify", {
      host: "h.amazonaws.com",
      database: "d",
      ssl: require,
    }, []],
    // CockroachDB
    ["postgresql://u:p@h:26257/d?sslmode=verify-full&sslrootcert=system&cluster=x", {
      host: "h",
      port: 26257,
      database: "d",
      ssl: { ...SSL, mode: "verify-full" },
    }, ["cluster"]],
    // Azure, as key=value
    ["host=s.postgres.database.azure.com port=5432 dbname=d user=u password=p sslmode=require", {
      host: "s.postgres.database.azure.com",
      database: "d",
      ssl: require,
    }, []],
    // Cloud SQL, by the socket of its proxy, with an IAM user
    ["postgresql:///d?host=/cloudsql/p:r:i&user=u&password=p", {
      host: "/cloudsql/p:r:i",
      database: "d",
    }, []],
    // DigitalOcean, Aiven, Render
    ["postgresql://u:p@x-do-user-1.db.ondigitalocean.com:25060/d?sslmode=require", {
      host: "x-do-user-1.db.ondigitalocean.com",
      port: 25060,
      database: "d",
      ssl: require,
    }, []],
  ];
  for (const [dsn, fields, dropped] of table) {
    const { options, warnings } = parse(dsn);
    assertEquals<unknown>(options, expected({ user: "u", password: "p", ...fields }), dsn);
    assertEquals(warnings.map((warning) => /"(\w+)"/.exec(warning)?.[1]), dropped, dsn);
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
    "host=h password='canary\\",
    "host=h password=canary\ud800",
    "postgres://u:canary%00@h/d",
    "postgres://u:canary@h/d?options=%00",
    "postgres://u:canary%@h/d",
    "postgres://u:canary%C3@h/d",
    "postgres://u:canary%ED%A0%80@h/d",
    "postgres://u:canary@h,,[/d",
  ];
  for (const dsn of dsns) {
    const error = assertThrows(() => parse(dsn), WireError, undefined, dsn);
    assertEquals(error.kind, "invalid-dsn", dsn);
    const shown = `${error.message} ${error.hint} ${error.stack} ${String(error.cause)}`;
    assertFalse(shown.replace(/at .*/g, "").includes("canary"), shown);
  }
});

test("a DSN of megabytes is read, or refused, in a time that grows as it does", () => {
  const table: [string, (n: number) => string][] = [
    ["a password", (n) => `host=h password=${"x".repeat(n)}`],
    ["a quoted password", (n) => `host=h password='${"x".repeat(n)}'`],
    ["backslashes", (n) => `host=h password=${"\\x".repeat(n / 2)}`],
    ["quoted backslashes", (n) => `host=h password='${"\\'".repeat(n / 2)}'`],
    ["a quote that is not closed", (n) => `host=h password='${"x ".repeat(n / 2)}`],
    ["white space", (n) => `host${" ".repeat(n / 2)}=${" ".repeat(n / 2)}h`],
    ["white space and no value", (n) => `a=b host${" ".repeat(n)}x`],
    ["a name", (n) => `a=b ${"x".repeat(n)}`],
    ["many pairs", (n) => "a=b ".repeat(n / 4)],
    ["equal signs", (n) => "=".repeat(n)],
    ["commas", (n) => `host=${",".repeat(n / 8)}`],
    ["commas in a URI", (n) => `postgres://${",".repeat(n / 8)}/d`],
    ["commas for methods", (n) => `require_auth=${",".repeat(n)}`],
    ["ports", (n) => `host=h port=${"1,".repeat(n / 2)}`],
    ["percent signs", (n) => `postgres://u:${"%".repeat(n)}@h`],
    ["escapes", (n) => `postgres://u:${"%41".repeat(n / 4)}@h`],
    ["at signs", (n) => `postgres://${"@".repeat(n)}`],
    ["colons", (n) => `postgres://${":".repeat(n)}`],
    ["brackets", (n) => `postgres://${"[".repeat(n)}`],
    ["slashes", (n) => `postgres://${"/".repeat(n)}`],
    ["ampersands", (n) => `postgres://h/d?${"&".repeat(n)}`],
    ["an address", (n) => `hostaddr=${"1.".repeat(n / 2)}`],
    ["an IPv6 address", (n) => `hostaddr=${":f".repeat(n / 2)}z`],
    ["a number", (n) => `connect_timeout=${" 1".repeat(n / 2)}`],
  ];
  for (const [what, make] of table) {
    const ms = (n: number) => {
      const dsn = make(n);
      const start = performance.now();
      try {
        parse(dsn);
      } catch (error) {
        assert(error instanceof WireError, `${what}: ${error}`);
        assert(error.message.length < 500, what);
      }
      return performance.now() - start;
    };
    // Were it the square of the length, it would take minutes at the least.
    assert(ms(1 << 22) < 10_000, what);
  }
  const password = "x\\'".repeat(1 << 22);
  const { options } = parse(`password='${password.replace(/[\\']/g, "\\$&")}' host=h`);
  assert(options.password === password);
});

test("a host that begins with a slash is the directory of a unix socket", () => {
  assertEquals(addressOf({ host: "/tmp", port: 5433 }), { path: "/tmp/.s.PGSQL.5433" });
  assertEquals(addressOf({ host: "/tmp/", port: 1 }), { path: "/tmp/.s.PGSQL.1" });
  assertEquals(addressOf({ host: "h", port: 1 }), { host: "h", port: 1 });
  assertEquals(addressOf({ host: "h", hostaddr: "::1", port: 1 }), { host: "::1", port: 1 });
  assertEquals(addressOf({ host: "/tmp", hostaddr: "::1", port: 1 }), { host: "::1", port: 1 });
});

test("the environment is read without asking or failing", () => {
  const env = environment();
  for (const [name, value] of Object.entries(env)) {
    assert(/^(APPDATA|DATABASE_URL|HOME|LOGNAME|PG[A-Z_]+|USER|USERNAME)$/.test(name), name);
    assertEquals(typeof value, "string");
  }
});
