// What a policy exports: `export * from "./sdk/policy"`.

import { collectAfter, give } from "./abi";
import { readEvent } from "./event";
import { decide } from "./plugin";

export { eider_abi_version, eider_alloc, eider_configure, eider_rest } from "./abi";

// A plugin without a function has no answer, which the host takes for malformed.
export function eider_decide(ptr: usize, len: i32): u64 {
  collectAfter(len);
  const by = decide;
  return by === null ? 0 : give(by(readEvent(ptr, len)).toJSON());
}
