import { test } from "node:test";
import { assertEquals } from "@std/assert";
import { connectLazily } from "../../../src/sinks/pgvector_dsn.ts";

/** What postgres.js makes of a dsn; nothing connects. */
const optionsOf = (query: string, address = "app:pass%20word@db.example.org/shop") =>
  connectLazily(`postgresql://${address}?${query}`).options;

/** What it would send to the server as settings. */
function settingsOf(query: string): Record<string, unknown> {
  const { application_name: _, ...settings } = optionsOf(query).connection;
  return settings;
}

test("what only libpq understands does not reach the server as a setting", () => {
  for (
    const query of [
      "channel_binding=require",
      "sslmode=require&channel_binding=prefer",
      "gssencmode=disable&krbsrvname=postgres&gsslib=gssapi&gssdelegation=0",
      "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
      "tcp_user_timeout=1000&load_balance_hosts=random&fallback_application_name=x",
      "sslrootcert=system&sslcert=c&sslkey=k&sslpassword=p&sslsni=1&sslcompression=0",
      "sslnegotiation=direct&target_session_attrs=read-write&connect_timeout=5",
      "target_session_attrs=any",
    ]
  ) assertEquals(settingsOf(query), {}, query);
});

test("settings of the server and parameters of postgres.js stay as they are", () => {
  const options = optionsOf(
    "channel_binding=require&options=endpoint%3Dquiet-sea%20-c%20geqo%3Doff&search_path=a%2C%22b%26c%22" +
      "&application_name=my+app&sslmode=require&sslnegotiation=direct&connect_timeout=5" +
      "&target_session_attrs=primary",
  );
  assertEquals(options.connection as Record<string, unknown>, {
    application_name: "my app",
    options: "endpoint=quiet-sea -c geqo=off",
    search_path: 'a,"b&c"',
  });
  const { ssl, sslnegotiation, connect_timeout, target_session_attrs } = options as unknown as {
    [name: string]: unknown;
  };
  assertEquals([ssl, sslnegotiation, connect_timeout, target_session_attrs], [
    "require",
    "direct",
    5,
    "primary",
  ]);
  assertEquals([options.user, options.pass, options.host, options.database], [
    "app",
    "pass word",
    ["db.example.org"],
    "shop",
  ]);
});

test("several hosts stay several", () => {
  const { host, port } = optionsOf("channel_binding=require", "u@one:1,two:2/db");
  assertEquals([host, port], [["one", "two"], [1, 2]]);
});

test("a demand that cannot be met is left for the server to refuse", () => {
  assertEquals(settingsOf("gssencmode=require&require_auth=scram-sha-256"), {
    gssencmode: "require",
    require_auth: "scram-sha-256",
  });
});

test("a root certificate that is not read never means that any certificate will do", () => {
  for (
    const [query, ssl] of [
      ["sslmode=require&sslrootcert=%2Fca.pem", "verify-full"],
      ["sslmode=verify-ca&sslrootcert=%2Fca.pem", "verify-ca"],
      ["sslrootcert=system", "verify-full"],
      ["sslmode=disable&sslmode=require&sslrootcert=%2Fca.pem", "verify-full"],
      ["sslmode=require&sslrootcert=", "require"],
      ["sslmode=disable&sslrootcert=%2Fca.pem", false],
    ] as const
  ) assertEquals(optionsOf(query).ssl as unknown, ssl, query);
});
