// What crosses the border: buffers that stay where they are while the host uses
// them, and answers as `ptr << 32 | len`.

import { Json } from "./json";
import { take } from "./plugin";
import { slack } from "./scan";

let input: ArrayBuffer = new ArrayBuffer(4096);
let output: ArrayBuffer = new ArrayBuffer(0);
let said: string = ""; // what stands there

export function eider_abi_version(): i32 {
  return 1 << 16;
}

// Garbage that is collected within a call costs each of its allocations. The server calls
// this between two calls instead, each 1,024 of them.
export function eider_rest(): void {
  collect();
}

// What was given since the garbage was collected last. Large messages leave so much that
// it cannot wait for a rest.
let since: i32 = 0;

/** Has to be called at the begin of an export, where nothing is on the stack. */
export function collectAfter(size: i32): void {
  since += size;
  if (since > 1 << 20) collect();
}

function collect(): void {
  since = 0;
  __collect();
}

export function eider_alloc(size: i32): usize {
  if (size + slack > input.byteLength) input = new ArrayBuffer(size + slack);
  return changetype<usize>(input);
}

export function eider_configure(ptr: usize, len: i32): u64 {
  const by = take;
  if (by === null) return 0;
  const text = by(new Json(given(ptr, len)));
  return text == "" ? 0 : give(text);
}

function given(ptr: usize, len: i32): string {
  return String.UTF8.decodeUnsafe(ptr, len);
}

export function give(text: string): u64 {
  if (changetype<usize>(text) == changetype<usize>(said)) return answer();
  said = text;
  output = String.UTF8.encode(text, false, String.UTF8.ErrorMode.REPLACE); // half a character is no UTF-8
  return answer();
}

@inline
function answer(): u64 {
  return (<u64>changetype<usize>(output) << 32) | output.byteLength;
}
