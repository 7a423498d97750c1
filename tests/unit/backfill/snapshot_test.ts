import { assert, assertEquals, assertThrows } from "@std/assert";
import { describe, test } from "node:test";
import {
  firstRecordAt,
  firstRecordBehind,
  isVisible,
  parseSnapshot,
  shows,
} from "../../../src/backfill/snapshot.ts";

describe("a snapshot", () => {
  test("shows what was over, and nothing that was in progress or came later", () => {
    const snapshot = parseSnapshot("100:110:102,105");
    const shown = [99, 100, 101, 102, 104, 105, 109, 110, 111].filter((xid) =>
      isVisible(snapshot, xid)
    );
    assertEquals(shown, [99, 100, 101, 104, 109]);
  });

  test("with nothing in progress does not show its own xmax: a lone committer may be that (39)", () => {
    assertEquals(isVisible(parseSnapshot("752:752:"), 752), false);
    assertEquals(isVisible(parseSnapshot("752:752:"), 751), true);
  });

  test("is compared with ids of 32 bits by the nearest id that they can be", () => {
    const epoch = 5n << 32n;
    const early = parseSnapshot(`${epoch + 3n}:${epoch + 10n}:`);
    // Given out just before the counter began anew.
    assertEquals(isVisible(early, 0xffff_fff0), true);
    assertEquals(isVisible(early, 12), false);
    const late = parseSnapshot(`${epoch - 20n}:${epoch - 10n}:${epoch - 15n}`);
    assertEquals(isVisible(late, 3), false);
    assertEquals(isVisible(late, 0xffff_fff1), false);
    assertEquals(isVisible(late, 0xffff_fff0), true);
  });

  test("of a standby shows what commits before the position, whatever its id", () => {
    assertEquals([99n, 100n, 101n].map((lsn) => shows({ replayed: 100n }, 7, lsn)), [
      true,
      false,
      false,
    ]);
    const listed = parseSnapshot("100:110:102");
    assertEquals([101, 102].map((xid) => shows(listed, xid, 1n)), [true, false]);
  });

  test("that is none is refused", () => {
    for (const text of ["", "1:2", "1:2:3,", "a:b:", "1:2:3;4", "-1:2:"]) {
      assertThrows(() => parseSnapshot(text), RangeError);
    }
  });
});

describe("the first record after a position", () => {
  const page = 8192n;
  test("is at the position, where that is not behind a page's header", () => {
    for (const lsn of [0x16_0000_1000n + 48n, page * 7n + 41n, page * 8n - 8n]) {
      assertEquals(firstRecordAt(lsn, page), lsn);
    }
  });

  test("is not before the start of a page on which nothing is written yet: a walsender says no more", () => {
    // Headers of 24 bytes, and of 40 at the start of a segment.
    for (const header of [0n, 24n, 40n]) {
      assertEquals(firstRecordAt(page * 9n + header, page), page * 9n);
    }
  });
});

describe("the first record that a standby's snapshot cannot show", () => {
  const page = 8192n;
  test("is the next one, where nothing is there to be replayed", () => {
    assertEquals(firstRecordBehind(page + 48n, page + 48n, page), page + 48n);
  });

  test("is behind the one that is being replayed, which may be shown", () => {
    for (const received of [page * 3n, page, null]) {
      assertEquals(firstRecordBehind(page + 48n, received, page), page + 49n);
    }
    // At the start of a page that record stands behind a header.
    const behind = firstRecordBehind(page * 2n, page * 3n, page);
    assert(behind > page * 2n + 40n && behind <= page * 2n + 48n, `${behind}`);
  });
});
