// @ts-self-types="./mod.d.ts"
export * from "deno-std/bytes/mod.js";
