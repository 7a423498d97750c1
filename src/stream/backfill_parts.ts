/** What reads rows that are there: loaded when it is asked for, and all of it at once. */
export { Backfill } from "../backfill/backfill.ts";
export { PostgresStateStore } from "../backfill/postgres_state_store.ts";
export { HandOver } from "../backfill/hand_over.ts";
export { prepareBackfill } from "../backfill/prepare.ts";
export { Progress } from "../backfill/progress.ts";
export { UnchangedReader } from "../backfill/unchanged_reader.ts";
