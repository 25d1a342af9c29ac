// JSON that is read once, from its bytes and where they stand: events and batches. What
// is known becomes a member of a class, without a text or a tree of the whole in
// between. The host sends valid texts: of others what can be read is read, and nothing
// behind their end.

import { Json, unquote } from "./json";

const QUOTE: u8 = 0x22;
const BACKSLASH: u8 = 0x5c;

const ONES: u64 = 0x0101010101010101;
const HIGH: u64 = 0x8080808080808080;

/** How many bytes behind the text have to be memory: so many are looked at at a time. */
export const slack: i32 = 16;

/** What next() returns behind the last member. */
export const end: i32 = -1;

// A name as it stands before its value, quotes and colon included. It is compared without a
// loop, which would pay fuel for each byte: its first eight bytes are one number, and its
// last eight.
class Label {
  size: usize;
  head: u64;
  mask: u64;
  tail: u64;

  constructor(public name: string) {
    const text = String.UTF8.encode('"' + name + '":');
    const at = changetype<usize>(text);
    this.size = text.byteLength;
    this.mask = ones(this.size);
    this.head = word(at, this.size);
    this.tail = this.size > 8 ? load<u64>(at + this.size - 8) : 0;
  }

  @inline
  at(at: usize): bool {
    return (load<u64>(at) & this.mask) == this.head &&
      (this.size <= 8 || load<u64>(at + this.size - 8) == this.tail);
  }
}

/** The names of an object's members, up to 13 letters of ASCII each, as the host orders them. */
export class Names {
  labels: StaticArray<Label>;

  constructor(names: string[]) {
    this.labels = new StaticArray<Label>(names.length);
    for (let i = 0; i < names.length; i++) this.labels[i] = new Label(names[i]);
  }
}

/** Stands at a value, or behind the last one. */
export class Scanner {
  private at: usize = 0;
  private end: usize = 0;

  /** Goes to the begin of another text. */
  read(at: usize, size: i32): void {
    this.at = at;
    this.end = at + <usize>size;
    this.space();
  }

  /** Enters an object. Any other value is stepped over, and false returned. */
  open(): bool {
    if (this.peek() != 0x7b) {
      this.skip();
      return false;
    }
    this.at++;
    return true;
  }

  /** Enters an array, as open does an object. */
  openList(): bool {
    if (this.peek() != 0x5b) {
      this.skip();
      return false;
    }
    this.at++;
    return true;
  }

  /** Goes to the next element; false, and behind the array, after the last. */
  item(): bool {
    this.space();
    if (this.peek() == 0x2c) {
      this.at++;
      this.space();
    }
    const c = this.peek();
    if (c != 0 && c != 0x5d && c != 0x7d) return true;
    if (this.at < this.end) this.at++;
    return false;
  }

  /** Where it stands, for `since`. */
  here(): usize {
    return this.at;
  }

  /** The text of what was read since it stood there. */
  since(from: usize): string {
    return decode(from, this.at - from);
  }

  /**
   * Goes to the value of the next member and returns which of the names it has, their
   * number if none of them; `end`, and behind the object, after the last. `before` is what
   * it returned before, or `end` at first.
   */
  next(names: Names, before: i32): i32 {
    const labels = names.labels;
    const guess = before + 1;
    const at = this.at + <usize>(before != end);
    if (guess < labels.length) {
      const label = unchecked(labels[guess]);
      if (label.at(at) && at + label.size < this.end) {
        this.at = at + label.size;
        this.space();
        return guess;
      }
    }
    return this.search(labels);
  }

  private search(labels: StaticArray<Label>): i32 {
    this.space();
    if (this.peek() == 0x2c) {
      this.at++;
      this.space();
    }
    if (this.peek() != QUOTE) {
      if (this.at < this.end) this.at++;
      return end;
    }
    const name = this.text();
    this.space();
    if (this.peek() == 0x3a) this.at++;
    this.space();
    for (let i = 0; i < labels.length; i++) {
      if (labels[i].name == name) return i;
    }
    return labels.length;
  }

  /** Steps over a null, and tells whether there was one. */
  nil(): bool {
    if (this.peek() != 0x6e) return false;
    this.skip();
    return true;
  }

  /** Reads a string, "" of any other value. */
  text(): string {
    if (this.peek() != QUOTE) {
      this.skip();
      return "";
    }
    const from = this.at;
    const plain = this.string();
    if (this.at - from < 3) return "";
    if (!plain) return unquote(String.UTF8.decodeUnsafe(from, this.at - from));
    return known(from + 1, this.at - from - 2);
  }

