import { assert, assertEquals, assertFalse, assertRejects, assertThrows } from "@std/assert";
import { test } from "node:test";
import { serverEndPoint } from "../../../src/wire/channel_binding.ts";
import { WireError } from "../../../src/wire/errors.ts";
import { MAX_SCRAM_ITERATIONS, randomScramNonce, ScramExchange } from "../../../src/wire/scram.ts";
import { recordedCertificate } from "../../support/recorded_certificate.ts";

// Recorded against PostgreSQL 18.4.
const recorded = {
  password: "päss wörd",
  nonce: "sRd3YB8w9RU30LPpGFMXLtnr",
  clientFirst: "n,,n=,r=sRd3YB8w9RU30LPpGFMXLtnr",
  serverFirst:
    "r=sRd3YB8w9RU30LPpGFMXLtnrougXEdG8owKKakGwxFeiVADk,s=sOerjKbUBfLbxv/Xc1Xw7A==,i=4096",
  clientFinal: "c=biws,r=sRd3YB8w9RU30LPpGFMXLtnrougXEdG8owKKakGwxFeiVADk," +
    "p=9+RcfP45MA2+dOkWx9Ky2LpzKFxcEYTFCiiCpAV6waI=",
  serverFinal: "v=9yukrbw1u+/3gQyT1OkZI2RXczuhAwNODwRdhBpPvmQ=",
};

async function exchanged(): Promise<ScramExchange> {
  const exchange = new ScramExchange(recorded.password, recorded.nonce);
  exchange.clientFirst();
  await exchange.clientFinal(recorded.serverFirst);
  return exchange;
}

function started(): ScramExchange {
  const exchange = new ScramExchange(recorded.password, recorded.nonce);
  exchange.clientFirst();
  return exchange;
}

test("an exchange that a real server accepted comes out the same", async () => {
  const exchange = new ScramExchange(recorded.password, recorded.nonce);
  assertEquals(exchange.clientFirst(), recorded.clientFirst);
  assertEquals(await exchange.clientFinal(recorded.serverFirst), recorded.clientFinal);
  assertEquals(exchange.iterations, 4096);
  assertFalse(exchange.verified);
  exchange.verifyServerFinal(recorded.serverFinal);
  assert(exchange.verified);
});

test("an exchange bound to TLS that a real server accepted comes out the same", async () => {
  const binding = await serverEndPoint(recordedCertificate);
  const exchange = new ScramExchange(recorded.password, "2wILiyTcG/sqMKiI6WnFArQu", binding!);
  assertEquals(
    exchange.clientFirst(),
    "p=tls-server-end-point,,n=,r=2wILiyTcG/sqMKiI6WnFArQu",
  );
  assertEquals(
    await exchange.clientFinal(
      "r=2wILiyTcG/sqMKiI6WnFArQuDfFgeZkyBALSlnz4dhnEdMyB,s=bLC1SPRjP3gp91J5+QxtBw==,i=4096",
    ),
    "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCwsOOdZPolduYPwJ68xO3iuBAE36uNLdzaJhKhm1fqhFsx+38soOA13a/sLyzAU406d," +
      "r=2wILiyTcG/sqMKiI6WnFArQuDfFgeZkyBALSlnz4dhnEdMyB," +
      "p=/7GOoz5WE9ux039ok6D/h1vqlV8it1Ly70gaORWyUh8=",
  );
  exchange.verifyServerFinal("v=YMI539m54MmcaF3geRG05aZWBuAbD2OZmskXniCWaD4=");
  assert(exchange.verified);
});

test("a server that is not known to offer the binding is told that it could have been", async () => {
  const exchange = new ScramExchange(recorded.password, recorded.nonce, "not-offered");
  assertEquals(exchange.clientFirst(), recorded.clientFirst.replace("n,,", "y,,"));
  const final = await exchange.clientFinal(recorded.serverFirst);
  assert(final.startsWith("c=eSws,"), final);
  // It is part of what is signed: nobody on the way can turn it into the other one.
  assertFalse(final.endsWith(recorded.clientFinal.slice(recorded.clientFinal.indexOf(",p="))));
});

test("the example of RFC 7677 comes out the same", async () => {
  const exchange = new ScramExchange("pencil", "rOprNGfwEbeRWgbNEkqO", "none", "user");
  assertEquals(exchange.clientFirst(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
  assertEquals(
    await exchange.clientFinal(
      "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    ),
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0," +
      "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
  );
  exchange.verifyServerFinal("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
  assert(exchange.verified);
});

test("a server that does not prove that it knows the password is refused (29)", async () => {
  const right = recorded.serverFinal;
  const finals = [
    right.replace("9y", "9x"),
    right.replace("Q=", "U="),
    "v=",
    "v=AAAA",
    "v=!",
    "",
    "x=1",
    "e=invalid-proof",
    `x=1,${right}`,
  ];
  for (const final of finals) {
    const exchange = await exchanged();
    const error = assertThrows(() => exchange.verifyServerFinal(final), WireError);
    assertEquals(error.kind, "authentication", final);
    assertFalse(exchange.verified);
    // Nor may it try a second time.
    assertThrows(() => exchange.verifyServerFinal(right), WireError, "out of order");
  }
});

test("a first message with a nonce, salt or count that is not right is refused", async () => {
  const { nonce } = recorded;
  const messages = [
    `r=${nonce},s=AAAA,i=4096`, // nothing added by the server
    `r=X${nonce}X,s=AAAA,i=4096`,
    `r=,s=AAAA,i=4096`,
    `r=${nonce}X,s=,i=4096`,
    `r=${nonce}X,s=A!AA,i=4096`,
    `r=${nonce}X,s=AAAAA,i=4096`,
    `r=${nonce}X,s=AAAA,i=0`,
    `r=${nonce}X,s=AAAA,i=-1`,
    `r=${nonce}X,s=AAAA,i=1e9`,
    `r=${nonce}X,s=AAAA,i=`,
    `r=${nonce}X,s=AAAA`,
    `m=ext,r=${nonce}X,s=AAAA,i=4096`,
    "e=other-error",
    "",
  ];
  for (const message of messages) {
    const error = await assertRejects(() => started().clientFinal(message), WireError);
    assertEquals(error.kind, "authentication", message);
    assertFalse(error.message.includes(recorded.password));
  }
});

test("an iteration count that would hang the client is refused at once; a low one is legal", async () => {
  for (const count of [MAX_SCRAM_ITERATIONS + 1, 2 ** 31 - 1, 9_999_999_999]) {
    const begun = performance.now();
    await assertRejects(
      () => started().clientFinal(`r=${recorded.nonce}X,s=AAAA,i=${count}`),
      WireError,
      `${count}`,
    );
    assert(performance.now() - begun < 1000);
  }
  await started().clientFinal(`r=${recorded.nonce}X,s=AAAA,i=1`);
});

test("messages out of order are refused", async () => {
  const early = new ScramExchange(recorded.password, recorded.nonce);
  await assertRejects(() => early.clientFinal(recorded.serverFirst), WireError, "out of order");
  assertThrows(() => started().verifyServerFinal(recorded.serverFinal), WireError, "out of order");
  const twice = await exchanged();
  await assertRejects(() => twice.clientFinal(recorded.serverFirst), WireError, "out of order");
});

test("each exchange has a nonce of its own", () => {
  const nonces = new Set(Array.from({ length: 100 }, randomScramNonce));
  assertEquals(nonces.size, 100);
  for (const nonce of nonces) assert(/^[\x21-\x2b\x2d-\x7e]{24}$/.test(nonce), nonce);
});
