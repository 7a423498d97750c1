/** What a server may ask for, and what it is told: require_auth, channel_binding, passwords in the clear. */

import { assert, assertEquals, assertFalse, assertInstanceOf, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { afterEach, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { inspect } from "node:util";
import { PgStreamError } from "../../../src/errors.ts";
import { Connection, type ConnectOptions } from "../../../src/wire/connection.ts";
import type { AuthMethod, ConnectionOptions } from "../../../src/wire/options.ts";
import { type Handshake, pretendTls } from "../../support/pretended_tls.ts";
import { recordedCertificate } from "../../support/recorded_certificate.ts";
import {
  int32,
  msg,
  type Peer,
  say,
  scram,
  type ScriptedServer,
  startScripted,
} from "../../support/scripted_server.ts";

const secret = "canary-password";
const PLUS = "SCRAM-SHA-256-PLUS";
const PLAIN = "SCRAM-SHA-256";
const servers: ScriptedServer[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    await server.stop();
    assertEquals(server.failures, []);
  }
});

type Script = (peer: Peer) => Promise<void>;

/** The ways of asking, up to the end of the start-up; nothing is sent beyond what is asked for. */
const WAYS: Record<AuthMethod, Script> = {
  "none": async () => {},
  "password": async (peer) => {
    await peer.send(say.cleartext);
    assertEquals((await peer.message()).text, `${secret}\0`);
  },
  "md5": async (peer) => {
    await peer.send(msg("R", int32(5), [1, 2, 3, 4]));
    assertMatch((await peer.message()).text, /^md5[0-9a-f]{32}\0$/);
  },
  "scram-sha-256": async (peer) => {
    assert(await scram(peer, secret));
  },
};

interface Attempt {
  /** Default: the secret. */
  password?: string | null;
  options?: Partial<Omit<ConnectionOptions, "password">>;
  settings?: ConnectOptions;
  /** With it, the connection counts as encrypted. */
  tls?: Handshake;
  /** As if the server were on another machine. */
  far?: boolean;
}

/** Runs the script after the start-up message; `sent` is what it left unread. */
async function attempt(
  script: Script,
  { options = {}, settings = {}, tls, far = false, password = secret }: Attempt = {},
): Promise<{ error: PgStreamError | null; sent: string; warnings: string[]; started: boolean }> {
  let sent = "";
  let started = false;
  const server = await startScripted(async (peer) => {
    if (tls !== undefined) await peer.sslRequest("S");
    try {
      await peer.startup();
      started = true;
      await script(peer);
      await peer.send(say.authenticationOk, say.key, say.ready);
    } finally {
      sent = await peer.rest();
    }
  });
  servers.push(server);
  const { connect } = pretendTls(tls, server.port);
  const warnings: string[] = [];
  const full: ConnectionOptions = {
    ...server.options,
    ...(far ? { hosts: [{ host: "db.example.org", port: 5432 }] } : {}),
    ssl: { ...server.options.ssl, mode: tls === undefined ? "disable" : "require" },
    ...(password === null ? {} : { password }),
    ...options,
  };
  let error: PgStreamError | null = null;
  try {
    const connection = await Connection.connect(full, {
      connect,
      warnOnce: (message) => warnings.push(message),
      ...settings,
    });
    await connection.close();
  } catch (caught) {
    assertInstanceOf(caught, PgStreamError);
    assertFalse(inspect(caught, { depth: 20, showHidden: true }).includes("canary"));
    error = caught;
  }
  const deadline = Date.now() + 5000;
  while (server.open() > 0) {
    assert(Date.now() < deadline, "the connection stayed open");
    await delay(5);
  }
  return { error, sent, warnings, started };
}

/** Asks and sends nothing more: what comes then was sent unasked. */
function only(...messages: Uint8Array[]): Script {
  return async (peer) => {
    await peer.send(...messages);
    await peer.closed();
  };
}

const ASKED: Record<Exclude<AuthMethod, "none">, Uint8Array> = {
  "password": say.cleartext,
  "md5": msg("R", int32(5), [1, 2, 3, 4]),
  "scram-sha-256": say.sasl(PLAIN),
};