  /** Reads an integer, 0 of any other value. */
  int(): i64 {
    const from = this.at;
    const end = min(this.end, from + 18);
    let at = from;
    let n: i64 = 0;
    while (at < end) {
      const c = load<u8>(at);
      if (c == 0x2c || c == 0x7d) {
        if (at == from) break;
        this.at = at;
        return n;
      }
      if (c < 0x30 || c > 0x39) break;
      n = n * 10 + (c - 0x30);
      at++;
    }
    return new Json(this.raw()).int(); // below zero, very large, or no integer
  }

  /** Reads the text of a value. */
  raw(): string {
    const from = this.at;
    this.skip();
    return this.since(from);
  }

  /** Steps over a value. */
  skip(): void {
    const end = this.end;
    let at = this.at;
    let depth = 0;
    while (at < end) {
      const c = load<u8>(at);
      if (c == QUOTE) {
        this.at = at;
        this.string();
        at = this.at;
        if (depth == 0) return;
        continue;
      }
      if (c == 0x7b || c == 0x5b) {
        depth++;
      } else if (c == 0x7d || c == 0x5d) {
        if (depth == 0) break;
        if (--depth == 0) {
          at++;
          break;
        }
      } else if (depth == 0 && (c == 0x2c || c <= 0x20)) {
        break;
      }
      at++;
    }
    this.at = at;
  }

  // Steps over a string, and tells whether it is ASCII without escapes.
  private string(): bool {
    const end = this.end;
    let at = this.at + 1;
    let plain = true;
    while (at < end) {
      at += special(load<u64>(at));
      if (at >= end) break;
      const c = load<u8>(at);
      if (c == QUOTE) {
        this.at = at + 1;
        return plain;
      }
      if (c == BACKSLASH) {
        plain = false;
        at += 2;
      } else if (c >= 0x80) {
        plain = false;
        at++;
      }
    }
    this.at = end;
    return false;
  }

  @inline
  private peek(): u8 {
    return this.at < this.end ? load<u8>(this.at) : 0;
  }

  @inline
  private space(): void {
    while (this.at < this.end && load<u8>(this.at) <= 0x20) this.at++;
  }
}

// A mask for so many bytes.
@inline
function ones(size: usize): u64 {
  return size < 8 ? ((<u64>1) << (size << 3)) - 1 : u64.MAX_VALUE;
}

// The first of so many bytes, eight at most.
@inline
function word(at: usize, size: usize): u64 {
  return load<u64>(at) & ones(size);
}

// How many of the eight bytes are neither quote nor backslash, and ASCII, before one that
// is: a byte is zero where the word less one in each has its high bit set anew.
@inline
function special(word: u64): usize {
  return <usize>(ctz(zero(word ^ (ONES * QUOTE)) | zero(word ^ (ONES * BACKSLASH)) | (word & HIGH)) >> 3);
}

@inline
function zero(word: u64): u64 {
  return (word - ONES) & ~word & HIGH;
}

// Short texts that were read before. Much of an event is as it was in one of the last, and
// needs no room for a text again.
const kept = new StaticArray<string>(64).fill("");
const longest: usize = 40;

function known(from: usize, size: usize): string {
  if (size > longest) return ascii(from, size);
  const tail = size > 8 ? load<u64>(from + size - 8) : 0;
  const slot = <i32>(((word(from, size) ^ (tail * 31)) * 0x9e3779b97f4a7c15) >> 58);
  const before = unchecked(kept[slot]);
  if (before.length == <i32>size && same(from, size, changetype<usize>(before))) return before;
  const text = ascii(from, size);
  unchecked((kept[slot] = text));
  return text;
}

@inline
function same(from: usize, size: usize, text: usize): bool {
  for (let i: usize = 0; i < size; i += 4) {
    let differ = spread(load<u32>(from + i)) ^ load<u64>(text + (i << 1));
    if (size - i < 4) differ &= ((<u64>1) << ((size - i) << 4)) - 1;
    if (differ) return false;
  }
  return true;
}

// Makes four letters of ASCII four of UTF-16.
@inline
function spread(letters: u64): u64 {
  letters = (letters | (letters << 16)) & 0x0000ffff0000ffff;
  return (letters | (letters << 8)) & 0x00ff00ff00ff00ff;
}

function decode(from: usize, size: usize): string {
  let at: usize = 0;
  while (at + 8 <= size && (load<u64>(from + at) & HIGH) == 0) at += 8;
  while (at < size && load<u8>(from + at) < 0x80) at++;
  return at == size ? known(from, size) : String.UTF8.decodeUnsafe(from, size);
}

function ascii(from: usize, size: usize): string {
  const out = __new(size << 1, idof<string>());
  let i: usize = 0;
  for (; i + 4 <= size; i += 4) {
    store<u64>(out + (i << 1), spread(load<u32>(from + i)));
  }
  for (; i < size; i++) store<u16>(out + (i << 1), load<u8>(from + i));
  return changetype<string>(out);
}
