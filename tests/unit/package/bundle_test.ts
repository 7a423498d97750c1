/** What `deno task bundle` makes: how large it is, and what it brings along. */

import { assert, assertEquals } from "@std/assert";
import { before, describe, test } from "node:test";
import { type Bundle, type BundleFile, BUNDLES, makeBundle } from "../../support/package/bundle.ts";

/** Loaded when they are needed, by those runtimes that have them. */
const NODE_MODULES = /^node:(net|tls|crypto|fs(\/promises)?|path|stream|timers)$/;

const bundles = new Map<string, { bundle: Bundle; files: BundleFile[] }>();

before(async () => {
  for (const bundle of BUNDLES) {
    bundles.set(bundle.name, { bundle, files: await makeBundle(bundle, { minify: true }) });
  }
});

function filesOf(name: string): BundleFile[] {
  return bundles.get(name)!.files;
}

/** What code says that it imports; texts of errors name modules, too, but behind no `from`. */
function importsIn(code: string): string[] {
  return [...code.matchAll(/\b(?:from|import)\s*\(?\s*(["'`])([^"'`\n]+)\1/g)].map(([, , id]) =>
    id!
  );
}

describe("a bundle", () => {
  for (const { name } of BUNDLES) {
    test(`${name} is as small as it was`, () => {
      const { bundle, files } = bundles.get(name)!;
      const { gzipBytes } = files[0]!;
      assert(gzipBytes <= bundle.mostBytes, `${gzipBytes} bytes, most: ${bundle.mostBytes}`);
    });
  }

  test("of the core is one file, and loads others only when they are needed", () => {
    const [core, ...parts] = filesOf("pgstream");
    assertEquals(core!.imports, []);
    for (const { name, dynamicImports, imports } of parts) {
      assert(
        [core!, ...parts].some((file) => file.dynamicImports.includes(name)) ||
          parts.some((part) => part.imports.includes(name)),
        `${name} is loaded by nobody`,
      );
      for (const id of [...imports, ...dynamicImports]) {
        assert(
          id === core!.name || NODE_MODULES.test(id) || parts.some((part) => part.name === id),
        );
      }
    }
    assert(core!.dynamicImports.length > 0);
    for (const id of core!.dynamicImports) {
      assert(/^node:(fs(\/promises)?|path|crypto)$/.test(id) || id.startsWith("pgstream-"), id);
    }
  });

  test("of the core comes in few files: each that is served costs a round trip", () => {
    const files = filesOf("pgstream");
    assert(files.length <= 16, files.map(({ name }) => name).join(", "));
  });

  test("of the core has no store and no store's client in it", () => {
    const sources = filesOf("pgstream").flatMap((file) => file.sources);
    assert(sources.includes("src/stream/pg_stream.ts"));
    assertEquals(sources.filter((source) => /^src\/sinks\/(pgvector|qdrant)/.test(source)), []);
    assertEquals(sources.filter((source) => source.includes("node_modules")), []);
  });

  test("says in its code what it says of it: no import beside those", () => {
    for (const { files } of bundles.values()) {
      for (const { code, imports, dynamicImports } of files) {
        const known = [...imports, ...dynamicImports];
        const found = importsIn(code).map((id) => id.replace(/^\.\//, ""));
        assertEquals(found.filter((id) => !known.includes(id)), []);
        assertEquals(new Set(found).size, new Set(known).size);
      }
    }
  });

  test("for Workers is one file, and imports nothing", () => {
    const files = filesOf("pgstream.workers");
    assertEquals(files.length, 1);
    assertEquals(files[0]!.imports, []);
    assertEquals(files[0]!.dynamicImports, []);
    assert(files[0]!.sources.includes("src/stream/pg_stream.ts"));
    assertEquals(files[0]!.sources.filter((source) => source.startsWith("src/transport/node")), []);
  });

  test("of the decoder is one file, and imports nothing", () => {
    const files = filesOf("pgoutput");
    assertEquals(files.map(({ imports, dynamicImports }) => [...imports, ...dynamicImports]), [[]]);
    assert(files[0]!.sources.every((source) => /^src\/(pgoutput\/|bytes|errors)/.test(source)));
  });
});
