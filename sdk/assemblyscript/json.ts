// JSON that is read where it is asked: a project's settings, the input of a
// request, the operator's configuration. It is kept as text; looking up a member
// builds no tree, integers of 64 bits stay exact, and depth costs no stack. The
// host sends valid texts: of others what can be read is read.

const QUOTE: i32 = 0x22;
const BACKSLASH: i32 = 0x5c;

/** A JSON value. "" is one that is not there. */
export class Json {
  constructor(public readonly text: string = "") {}

  /** The member of that name; of two of one name the last counts. */
  get(name: string): Json {
    let from = 0, to = 0;
    const walk = WALK;
    walk.begin(this.text, true);
    while (walk.next()) {
      if (!walk.is(name)) continue;
      from = walk.from;
      to = walk.to;
    }
    return from == to ? NONE : new Json(this.text.substring(from, to));
  }

  /** The text of a string, "" for any other value. */
  str(): string {
    const s = this.text;
    return s.length > 1 && s.charCodeAt(0) == QUOTE ? unquote(s) : "";
  }

  /** An integer, `otherwise` for any other value. */
  int(otherwise: i64 = 0): i64 {
    const s = this.text;
    const negative = s.length > 0 && s.charCodeAt(0) == 0x2d;
    let n: u64 = 0;
    for (let i = negative ? 1 : 0; i < s.length; i++) {
      const digit = s.charCodeAt(i) - 0x30;
      if (digit < 0 || digit > 9 || n > 922337203685477580) return this.whole(otherwise);
      n = n * 10 + digit;
    }
    if (s.length == (negative ? 1 : 0) || n > <u64>i64.MAX_VALUE + (negative ? 1 : 0)) return this.whole(otherwise);
    return negative ? -(<i64>n) : <i64>n;
  }

  /** A number, NaN for any other value. */
  float(): f64 {
    const s = this.text;
    const first = s.length > 0 ? s.charCodeAt(0) : 0;
    return first == 0x2d || (first >= 0x30 && first <= 0x39) ? parseFloat(s) : NaN;
  }

  // 1e3 and 2.0 are integers too, as far as a float is exact.
  private whole(otherwise: i64): i64 {
    const f = this.float();
    return Math.trunc(f) == f && Math.abs(f) <= 9007199254740992.0 ? <i64>f : otherwise;
  }

  /** Whether the value is true. */
  bool(): bool {
    return this.text == "true";
  }

  /** Whether there is a value, and not null. */
  exists(): bool {
    return this.text != "" && this.text != "null";
  }

  /** The elements of an array, none for any other value. */
  items(): Json[] {
    const all: Json[] = [];
    const walk = WALK;
    walk.begin(this.text, false);
    while (walk.next()) all.push(new Json(walk.value()));
    return all;
  }

  /** The strings of an array. */
  strings(): string[] {
    const all: string[] = [];
    const walk = WALK;
    walk.begin(this.text, false);
    while (walk.next()) if (this.text.charCodeAt(walk.from) == QUOTE) all.push(unquote(walk.value()));
    return all;
  }
}

const HEX = "0123456789abcdef";

/** Returns a text as a JSON string. */
export function quote(text: string): string {
  let size = text.length + 2;
  for (let i = 0; i < text.length; i++) size += width(text.charCodeAt(i)) - 1;
  const out = __new(size << 1, idof<string>());
  put(out, 0, QUOTE);
  let at = 1;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const n = width(c);
    if (n == 1) {
      put(out, at, c);
    } else {
      put(out, at, BACKSLASH);
      put(out, at + 1, n == 2 ? c : 0x75);
    }
    if (n == 6) {
      put(out, at + 2, 0x30);
      put(out, at + 3, 0x30);
      put(out, at + 4, HEX.charCodeAt(c >> 4));
      put(out, at + 5, HEX.charCodeAt(c & 15));
    }
    at += n;
  }
  put(out, at, QUOTE);
  return changetype<string>(out);
}

// How much of a JSON string a character takes.
@inline
function width(c: i32): i32 {
  return c < 0x20 ? 6 : c == QUOTE || c == BACKSLASH ? 2 : 1;
}

@inline
function put(text: usize, at: i32, c: i32): void {
  store<u16>(text + (<usize>at << 1), <u16>c);
}

// Walk goes over one level of an object or an array. It tells where things stand and
// copies none of them: there may be a lot beside what is looked for.
class Walk {
  from: i32 = 0; // of the value
  to: i32 = 0;
  private nameFrom: i32 = 0;
  private nameTo: i32 = 0;
  private at: i32 = 0;
  private done: bool = true;
  private text: string = "";
  private object: bool = false;

