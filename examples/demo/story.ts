/**
 * What happens in the demo: the help pages of a night train company, which its staff edit while
 * travellers search them.
 */

/** A row of the table. */
export interface Page {
  /** Primary key. */
  id: string;
  content: string;
  edited_by: string;
}

/** What staff do in one transaction. `documents` stands for the table, whatever its name is. */
export interface Edit {
  statements: { text: string; parameters: string[] }[];
  /** The changes that a reader of the table's log must see. */
  changes: number;
}

/** A part of the story: edits, each a commit of its own, and then the questions again. */
export interface Chapter {
  title: string;
  edits: Edit[];
}

/** What travellers ask, before and after. */
export const QUESTIONS: readonly string[] = [
  "May I bring my dog on board?",
  "How do I get my money back?",
  "Is there something to eat on the train?",
];

/** The page whose vector is lost at the end. */
export const LOST = "quiet";

/** What is in the table before anybody watches it. */
export const PAGES: readonly Omit<Page, "edited_by">[] = [
  {
    id: "refunds",
    content: "We refund a ticket in full until the day before departure. After that the money is " +
      "not paid back.",
  },
  {
    id: "animals",
    content: "Dogs, cats and other pets are not allowed on our night trains.",
  },
  {
    id: "bicycles",
    content: "Bicycles travel in the rear coach. Reserve one of the eight bike racks in advance.",
  },
  {
    id: "breakfast",
    content: "Breakfast with fresh rolls, fruit and coffee is served in your compartment at seven.",
  },
  {
    id: "luggage",
    content: "Two suitcases and one bag a person. Heavy baggage goes under the lower berth.",
  },
  {
    id: "wifi",
    content: "There is wireless internet in every coach, and a power socket beside each bed.",
  },
  {
    id: "children",
    content: "Children under six travel free of charge if they share a bed with a parent.",
  },
  {
    id: "showers",
    content: "Sleeping cars have a shower at the end of the corridor; towels are provided.",
  },
  {
    id: "delays",
    content: "If you arrive more than an hour late, a quarter of the fare is compensated.",
  },
  {
    id: "quiet",
    content: "From ten in the evening until six in the morning we ask everybody to be silent.",
  },
];

/** A statement that writes a page. */
export function insert(page: (typeof PAGES)[number]): Edit["statements"][number] {
  return {
    text: "INSERT INTO documents (id, content) VALUES ($1, $2)",
    parameters: [page.id, page.content],
  };
}

function update(id: string, content: string): Edit["statements"][number] {
  return { text: "UPDATE documents SET content = $2 WHERE id = $1", parameters: [id, content] };
}

/** The whole story. */
export const CHAPTERS: readonly Chapter[] = [
  {
    title: "The rules change, and the pages with them",
    edits: [
      {
        statements: [
          update(
            "animals",
            "Dogs are welcome in every private compartment. A dog rides for half the fare.",
          ),
        ],
        changes: 1,
      },
      {
        statements: [{
          text: "UPDATE documents SET edited_by = $2 WHERE id = $1",
          parameters: ["wifi", "Mara"],
        }],
        changes: 1,
      },
      {
        statements: [{
          text: "UPDATE documents SET id = $2 WHERE id = $1",
          parameters: ["animals", "dogs"],
        }],
        changes: 1,
      },
      {
        statements: [
          { text: "DELETE FROM documents WHERE id = $1", parameters: ["refunds"] },
          insert({
            id: "vouchers",
            content: "You get your money back as a voucher, within two days of cancelling.",
          }),
          insert({
            id: "restaurant",
            content: "The dining car serves hot food, soup and local wine until midnight.",
          }),
        ],
        changes: 3,
      },
      {
        statements: [{ text: "DELETE FROM documents WHERE id = $1", parameters: ["breakfast"] }],
        changes: 1,
      },
    ],
  },
];