describe("require_auth", () => {
  test("absent allows every way that is known, and the ways that are in it", async () => {
    for (const [method, script] of Object.entries(WAYS)) {
      for (const requireAuth of [undefined, [method as AuthMethod], Object.keys(WAYS)]) {
        const options = requireAuth === undefined
          ? {}
          : { requireAuth: requireAuth as AuthMethod[] };
        const { error } = await attempt(script, { options });
        assertEquals(error, null, `${method}, ${requireAuth}`);
      }
    }
  });

  test("refuses every other way before anything is sent, and without a password too", async () => {
    for (const [method, message] of Object.entries(ASKED)) {
      const others = Object.keys(WAYS).filter((way) => way !== method) as AuthMethod[];
      let asked = false;
      const { error, sent } = await attempt(only(message), {
        options: { requireAuth: others },
        settings: {
          password: () => {
            asked = true;
            return secret;
          },
        },
      });
      assertEquals(error?.kind, "authentication-not-allowed", method);
      assertFalse(error!.retryable);
      assert(error!.message.includes(others.join(",")), error!.message);
      assert(error!.hint?.includes("scram-sha-256"));
      assertEquals(sent, "");
      assertFalse(asked, "the password was fetched for nothing");
    }
  });

  test("without `none` refuses a server that does not ask", async () => {
    for (const requireAuth of [["scram-sha-256"], ["password", "md5"]] as AuthMethod[][]) {
      const { error } = await attempt(WAYS.none, { options: { requireAuth } });
      assertEquals(error?.kind, "authentication-not-allowed");
      assert(error!.message.includes("without asking"), error!.message);
    }
  });

  test("holds for what is asked later too", async () => {
    const { error, sent } = await attempt(async (peer) => {
      await peer.send(say.sasl(PLAIN));
      await peer.message();
      await peer.send(say.cleartext);
      await peer.closed();
    }, { options: { requireAuth: ["scram-sha-256", "password"] } });
    assertEquals(error?.kind, "protocol-violation");
    assertEquals(sent, "");
  });
});

describe("channel binding", () => {
  const bound = { peerCertificate: recordedCertificate };
  const unbound: [string, Handshake][] = [
    ["a runtime that tells no certificate", { peerCertificate: null }],
    ["a certificate that has no hash", { peerCertificate: Uint8Array.of(0x30, 0) }],
  ];

  /** What a SCRAM server is told: the mechanism, the GS2 header, and the decoded `c=`. */
  async function told(
    mechanisms: string[],
    tls: Handshake | undefined,
    channelBinding: ConnectionOptions["channelBinding"],
  ): Promise<{ mechanism: string; header: string; binding: string }> {
    const seen: string[] = [];
    const { error } = await attempt(
      async (peer) => assert(await scram(peer, secret, { mechanisms, seen })),
      { ...(tls === undefined ? {} : { tls }), options: { channelBinding } },
    );
    assertEquals(error, null);
    const [initial, final] = seen as [string, string];
    const mechanism = initial.slice(0, initial.indexOf("\0"));
    const header = initial.slice(mechanism.length + 5, initial.indexOf("n=,r="));
    return { mechanism, header, binding: atob(/^c=([^,]*),/.exec(final)![1]!) };
  }

  test("is used where both sides can, and carries the hash of the certificate", async () => {
    const digest = createHash("sha384").update(recordedCertificate).digest();
    const hash = String.fromCharCode(...digest);
    for (const channelBinding of ["prefer", "require"] as const) {
      assertEquals(await told([PLUS, PLAIN], bound, channelBinding), {
        mechanism: PLUS,
        header: "p=tls-server-end-point,,",
        binding: `p=tls-server-end-point,,${hash}`,
      });
      assertEquals((await told([PLUS], bound, channelBinding)).mechanism, PLUS);
    }
  });

  test("that the server does not offer is told it, so that a downgrade comes out", async () => {
    const plain = { mechanism: PLAIN, header: "y,,", binding: "y,," };
    assertEquals(await told([PLAIN], bound, "prefer"), plain);
  });

  test("that is not possible, or not wanted, is not spoken of", async () => {
    const plain = { mechanism: PLAIN, header: "n,,", binding: "n,," };
    assertEquals(await told([PLUS, PLAIN], undefined, "prefer"), plain);
    assertEquals(await told([PLUS, PLAIN], bound, "disable"), plain);
    assertEquals(await told([PLAIN], bound, "disable"), plain);
    for (const [name, tls] of unbound) {
      assertEquals(await told([PLUS, PLAIN], tls, "prefer"), plain, name);
    }
  });

  test("required, fails before the server learns who we are where it is not possible", async () => {
    const required: Attempt = { options: { channelBinding: "require" } };
    const table: [Attempt, RegExp, RegExp][] = [
      [required, /not encrypted/, /sslmode=require/],
      [{ ...required, tls: unbound[0]![1] }, /runtime/, /verify-full/],
      [{ ...required, tls: unbound[1]![1] }, /signed/, /RSA or ECDSA/],
    ];
    for (const [settings, message, hint] of table) {
      const { error, started, sent } = await attempt(WAYS["scram-sha-256"], settings);
      assertEquals(error?.kind, "channel-binding");
      assertMatch(error!.summary, message);
      assertMatch(error!.hint!, hint);
      assertFalse(error!.retryable);
      assertFalse(started, "the start-up message was sent");
      assertEquals(sent, "");
    }
  });

  test("required, refuses every weaker way before anything is sent", async () => {
    const required: Attempt = { tls: bound, options: { channelBinding: "require" } };
    const table: [string, Script, RegExp][] = [
      ["plain SCRAM", only(say.sasl(PLAIN)), /does not offer SCRAM-SHA-256-PLUS/],
      ["something else", only(say.sasl("OAUTHBEARER")), /does not offer/],
      ["md5", only(ASKED.md5), /asks for md5/],
      ["the password", only(say.cleartext), /in the clear/],
      ["nothing", WAYS.none, /without asking/],
    ];
    for (const [name, script, message] of table) {
      const { error, sent } = await attempt(script, required);
      assertEquals(error?.kind, "channel-binding", name);
      assertMatch(error!.summary, message);
      assert(error!.hint !== undefined);
      assertEquals(sent, "", name);
    }
  });

  test("required, does not take AuthenticationOk for the server's proof", async () => {
    const { error } = await attempt(async (peer) => {
      await scram(peer, secret, { final: () => null });
    }, { tls: bound, options: { channelBinding: "require" } });
    assertEquals(error?.kind, "authentication");
  });

  test("that does not fit says that somebody is in between", async () => {
    for (
      const words of [
        "SCRAM channel binding check failed",
        "SCRAM channel binding negotiation error",
      ]
    ) {
      const { error } = await attempt(async (peer) => {
        await peer.send(say.error("FATAL", "28000", words));
        await peer.closed();
      }, { tls: bound });
      assertEquals(error?.kind, "authentication");
      assertMatch(error!.hint!, /in between/);
    }
  });
});

