/** The variables of the environment that concern a connection. */
import { OTHER_VARIABLES, VARIABLES } from "./parameters.ts";

/** Variables by name. */
export type Environment = Readonly<Record<string, string | undefined>>;

interface Runtime {
  readonly process?: { readonly env?: Environment };
  readonly Deno?: {
    readonly permissions: {
      querySync(descriptor: { name: "env"; variable: string }): { readonly state: string };
    };
  };
}

/**
 * The variables that {@linkcode parseConnectionOptions} looks at, as far as they are set. Empty
 * where the runtime has no environment. On Deno a variable counts as not set unless the permission
 * to read it was granted before: nobody is asked, and nothing is thrown.
 */
export function environment(): Environment {
  return variables([...Object.values(VARIABLES), ...OTHER_VARIABLES]);
}

/** Of these variables those that are set, with the same exception for Deno. */
export function variables(names: readonly string[]): Environment {
  const { process, Deno } = globalThis as Runtime;
  const env: Record<string, string | undefined> = {};
  for (const name of names) {
    if (name === "") continue;
    if (Deno && Deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") {
      continue;
    }
    const value = process?.env?.[name];
    if (value !== undefined) env[name] = value;
  }
  return env;
}
