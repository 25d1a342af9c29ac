// What a sink exports: `export * from "./sdk/sink"`.

import { give, given } from "./abi";
import { readBatch } from "./event";
import { deliver } from "./plugin";

export { eider_abi_version, eider_alloc, eider_configure } from "./abi";

export function eider_deliver(ptr: usize, len: i32): u64 {
  const by = deliver;
  return by === null ? 0 : give(by(readBatch(given(ptr, len))).toJSON());
}
