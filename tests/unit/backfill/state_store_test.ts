import { stateStoreContract } from "../../contract/state_store_contract.ts";
import { MemoryStateStore } from "../../../src/backfill/state_store.ts";

stateStoreContract("MemoryStateStore", () =>
  Promise.resolve({
    store: new MemoryStateStore(),
    reopen: null,
    release: () => Promise.resolve(),
  }));
