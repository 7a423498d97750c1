/** Data walks one way through the rooms, and so do imports. This is where the rooms are written down. */

import { assert, assertEquals } from "@std/assert";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";

interface Room {
  /** The rooms that its files may import from; a file where only that one may be imported. */
  imports: string[];
  /** Leaves that it may import. Default: all. */
  leaves?: string[];
  /** Packages, and how the files of it begin that may import them. */
  packages?: Record<string, string>;
}

const BELOW_STREAM = [
  "pgoutput",
  "values",
  "transport",
  "wire",
  "replication",
  "inspect",
  "delivery",
  "backfill",
];

/** Leaves are the files in `src/` itself, but for entry points. Not all of the rooms exist yet. */
const ROOMS: Record<string, Room> = {
  pgoutput: { imports: [], leaves: ["bytes.ts", "errors.ts"] },
  values: { imports: [] },
  transport: { imports: [] },
  // The interface, and what finds its adapter: never an adapter.
  wire: { imports: ["transport/transport.ts", "transport/default.ts"] },
  replication: { imports: ["wire"] },
  inspect: { imports: ["wire", "replication"] },
  delivery: { imports: ["pgoutput", "values"] },
  backfill: { imports: ["replication", "wire", "values", "delivery"] },
  // The contract of a sink, for a handler is given one: never a store.
  stream: { imports: [...BELOW_STREAM, "sinks/sink.ts", "sinks/rows.ts", "sync"] },
  sinks: {
    imports: ["values"],
    packages: { "postgres": "sinks/pgvector", "@qdrant/js-client-rest": "sinks/qdrant" },
  },
  // The contract of a sink, how payloads are written and positions compared: never a store.
  sync: {
    imports: [
      ...BELOW_STREAM,
      ...["sinks/sink.ts", "sinks/rows.ts", "sinks/payload.ts", "sinks/positions.ts"],
    ],
  },
  testing: { imports: [...BELOW_STREAM, "stream"] },
  cli: { imports: [...BELOW_STREAM, "stream", "sinks", "sync"] },
};

/** Entry points in `src/` itself, and the room that each of them re-exports. */
const ENTRY_POINTS: Record<string, string> = { "workers.ts": "transport" };

/** Entry points of their own, for what they bring along. */
const NOT_IN_MOD = ["sinks/pgvector", "sinks/qdrant", "cli/", "workers", "testing/", "sync/"];

interface Import {
  /** As `wire/frames.ts`, from `src/`; of another package, as it is written. */
  target: string;
  local: boolean;
  dynamic: boolean;
  /** Types are gone when the code runs. */
  types: boolean;
}

const root = fileURLToPath(new URL("../../", import.meta.url));
const src = join(root, "src");
const files = new Map<string, Import[]>();
for (const entry of readdirSync(src, { recursive: true, encoding: "utf8" })) {
  if (entry.endsWith(".ts")) files.set(toPath(entry), readImports(join(src, entry)));
}
const modImports = readImports(join(root, "mod.ts"));

function toPath(path: string): string {
  return path.replaceAll("\\", "/");
}

