#!/usr/bin/env node
/** What `npx @pgstream/pgstream` and `bunx` run. */

import { main } from "./main.ts";

await main();
