/** Databases in other encodings than UTF-8. https://www.postgresql.org/docs/current/multibyte.html */

import { deleted, inserted, type Shape, updated } from "../shape.ts";

/** What each can write. */
const SAMPLES: Record<string, string> = {
  LATIN1: "é ß ÿ",
  LATIN9: "€ Œ",
  WIN1251: "Ж я №",
  EUC_JP: "長い 日本語",
  EUC_KR: "한국어",
};

/** The same in each. */
export const ENCODINGS: Shape[] = Object.entries(SAMPLES).map(([encoding, sample]) => ({
  name: `in a database in ${encoding}, names, keys and values come as they were written`,
  script: () => {
    const [table, column] = [`t ${sample}`, `c ${sample}`];
    return {
      database: `ENCODING '${encoding}'`,
      schema: `s ${sample}`,
      before: `CREATE TABLE "${table}" (id text PRIMARY KEY, "${column}" text)`,
      watch: [table],
      steps: [
        `INSERT INTO "${table}" VALUES ('${sample}', '${sample}')`,
        `UPDATE "${table}" SET id = 'x'`,
        `UPDATE "${table}" SET id = '${sample}!', "${column}" = NULL`,
        `DELETE FROM "${table}"`,
      ],
      transactions: [
        [inserted(table, sample, { id: sample, [column]: sample })],
        [
          updated(table, "x", { id: "x", [column]: sample }, {
            oldKey: sample,
            oldRow: { id: sample },
          }),
        ],
        [
          updated(table, `${sample}!`, { id: `${sample}!`, [column]: null }, {
            oldKey: "x",
            oldRow: { id: "x" },
          }),
        ],
        [deleted(table, `${sample}!`, { id: `${sample}!` })],
      ],
    };
  },
}));