function readImports(path: string): Import[] {
  const code = readFileSync(path, "utf8")
    .replaceAll(/\/\*[^]*?\*\//g, "")
    .replaceAll(/^\s*\/\/.*$/gm, "");
  const imports: Import[] = [];
  const statement =
    /^(?:(?:import|export)\s+(type\b)?[\w\s{},*$]*?\bfrom|import)\s*["']([^"'\n]+)["']/gm;
  for (const [, type, written] of code.matchAll(statement)) {
    imports.push({ ...resolve(path, written!, false), types: type !== undefined });
  }
  for (const [, written] of code.matchAll(/\bimport\(\s*["']([^"'\n]+)["']/g)) {
    imports.push(resolve(path, written!, true));
  }
  return imports;
}

function resolve(importer: string, written: string, dynamic: boolean): Import {
  if (!written.startsWith(".")) return { target: written, local: false, dynamic, types: false };
  const target = toPath(relative(src, join(dirname(importer), written)));
  return { target, local: true, dynamic, types: false };
}

function roomOf(file: string): string | null {
  return file.includes("/") ? file.slice(0, file.indexOf("/")) : null;
}

function mayImport(file: string, { target, local, dynamic }: Import): boolean {
  const room = roomOf(file);
  if (room === null) return local && roomOf(target) === ENTRY_POINTS[file];
  const { imports, leaves, packages = {} } = ROOMS[room]!;
  if (!local) {
    // A runtime's own modules: by the adapter of that runtime, or when they are needed.
    if (target.startsWith("node:")) return room === "transport" || room === "cli" || dynamic;
    return packages[target] !== undefined && file.startsWith(packages[target]);
  }
  const targetRoom = roomOf(target);
  if (targetRoom === null && ENTRY_POINTS[target] !== undefined) return false;
  if (targetRoom === null) return leaves?.includes(target) ?? true;
  return targetRoom === room || imports.includes(targetRoom) || imports.includes(target);
}

/** All that is loaded with these imports: what a static import reaches. */
function reach(imports: Import[], seen: Map<string, Import> = new Map()): Map<string, Import> {
  for (const found of imports) {
    if (found.dynamic || found.types || seen.has(found.target)) continue;
    seen.set(found.target, found);
    if (found.local) reach(files.get(found.target) ?? [], seen);
  }
  return seen;
}

function findCircle(file: string, path: string[] = [], done: Set<string>): string[] | null {
  if (path.includes(file)) return [...path.slice(path.indexOf(file)), file];
  if (done.has(file)) return null;
  for (const { target, local, dynamic } of files.get(file) ?? []) {
    const circle = local && !dynamic ? findCircle(target, [...path, file], done) : null;
    if (circle !== null) return circle;
  }
  done.add(file);
  return null;
}

describe("the import graph", () => {
  test("was read: each room has files, and each import leads to one", () => {
    assert(files.size > 20 && modImports.length > 5);
    for (const [file, imports] of files) {
      for (const { target, local } of imports) {
        assert(!local || files.has(target), `${file} imports ${target}, which is not there`);
      }
    }
  });

  test("has no room that is not in the table", () => {
    const unknown = [...files.keys()].filter((file) => {
      const room = roomOf(file);
      return room !== null && ROOMS[room] === undefined;
    });
    assertEquals(unknown, []);
  });

  test("goes one way: no room imports one that it may not, and a leaf imports nothing", () => {
    const wrong: string[] = [];
    for (const [file, imports] of files) {
      for (const found of imports) {
        if (!mayImport(file, found)) wrong.push(`${file} -> ${found.target}`);
      }
    }
    assertEquals(wrong, []);
  });

  test("has no circle", () => {
    const done = new Set<string>();
    for (const file of files.keys()) assertEquals(findCircle(file, [], done), null);
  });

  test("of mod.ts loads no other package, no runtime's module and no store", () => {
    const reached = [...reach(modImports).values()];
    assertEquals(reached.filter(({ local }) => !local).map(({ target }) => target), []);
    assertEquals(
      reached.map(({ target }) => target)
        .filter((target) => NOT_IN_MOD.some((start) => target.startsWith(start))),
      [],
    );
  });

  test("has its leaves where every room finds them, and they import nothing at all", () => {
    const leaves = [...files].filter(([file]) =>
      roomOf(file) === null && ENTRY_POINTS[file] === undefined
    );
    for (
      const name of ["lsn.ts", "bytes.ts", "errors.ts", "change.ts", "logger.ts", "backoff.ts"]
    ) {
      assert(leaves.some(([file]) => file === name), `${name} is not there`);
    }
    for (const [file, imports] of leaves) assertEquals(imports, [], file);
  });

  test("of ./workers loads its adapter alone, and nothing of the platform's", () => {
    assertEquals([...reach(files.get("workers.ts") ?? []).keys()].sort(), [
      "errors.ts",
      "transport/transport.ts",
      "transport/workers.ts",
    ]);
  });

  test("of ./sync loads itself, and what reads a variable and a vector", () => {
    const reached = [...reach(files.get("sync/mod.ts") ?? []).keys()];
    assertEquals(reached.filter((target) => !target.startsWith("sync/")).sort(), [
      "backoff.ts",
      "errors.ts",
      "values/vector.ts",
      "wire/environment.ts",
      "wire/parameters.ts",
    ]);
  });

  test("of ./pgoutput loads the decoder alone", () => {
    const rooms = [...reach(files.get("pgoutput/mod.ts") ?? []).keys()].map(roomOf);
    assertEquals(rooms.filter((room) => room !== null && room !== "pgoutput"), []);
  });
});
