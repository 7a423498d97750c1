/** Files that connection options name, under Deno's permissions. */
import { assert, assertEquals } from "@std/assert";

const src = new URL("../../src/wire/", import.meta.url);

Deno.test("files are read where that was allowed before, and nobody is asked", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/text`;
    await Deno.writeTextFile(path, "text");
    const script = `${folder}/read.ts`;
    await Deno.writeTextFile(
      script,
      `import { readTextFile } from ${JSON.stringify(new URL("files.ts", src))};
      import { parseConnectionOptions } from ${JSON.stringify(new URL("options.ts", src))};
      const [path, home] = Deno.args;
      console.log(JSON.stringify(readTextFile(path)));
      const parse = (dsn) => parseConnectionOptions(dsn, { USER: "me", HOME: home }, readTextFile);
      console.log(JSON.stringify(parse("host=h sslmode=verify-full").warnings));
      try {
        parse("host=h sslrootcert=" + path);
      } catch (error) {
        console.log(error.message);
      }`,
    );
    const run = async (...flags: string[]) => {
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--no-check", "--no-config", ...flags, script, path, folder],
      }).output();
      assertEquals(new TextDecoder().decode(stderr), "");
      return new TextDecoder().decode(stdout).trimEnd().split("\n");
    };
    const [read, warnings, message] = await run();
    const hint = `Run with --allow-read=${path}.`;
    assertEquals(JSON.parse(read!), { reason: "reading it is not allowed", hint });
    assertEquals(warnings, "[]");
    assert(message?.endsWith(`"${path}": reading it is not allowed. ${hint}`), message);
    assertEquals(JSON.parse((await run(`--allow-read=${path}`))[0]!).text, "text");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
