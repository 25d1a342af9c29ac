// What a sink exports: `export * from "./sdk/sink"`.

import { collectAfter, give } from "./abi";
import { readBatch } from "./event";
import { deliver } from "./plugin";

export { eider_abi_version, eider_alloc, eider_configure, eider_rest } from "./abi";

export function eider_deliver(ptr: usize, len: i32): u64 {
  collectAfter(len);
  const by = deliver;
  return by === null ? 0 : give(by(readBatch(ptr, len)).toJSON());
}
