import { assert, assertEquals, assertRejects } from "@std/assert";
import { describe, test } from "node:test";
import type { ChangeEvent } from "../../../src/change.ts";
import { rowPointId } from "../../../src/sinks/rows.ts";
import { SinkError } from "../../../src/sinks/sink.ts";
import { insertOf, truncateOf, updateOf } from "../delivery/harness.ts";
import { type Call, RecordingSink, rowOf, Synced, vectorOf } from "./synced.ts";

const idOf = (key: string) => rowPointId("public.documents", key, 0);
const insert = (n: number, key: string, body: string) =>
  insertOf(key, { lsn: `0/${n}00`, row: rowOf(key, body) });
const update = (n: number, key: string, body: string, title?: string) =>
  updateOf(key, null, { lsn: `0/${n}00`, row: rowOf(key, body, title) });

/** What the store was asked: `read 1 2`, `write 1 2`. */
const asked = (calls: Call[]) =>
  calls.splice(0).map((call) => {
    if (call.method === "deleteTable") return "clear";
    const keys = call.method === "apply"
      ? call.rows.map(({ key }) => key)
      : call.ids.map((id) => JSON.parse(id)[1]);
    return [call.method === "apply" ? "write" : "read", ...keys].join(" ");
  });

/** A table whose batches come one after the other, each with the one behind it in sight. */
function kit(options: ConstructorParameters<typeof Synced>[1] = {}) {
  const sink = new RecordingSink();
  const made = new Synced(sink, options);
  return {
    sink,
    made,
    handle: (events: ChangeEvent[], upcoming: ChangeEvent[] = []) =>
      made.handle(events, { upcoming: () => upcoming }),
    asked: () => asked(sink.calls),
  };
}

describe("rows whose events wait", () => {
  test("are looked up while those before them are written, and not once more", async () => {
    const { handle, asked, sink } = kit();
    const next = [insert(2, "2", "two"), insert(2, "3", "three")];
    await handle([insert(1, "1", "one")], next);
    assertEquals(asked(), ["read 1", "write 1", "read 2 3"]);
    await handle(next);
    assertEquals(asked(), ["write 2 3"]);
    assertEquals(sink.contents().length, 3);
  });

  test("need not all come at once, nor alone", async () => {
    const { handle, asked } = kit();
    const [two, three, four] = [insert(2, "2", "b"), insert(2, "3", "c"), insert(2, "4", "d")];
    await handle([insert(1, "1", "one")], [two!, three!]);
    asked();
    await handle([two!, four!], [three!]);
    assertEquals(asked(), ["read 4", "write 2 4", "read 3"]);
    await handle([three!]);
    assertEquals(asked(), ["write 3"]);
  });

  test("are looked up in their turn where they are being written: nothing is embedded twice", async () => {
    const { handle, asked, made, sink } = kit();
    const next = [update(2, "1", "one", "another"), insert(2, "2", "two")];
    await handle([insert(1, "1", "one")], next);
    assertEquals(asked(), ["read 1", "write 1", "read 2"]);
    made.embedder.take();
    await handle(next);
    assertEquals(asked(), ["read 1", "write 1 2"]);
    assertEquals(made.embedder.take(), ["two"]);
    assertEquals(sink.get(idOf("1"))!.payload, { title: "another" });
  });

  test("are looked up again where the batch before them fails", async () => {
    const { handle, asked, sink } = kit();
    const [first, next] = [[insert(1, "1", "one")], [insert(2, "2", "two")]];
    sink.fail = ({ method }) => {
      if (method !== "apply") return;
      sink.fail = () => {};
      throw new SinkError("gone", { kind: "sink-unreachable", sink: "memory", retryable: true });
    };
    await assertRejects(() => handle(first, next), SinkError);
    await handle(first);
    asked();
    await handle(next);
    assertEquals(asked(), ["read 2", "write 2"]);
  });

  test("are looked up again where the stream was away, even if it was while they were looked up", async () => {
    const { handle, asked, made, sink } = kit();
    const next = [insert(2, "2", "two")];
    await handle([insert(1, "1", "one")], next);
    made.rows.forget();
    asked();
    await handle(next);
    assertEquals(asked(), ["read 2", "write 2"]);

    const last = [insert(4, "4", "four")];
    sink.fail = ({ method, ...call }) => {
      if (method === "fingerprints" && "ids" in call && call.ids.includes(idOf("4"))) {
        made.rows.forget();
      }
    };
    await handle([insert(3, "3", "three")], last);
    asked();
    await handle(last);
    assertEquals(asked(), ["read 4", "write 4"]);
  });

  test("are no reason for a batch to fail: what they meet is told in their turn", async () => {
    let calls = 0;
    const { handle, asked, sink } = kit({
      text: (row) => {
        if (row.body === "poison" && ++calls < 3) throw new Error("not yet");
        return row.body;
      },
    });
    const next = [insert(2, "2", "poison"), insert(2, "3", "three")];
    await handle([insert(1, "1", "one")], next);
    assertEquals(calls, 1);
    const error = await assertRejects(() => handle(next));
    assert(error instanceof Error && `${error.cause}`.includes("not yet"));
    await handle(next);
    sink.fail = ({ method, ...call }) => {
      if (method === "fingerprints" && "ids" in call && call.ids.includes(idOf("5"))) {
        sink.fail = () => {};
        throw new Error("unreadable");
      }
    };
    asked();
    await handle([insert(4, "4", "four")], [insert(5, "5", "five")]);
    await handle([insert(5, "5", "five")]);
    assertEquals(asked(), ["read 4", "write 4", "read 5", "read 5", "write 5"]);
    assertEquals(sink.contents().at(-1), [idOf("5"), { title: "t5" }, vectorOf("five")]);
  });

  test("are put into words once, also those of which a column was not sent", async () => {
    let calls = 0;
    const { handle } = kit({ text: (row) => (calls++, row.body) });
    const row = { id: "3", title: "t3" };
    const oldRow = { ...row, body: "three" };
    const full = updateOf("3", null, { lsn: "0/200", row, oldRow, unchanged: ["body"] });
    const next = [insert(2, "2", "two"), full];
    await handle([insert(1, "1", "one")], next);
    await handle(next);
    assertEquals(calls, 3);
  });

  test("are not looked up where a TRUNCATE comes before them, or a column is missing", async () => {
    const { handle, asked } = kit();
    const partly = { ...update(2, "3", "three"), unchanged: ["body"] } as ChangeEvent;
    await handle([insert(1, "1", "one")], [insert(2, "2", "two"), truncateOf({ lsn: "0/200" })]);
    assertEquals(asked(), ["read 1", "write 1"]);
    await handle([insert(1, "4", "four")], [partly]);
    assertEquals(asked(), ["read 4", "write 4"]);
  });
});
