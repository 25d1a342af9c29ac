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
    let found = "";
    const walk = new Walk(this.text, true);
    while (walk.next()) if (walk.name == name) found = walk.value;
    return new Json(found);
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
    const walk = new Walk(this.text, false);
    while (walk.next()) all.push(new Json(walk.value));
    return all;
  }

  /** The strings of an array. */
  strings(): string[] {
    const all: string[] = [];
    const walk = new Walk(this.text, false);
    while (walk.next()) if (walk.value.charCodeAt(0) == QUOTE) all.push(unquote(walk.value));
    return all;
  }
}

/** Returns a text as a JSON string. */
export function quote(text: string): string {
  let out = '"';
  let from = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0x20 && c != QUOTE && c != BACKSLASH) continue;
    out += text.substring(from, i);
    out += c >= 0x20 ? "\\" + text.charAt(i) : "\\u00" + (c < 0x10 ? "0" : "") + c.toString(16);
    from = i + 1;
  }
  return out + text.substring(from) + '"';
}

// Walk goes over one level of an object or an array.
class Walk {
  name: string = "";
  value: string = "";
  private at: i32;
  private done: bool;

  constructor(private text: string, private object: bool) {
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
      this.name = unquote(s.substring(at, end));
      at = space(s, end);
      if (at >= s.length || s.charCodeAt(at) != 0x3a) return this.end();
      at = space(s, at + 1);
    }
    const end = skip(s, at);
    if (end == at) return this.end();
    this.value = s.substring(at, end);
    this.at = end;
    return true;
  }

  private end(): bool {
    this.done = true;
    return false;
  }
}

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
  let out = "";
  let from = 1;
  const end = s.length - 1;
  for (let i = 1; i < end; i++) {
    if (s.charCodeAt(i) != BACKSLASH) continue;
    out += s.substring(from, i);
    const c = s.charCodeAt(++i);
    const plain = "bfnrt".indexOf(String.fromCharCode(c));
    if (c == 0x75) {
      out += String.fromCharCode(<i32>parseInt(s.substring(i + 1, i + 5), 16));
      i += 4;
    } else {
      out += plain >= 0 ? "\b\f\n\r\t".charAt(plain) : String.fromCharCode(c);
    }
    from = i + 1;
  }
  return from == 1 ? s.substring(1, end) : out + s.substring(from, end);
}
