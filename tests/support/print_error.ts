/** Prints an error of the server in all the ways of programs. Argument: what its private fields hold. */
import process from "node:process";
import { inspect } from "node:util";
import { PostgresError } from "../../mod.ts";

const secret = process.argv[2]!;
const error = new PostgresError({
  severity: "ERROR",
  code: "23505",
  message: "duplicate key value violates unique constraint",
  detail: `Key (content)=(${secret}) already exists.`,
  where: `SQL statement "INSERT INTO documents VALUES ('${secret}')"`,
  internalQuery: `INSERT INTO documents VALUES ('${secret}')`,
});
const outer = new Error("outer", { cause: error });
console.error(error);
console.error("in a sentence:", error, [error], { error });
console.error(outer);
console.log(inspect(error, { depth: Infinity }), inspect(outer, { depth: Infinity }));
console.log(
  JSON.stringify(error),
  JSON.stringify({ error }),
  JSON.stringify(Object.entries(error)),
);
console.log(JSON.stringify({ ...error }));
// Last: an error that nobody catches is printed by the runtime itself.
throw outer;
