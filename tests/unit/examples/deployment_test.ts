/** What is deployed by the examples, and typed by who reads the README, is what the command line understands. */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { readdir, readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { checkConfig } from "../../../src/cli/config_check.ts";
import { argumentsOf, refusalOf } from "../../support/cli_lines.ts";

const root = new URL("../../../", import.meta.url);
const folder = new URL("examples/deployment/", root);
const read = (file: string) => readFile(new URL(file, folder), "utf8");
const PROBES = { live: "/healthz", ready: "/readyz", metrics: "/metrics" };
/** Where the user of a container is not the one that listens. */
const ANY_HOST = "0.0.0.0";

/** Sections of a unit, each key with its values. */
function parseUnit(text: string): Map<string, Map<string, string[]>> {
  const sections = new Map<string, Map<string, string[]>>();
  let section: Map<string, string[]> | undefined;
  for (const line of text.split("\n")) {
    if (line === "" || /^[#;]/.test(line)) continue;
    const header = /^\[(\w+)\]$/.exec(line)?.[1];
    if (header !== undefined) sections.set(header, section = new Map());
    else {
      const [, key, value] = /^(\w+)=(.+)$/.exec(line) ?? [];
      assert(key !== undefined && section !== undefined, line);
      section.set(key, [...section.get(key) ?? [], value!]);
    }
  }
  return sections;
}

/** Instructions of a Dockerfile in their order; lines that go on are not used. */
function parseDockerfile(text: string): [instruction: string, rest: string][] {
  return text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
    const [, instruction, rest] = /^([A-Z]+) (.+)$/.exec(line) ?? [];
    assert(instruction !== undefined && !line.endsWith("\\"), line);
    return [instruction, rest!];
  });
}

function flag(args: readonly string[], name: string): string | undefined {
  return args[args.indexOf(`--${name}`) + 1];
}

describe("examples/deployment", () => {
  test("are all looked at here", async () => {
    assertEquals((await readdir(folder)).sort(), [
      "Dockerfile",
      "kubernetes.yaml",
      "pgstream.service",
    ]);
  });

  test("the unit starts sync, and not again for what only a person can mend", async () => {
    const unit = parseUnit(await read("pgstream.service"));
    assertEquals([...unit.keys()], ["Unit", "Service", "Install"]);
    const service = unit.get("Service")!;
    const [start, ...others] = service.get("ExecStart")!;
    assertEquals(others, []);
    const [program, ...args] = start!.split(" ");
    assert(program!.startsWith("/") && program!.endsWith("/pgstream"), program);
    assertEquals(await refusalOf(args), null);
    assertEquals(args[0], "sync");
    assertEquals(service.get("RestartPreventExitStatus"), ["2"]);
    // The library takes ten seconds at most.
    assert(Number(service.get("TimeoutStopSec")![0]) > 10);
  });

  test("the image runs sync itself, as no root, and is asked where it listens", async () => {
    const instructions = parseDockerfile(await read("Dockerfile"));
    const of = (name: string) =>
      instructions.filter(([instruction]) => instruction === name).map(([, rest]) => rest);
    assertEquals(instructions[0]![0], "FROM");
    // In brackets: no shell stands before it, which would keep SIGTERM to itself.
    const [entry, args] = [of("ENTRYPOINT"), of("CMD")].map(([rest]) =>
      JSON.parse(rest!) as string[]
    );
    assertEquals(entry, ["node_modules/.bin/pgstream"]);
    assertEquals(await refusalOf(args!), null);
    assertEquals(flag(args!, "metrics-host"), ANY_HOST);
    const port = flag(args!, "metrics-port")!;
    assertEquals(of("EXPOSE"), [port]);
    assert(of("HEALTHCHECK")[0]!.includes(`http://127.0.0.1:${port}${PROBES.live}`));
    assertNotEquals(of("USER"), []);
  });

  test("the manifest's probes ask where sync listens, and its configuration can be", async () => {
    const documents = parseAllDocuments(await read("kubernetes.yaml"));
    for (const document of documents) assertEquals([document.errors, document.warnings], [[], []]);
    // deno-lint-ignore no-explicit-any
    const [config, deployment] = documents.map((document) => document.toJS()) as any[];
    assertEquals([config.kind, deployment.kind], ["ConfigMap", "Deployment"]);
    checkConfig(JSON.parse(config.data["pgstream.json"]), { environment: {} });
    const { spec, metadata } = deployment.spec.template;
    assertEquals(metadata.labels, deployment.spec.selector.matchLabels);
    assertEquals([deployment.spec.replicas, deployment.spec.strategy.type], [1, "Recreate"]);
    const [container] = spec.containers;
    for (const arg of container.args) assertEquals(typeof arg, "string", "Kubernetes takes texts");
    assertEquals(await refusalOf(container.args), null);
    assertEquals(flag(container.args, "metrics-host"), ANY_HOST);
    const [port] = container.ports;
    assertEquals(flag(container.args, "metrics-port"), `${port.containerPort}`);
    assertEquals(metadata.annotations["prometheus.io/port"], `${port.containerPort}`);
    assertEquals(metadata.annotations["prometheus.io/path"], PROBES.metrics);
    const { livenessProbe, readinessProbe } = container;
    assertEquals(livenessProbe.httpGet, { path: PROBES.live, port: port.name });
    assertEquals(readinessProbe.httpGet, { path: PROBES.ready, port: port.name });
    const [mount] = container.volumeMounts;
    const [volume] = spec.volumes;
    assertEquals([mount.name, volume.configMap.name], [volume.name, config.metadata.name]);
    assertEquals(flag(container.args, "config"), `${mount.mountPath}/pgstream.json`);
  });

  test("hold no secret", async () => {
    for (const file of await readdir(folder)) {
      const text = await read(file);
      assert(!/:\/\/[^\s/:]+:[^\s@…]+@|sk-\w/.test(text), file);
    }
  });
});

test("each pgstream that the README has typed, in its blocks and its lines, can be", async () => {
  const readme = await readFile(new URL("README.md", root), "utf8");
  const blocks = [...readme.matchAll(/^```sh\n([^]*?)^```$/gm)].flatMap(([, text]) =>
    text!.split("\n")
  );
  const inline = [...readme.matchAll(/`((?:npx )?pgstream [a-z][^`]*)`/g)].map(([, text]) => text!);
  const lines = [...blocks, ...inline];
  let checked = 0;
  for (const line of lines) {
    const args = argumentsOf(line);
    // A name alone is no command line: `deno add jsr:@pgstream/pgstream`.
    if (args === null || args.length === 0) continue;
    assertEquals(await refusalOf(args), null, line);
    checked++;
  }
  assert(checked >= 5, `${checked}`);
});

test("the command line that is looked at is the one that a shell would make", () => {
  assertEquals(argumentsOf("npx pgstream tail \"a b\" --where 'x > 1' | jq . # so"), [
    "tail",
    "a b",
    "--where",
    "x > 1",
  ]);
  assertEquals(argumentsOf("npx -y @pgstream/pgstream doctor"), ["doctor"]);
  assertEquals(
    argumentsOf("deno run --allow-net jsr:@pgstream/pgstream/cli sync --once"),
    ["sync", "--once"],
  );
  assertEquals(argumentsOf("npm install @pgstream/pgstream"), null);
  assertEquals(argumentsOf("deno task pgstreams"), null);
});
