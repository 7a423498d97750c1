import { assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { inParts, runParts } from "../../../src/sinks/pgvector_points.ts";
import { turn } from "../delivery/harness.ts";

/** A server that answers when it is told to. */
function server() {
  const asked: { part: string; answer: PromiseWithResolvers<readonly unknown[]> }[] = [];
  return {
    asked,
    run: (_statement: string, [part]: string[] = []) => {
      const answer = Promise.withResolvers<readonly unknown[]>();
      asked.push({ part: part!, answer });
      return answer.promise;
    },
  };
}

describe("parts of a transaction", () => {
  test("are as large as they may be, and hold a row that is larger alone", () => {
    assertEquals([...inParts(["aa", "b", "cccccc", "d"], 4)], ["[aa,b]", "[cccccc]", "[d]"]);
    assertEquals([...inParts([], 4)], []);
  });

  test("are sent two at a time, each put into words when it is its turn, and answered in order", async () => {
    const { asked, run } = server();
    const made: string[] = [];
    const parts = (function* () {
      for (const part of ["1", "2", "3", "4"]) {
        made.push(part);
        yield part;
      }
    })();
    const answers: unknown[] = [];
    const reading = (async () => {
      for await (const [answer] of runParts(run, "write", parts)) answers.push(answer);
    })();
    await turn();
    await turn();
    await turn();
    assertEquals([asked.map(({ part }) => part), made], [["1", "2"], ["1", "2", "3"]]);
    asked[0]!.answer.resolve(["one"]);
    for (let at = 0; at < 3; at++) await turn();
    assertEquals([asked.length, answers], [3, ["one"]]);
    for (const { answer } of asked) answer.resolve(["next"]);
    for (let at = 0; at < 3; at++) await turn();
    asked[3]!.answer.resolve(["last"]);
    await reading;
    assertEquals(answers, ["one", "next", "next", "last"]);
  });

  test("that are on their way when one fails fail with it, and nobody else hears of it", async () => {
    const { asked, run } = server();
    const reading = (async () => {
      for await (const _ of runParts(run, "write", ["1", "2", "3"].values()));
    })();
    const rejected = assertRejects(() => reading, Error, "the first");
    for (let at = 0; at < 3; at++) await turn();
    asked[0]!.answer.reject(new Error("the first"));
    await rejected;
    // A rejection that nobody waits for would end the process.
    asked[1]!.answer.reject(new Error("the transaction is aborted"));
    await turn();
    await turn();
    assertEquals(asked.length, 2);
  });
});