  begin(text: string, object: bool): void {
    this.text = text;
    this.object = object;
    this.at = space(text, 0);
    this.done = this.at >= text.length || text.charCodeAt(this.at) != (object ? 0x7b : 0x5b);
    this.at++;
  }

  next(): bool {
    const s = this.text;
    let at = space(s, this.at);
    if (!this.done && at < s.length && s.charCodeAt(at) == 0x2c) at = space(s, at + 1);
    if (this.done || at >= s.length || s.charCodeAt(at) == 0x7d || s.charCodeAt(at) == 0x5d) return this.end();
    if (this.object) {
      const end = skip(s, at);
      if (s.charCodeAt(at) != QUOTE || end == at) return this.end();
      this.nameFrom = at;
      this.nameTo = end;
      at = space(s, end);
      if (at >= s.length || s.charCodeAt(at) != 0x3a) return this.end();
      at = space(s, at + 1);
    }
    const end = skip(s, at);
    if (end == at) return this.end();
    this.from = at;
    this.to = end;
    this.at = end;
    return true;
  }

  /** The text of the value. */
  value(): string {
    return this.text.substring(this.from, this.to);
  }

  /** Whether the member has the name. */
  is(name: string): bool {
    const s = this.text;
    const size = this.nameTo - this.nameFrom - 2;
    if (size < name.length) return false; // escapes only make it longer
    for (let i = this.nameFrom + 1; i < this.nameTo - 1; i++) {
      if (s.charCodeAt(i) == BACKSLASH) return unquote(s.substring(this.nameFrom, this.nameTo)) == name;
    }
    const here = changetype<usize>(s) + (<usize>(this.nameFrom + 1) << 1);
    return size == name.length && memory.compare(here, changetype<usize>(name), <usize>size << 1) == 0;
  }

  private end(): bool {
    this.done = true;
    this.text = ""; // it may be large
    return false;
  }
}

const WALK = new Walk(); // of one value at a time

/** The value that is not there. */
export const NONE = new Json();

function space(s: string, at: i32): i32 {
  while (at < s.length) {
    const c = s.charCodeAt(at);
    if (c != 0x20 && c != 0x0a && c != 0x09 && c != 0x0d) break;
    at++;
  }
  return at;
}

// skip returns where the value that begins at `at` ends, `at` if there is none.
function skip(s: string, at: i32): i32 {
  let depth = 0;
  for (let i = at; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c == QUOTE) {
      i = stringEnd(s, i);
      if (i < 0) return at;
      if (depth == 0) return i + 1;
    } else if (c == 0x7b || c == 0x5b) {
      depth++;
    } else if (c == 0x7d || c == 0x5d) {
      if (depth == 0) return i;
      if (--depth == 0) return i + 1;
    } else if (depth == 0 && (c == 0x2c || c == 0x3a || c <= 0x20)) {
      return i;
    }
  }
  return depth > 0 ? at : s.length;
}

function stringEnd(s: string, at: i32): i32 {
  for (let i = at + 1; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c == BACKSLASH) i++;
    else if (c == QUOTE) return i;
  }
  return -1;
}

/** Reads a whole string, its quotes included. */
export function unquote(s: string): string {
  const end = s.length - 1;
  let i = 1;
  while (i < end && s.charCodeAt(i) != BACKSLASH) i++;
  if (i >= end) return s.substring(1, end);
  let size = 0;
  for (i = 1; i < end; i++) {
    size++;
    if (s.charCodeAt(i) == BACKSLASH) i += s.charCodeAt(i + 1) == 0x75 ? 5 : 1;
  }
  const out = __new(size << 1, idof<string>());
  i = 1;
  for (let at = 0; at < size; at++) {
    let c = s.charCodeAt(i++);
    if (c == BACKSLASH) {
      c = escape(s, i);
      i += s.charCodeAt(i) == 0x75 ? 5 : 1;
    }
    put(out, at, c);
  }
  return changetype<string>(out);
}

// What the letter behind a backslash, and what belongs to it, stands for.
function escape(s: string, at: i32): i32 {
  const c = s.charCodeAt(at);
  switch (c) {
    case 0x62: return 0x08;
    case 0x66: return 0x0c;
    case 0x6e: return 0x0a;
    case 0x72: return 0x0d;
    case 0x74: return 0x09;
    case 0x75: break;
    default: return c;
  }
  let n = 0;
  for (let i = at + 1; i < at + 5; i++) {
    const d = s.charCodeAt(i);
    n = (n << 4) | (d <= 0x39 ? d - 0x30 : (d | 0x20) - 0x57);
  }
  return n;
}
