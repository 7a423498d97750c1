/** How many hostile servers there are: each is another behaviour, and says so in its name. */
import { assert, assertEquals } from "@std/assert";
import { test } from "node:test";
import type { HostileCase } from "../support/hostile_server.ts";
import { CATALOGUE } from "./cases/catalogue.ts";
import { COPY_BOTH, COPY_OUT } from "./cases/copies.ts";
import { ENCRYPTION } from "./cases/encryption.ts";
import { FLOODS, STREAM_FLOODS } from "./cases/floods.ts";
import { PGOUTPUT } from "./cases/pgoutput.ts";
import { QUERIES } from "./cases/queries.ts";
import { SCRAM } from "./cases/scram.ts";
import { STARTUP } from "./cases/startup.ts";

const THEMES: Readonly<Record<string, readonly HostileCase[]>> = {
  "start-up": STARTUP,
  TLS: ENCRYPTION,
  SCRAM,
  queries: QUERIES,
  COPY: COPY_OUT,
  START_REPLICATION: COPY_BOTH,
  "the catalogue": CATALOGUE,
  pgoutput: PGOUTPUT,
  floods: [...FLOODS, ...STREAM_FLOODS],
};

/** Servers that do what they should are there to show that the others fail for what they do. */
const onlyWorks = ({ kinds }: HostileCase) => kinds.every((kind) => kind === "works");

test("there are at least 150 hostile servers, no two of a name", () => {
  const all = Object.values(THEMES).flat();
  const names = new Set(all.map(({ name }) => name));
  const refused = all.filter((hostile) => !onlyWorks(hostile));
  const counts = Object.entries(THEMES).map(([theme, cases]) => `${theme} ${cases.length}`);
  console.log(`${all.length} servers, ${refused.length} of them refused: ${counts.join(", ")}`);
  assertEquals(names.size, all.length, "two servers have the same name");
  assert(refused.length >= 150);
});