describe("a password in the clear", () => {
  test("is warned of where others could read it", async () => {
    const table: [Attempt, number][] = [
      [{ far: true }, 1],
      [{ far: true, tls: {} }, 0],
      [{}, 0],
    ];
    for (const [where, count] of table) {
      const { error, warnings } = await attempt(WAYS.password, where);
      assertEquals(error, null);
      assertEquals(warnings.length, count);
      for (const warning of warnings) {
        assertMatch(warning, /db\.example\.org:5432 .*"app".*in the clear.*sslmode=require/s);
        assertFalse(warning.includes("canary"));
      }
    }
  });

  test("is the host's own only where no other is given", async () => {
    const passwords: string[] = [];
    const script: Script = async (peer) => {
      await peer.send(say.cleartext);
      passwords.push((await peer.message()).text);
    };
    const hosts = [{ host: "127.0.0.1", port: 5432, password: "the host's" }];
    await attempt(script, { options: { hosts } });
    await attempt(script, { options: { hosts }, settings: { password: () => "the function's" } });
    const own = await attempt(script, { options: { hosts }, password: null });
    assertEquals(own.error, null);
    assertEquals(passwords, [`${secret}\0`, "the function's\0", "the host's\0"]);
  });
});

test("who is let in only with encryption, or only without, is told so", async () => {
  const from = 'for host "10.1.2.3", user "app", database "db"';
  const table: [string, RegExp][] = [
    [`no pg_hba.conf entry ${from}, no encryption`, /sslmode=require/],
    [`no pg_hba.conf entry ${from}, SSL off`, /sslmode=require/],
    [`pg_hba.conf rejects connection ${from}, no encryption`, /sslmode=require/],
    [`no pg_hba.conf entry ${from}, SSL encryption`, /sslmode=disable/],
    [
      `no pg_hba.conf entry for replication connection from host "::1", user "a", SSL on`,
      /disable/,
    ],
    ['no pg_hba.conf entry for host "[local]", user "app", database "db"', /pg_hba\.conf lets/],
    ['role "app" does not exist', /Check user/],
  ];
  for (const [words, hint] of table) {
    const { error } = await attempt(async (peer) => {
      await peer.send(say.error("FATAL", "28000", words));
      await peer.closed();
    });
    assertEquals(error?.kind, "authentication");
    assertEquals(error!.summary, `${words} (SQLSTATE 28000)`);
    assertMatch(error!.hint!, hint, words);
  }
});

test("a refusal of many words is told at once, whatever it is made of", async () => {
  const words = "pg_hba.conf ".repeat(20_000);
  const begun = performance.now();
  const { error } = await attempt(only(say.error("FATAL", "28000", words)));
  assert(performance.now() - begun < 2000, `${performance.now() - begun} ms`);
  assertEquals(error?.kind, "authentication");
});

test("what PgBouncer says to replication leads past it", async () => {
  const { error } = await attempt(
    only(say.error("FATAL", "08P01", "unsupported startup parameter: replication")),
    { settings: { replication: "database" } },
  );
  assertEquals([error?.kind, error?.retryable], ["protocol-rejected", false]);
  assert(error!.hint?.includes("direct address"));
});
