// JSON that is read once, from its bytes and where they stand: events and batches. What
// is known becomes a member of a class, without a text or a tree of the whole in
// between. The host sends valid texts: of others what can be read is read, and nothing
// behind their end.

import { Json, unquote } from "./json";

const QUOTE: u8 = 0x22;
const BACKSLASH: u8 = 0x5c;

/** Stands at a value, or behind the last one. */
export class Scanner {
  private name: usize = 0; // of the member whose value comes next
  private nameEnd: usize = 0;
  private end: usize;

  constructor(private at: usize, size: i32) {
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
    return String.UTF8.decodeUnsafe(from, this.at - from);
  }

  /** Goes to the value of the next member; false, and behind the object, after the last. */
  next(): bool {
    this.space();
    if (this.peek() == 0x2c) {
      this.at++;
      this.space();
    }
    if (this.peek() != QUOTE) {
      if (this.at < this.end) this.at++;
      return false;
    }
    this.name = this.at + 1;
    this.string();
    this.nameEnd = this.at - 1;
    this.space();
    if (this.peek() == 0x3a) this.at++;
    this.space();
    return true;
  }

  /** Whether the member has the name, which is ASCII. */
  is(name: string): bool {
    const size = <usize>name.length;
    if (this.nameEnd - this.name != size) return false;
    const letters = changetype<usize>(name);
    for (let i: usize = 0; i < size; i++) {
      if (<u16>load<u8>(this.name + i) != load<u16>(letters + (i << 1))) return false;
    }
    return true;
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
    return ascii(from + 1, this.at - from - 2);
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
      const c = load<u8>(at++);
      if (c == QUOTE) {
        this.at = at;
        return plain;
      }
      if (c == BACKSLASH) {
        plain = false;
        at++;
      } else if (c >= 0x80) {
        plain = false;
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

function ascii(from: usize, size: usize): string {
  const out = __new(size << 1, idof<string>());
  for (let i: usize = 0; i < size; i++) store<u16>(out + (i << 1), load<u8>(from + i));
  return changetype<string>(out);
}
