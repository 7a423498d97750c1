import { assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import { inParts, inVectorParts, runParts } from "../../../src/sinks/pgvector_points.ts";
import { turn } from "../delivery/harness.ts";

/** A server that answers when it is told to. */
function server() {
  const asked: { part: string; answer: PromiseWithResolvers<readonly unknown[]> }[] = [];
  return {
    asked,
    send: (part: string) => {
      const answer = Promise.withResolvers<readonly unknown[]>();
      asked.push({ part, answer });
      return answer.promise;
    },
  };
}

describe("parts of a transaction", () => {
  test("are as large as they may be, and hold a row that is larger alone", () => {
    assertEquals([...inParts(["aa", "b", "cccccc", "d"], 4)], ["[aa,b]", "[cccccc]", "[d]"]);
    assertEquals([...inParts([], 4)], []);
  });

  test("with vectors have places for them, of few numbers, and keep together what belongs together", () => {
    const row = (...vectors: (string | null)[]) => ({ json: vectors.map(() => "{}"), vectors });
    assertEquals([...inVectorParts([row("[1]"), row(null), row("[3]", "[4]")], 16)], [
      { places: 2, parameters: ["[{},{}]", "[1]", null] },
      { places: 2, parameters: ["[{},{}]", "[3]", "[4]"] },
    ]);
    assertEquals([...inVectorParts([row("[1]"), row(null), row("[3]")])], [
      { places: 4, parameters: ["[{},{},{}]", "[1]", null, "[3]", null] },
    ]);
    assertEquals([...inVectorParts([])], []);
  });

  test("take no more vectors as parameters than a statement can have", () => {
    const one = { json: ['{"id":"1"}'], vectors: ["[1]"] };
    const parts = [...inVectorParts(Array.from({ length: 1030 }, () => one))];
    assertEquals(parts.map(({ places, parameters }) => [places, parameters.length]), [
      [1024, 1025],
      [8, 9],
    ]);
    const large = {
      json: Array<string>(1025).fill(one.json[0]!),
      vectors: [null, ...Array<string>(1024).fill("[1]")],
    };
    const [first, whole, ...others] = inVectorParts([one, large]);
    assertEquals([first!.places, whole!.places, whole!.parameters.length], [1, 0, 1]);
    assertEquals(
      JSON.parse(whole!.parameters[0]!).slice(0, 2),
      [{ vector: null, id: "1" }, { vector: "[1]", id: "1" }],
    );
    assertEquals(others, []);
  });

  test("are sent two at a time, each put into words when it is its turn, and answered in order", async () => {
    const { asked, send } = server();
    const made: string[] = [];
    const parts = (function* () {
      for (const part of ["1", "2", "3", "4"]) {
        made.push(part);
        yield part;
      }
    })();
    const answers: unknown[] = [];
    const reading = (async () => {
      for await (const [answer] of runParts(send, parts)) answers.push(answer);
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
    const { asked, send } = server();
    const reading = (async () => {
      for await (const _ of runParts(send, ["1", "2", "3"].values()));
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
