/** A part of the matrix of `deno task test:connect`, on the runtime that runs this. */

import { assertEquals } from "@std/assert";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import {
  allCells,
  expected,
  nameOf,
  type RuntimeName,
  TLS,
  type TlsName,
} from "../connect/cells.ts";
import { outcomeOf } from "../connect/outcome.ts";
import { dsnOf, PASSWORD, type RunningPlaces, startPlaces } from "../connect/places.ts";
import { needsOwnServer } from "../support/servers/test_postgres.ts";

const MAJOR = 18;
// Prime to the length of each axis, so that every value meets every other one.
const STRIDE = 7;

const runtime: RuntimeName = process.versions.deno !== undefined
  ? "deno"
  : process.versions.bun !== undefined
  ? "bun"
  : "node";
const cells = allCells().filter((_, index) => index % STRIDE === 0);

describe("a connection", { skip: needsOwnServer }, () => {
  let running: RunningPlaces;
  before(async () => {
    running = await startPlaces(MAJOR);
  });
  after(() => running?.stop());

  for (const tls of Object.keys(TLS) as TlsName[]) {
    test(`as ${tls} comes about as libpq's would, or says why not`, async () => {
      for (const cell of cells.filter((cell) => cell.tls === tls)) {
        const outcome = await outcomeOf(dsnOf(cell, running.places), PASSWORD);
        assertEquals(outcome, expected(cell, runtime, MAJOR), nameOf(cell));
      }
    });
  }
});
