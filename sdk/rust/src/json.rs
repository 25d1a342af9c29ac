//! JSON, as far as plugins need it: integers of 64 bits stay exact, and neither
//! depth nor rubbish ends in a trap.

use std::convert::TryInto;

/// A JSON value. What is deeper than 64 levels is read as `Null`.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    /// null, and what is not there
    #[default]
    Null,
    /// true or false
    Bool(bool),
    /// a number without a fraction that fits
    Int(i64),
    /// any other number
    Float(f64),
    /// a string
    Str(String),
    /// an array
    Array(Vec<Json>),
    /// an object, its members in their order
    Object(Vec<(String, Json)>),
}

static NULL: Json = Json::Null;

const DEEPEST: usize = 64;

impl Json {
    /// Reads a text, `None` if it is no JSON.
    pub fn parse(text: &str) -> Option<Json> {
        let mut parser = Parser::new(text);
        let value = parser.value(0)?;
        parser.end().map(|_| value)
    }

    /// The member of that name, `Null` if there is none. Of two of one name the last counts.
    pub fn get(&self, name: &str) -> &Json {
        match self {
            Json::Object(members) => members.iter().rev().find(|(n, _)| n == name).map_or(&NULL, |(_, v)| v),
            _ => &NULL,
        }
    }

    /// The member that the names lead to, `Null` if there is none.
    pub fn path(&self, names: &[&str]) -> &Json {
        names.iter().fold(self, |value, name| value.get(name))
    }

    /// The text of a string, "" for any other value.
    pub fn str(&self) -> &str {
        match self {
            Json::Str(s) => s,
            _ => "",
        }
    }

    /// An integer, `None` for any other value.
    pub fn int(&self) -> Option<i64> {
        match *self {
            Json::Int(n) => Some(n),
            Json::Float(f) if f.trunc() == f && f.abs() <= 9007199254740992.0 => Some(f as i64),
            _ => None,
        }
    }

    /// A number, `None` for any other value.
    pub fn float(&self) -> Option<f64> {
        match *self {
            Json::Int(n) => Some(n as f64),
            Json::Float(f) => Some(f),
            _ => None,
        }
    }

    /// Whether the value is true.
    pub fn bool(&self) -> bool {
        *self == Json::Bool(true)
    }

    /// Whether the value is null or not there.
    pub fn is_null(&self) -> bool {
        *self == Json::Null
    }

    /// The elements of an array, none for any other value.
    pub fn items(&self) -> &[Json] {
        match self {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    /// The strings of an array.
    pub fn strings(&self) -> Vec<String> {
        let strings = self.items().iter().filter(|v| matches!(v, Json::Str(_)));
        strings.map(|v| v.str().to_string()).collect()
    }

    /// Moves the member out; copying each text would cost as much as reading it.
    pub(crate) fn take(&mut self, name: &str) -> Json {
        match self {
            Json::Object(members) => {
                members.iter_mut().rev().find(|(n, _)| n == name).map_or(Json::Null, |(_, v)| std::mem::take(v))
            }
            _ => Json::Null,
        }
    }

    pub(crate) fn text(&mut self, name: &str) -> String {
        match self.take(name) {
            Json::Str(s) => s,
            _ => String::new(),
        }
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        self.get(name).int().unwrap_or(0)
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => write!(f, "{}", b),
            Json::Int(n) => write!(f, "{}", n),
            Json::Float(x) if x.is_finite() => write!(f, "{}", x),
            Json::Float(_) => f.write_str("null"),
            Json::Str(s) => f.write_str(&quote(s)),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{}", if i > 0 { "," } else { "" }, item)?;
                }
                f.write_str("]")
            }
            Json::Object(members) => {
                f.write_str("{")?;
                for (i, (name, value)) in members.iter().enumerate() {
                    write!(f, "{}{}:{}", if i > 0 { "," } else { "" }, quote(name), value)?;
                }
                f.write_str("}")
            }
        }
    }
}

/// Returns a text as a JSON string.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[inline(always)]
fn word(b: &[u8], at: usize) -> u64 {
    b[at..at + 8].try_into().map_or(0, u64::from_le_bytes)
}

#[inline(always)]
fn half(b: &[u8], at: usize) -> u32 {
    b[at..at + 4].try_into().map_or(0, u32::from_le_bytes)
}

/// Returns where the next quote or backslash stands, looking at eight bytes at a time. A
/// byte of a word is zero where the word less one in each byte has its high bit set anew.
fn plain(text: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    while at + 8 <= text.len() {
        let word = word(text, at);
        let found = zero(word ^ (ONES * b'"' as u64)) | zero(word ^ (ONES * b'\\' as u64));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    let rest = text.get(at..)?;
    rest.iter().position(|b| matches!(b, b'"' | b'\\')).map(|n| at + n)
}

/// Reads the members of an object that are known, each by its expression, and steps over
/// others. They are first looked for as the host writes them: in this order, without
/// spaces. What stands otherwise is read all the same, more slowly.
macro_rules! members {
    ($p:ident, $first:literal => $read_first:expr, $($name:literal => $read:expr,)*) => {
        if $p.open()? {
            let known = $p.literal(concat!("\"", $first, "\":"));
            let _ = known && { $read_first; true } $(&& $p.literal(concat!(",\"", $name, "\":")) && { $read; true })*;
            let mut first = !known;
            while let Some(name) = $p.next(first)? {
                first = false;
                match name.as_str() {
                    $first => $read_first,
                    $($name => $read,)*
                    _ => drop($p.value(2)?),
                }
            }
        }
    };
}
pub(crate) use members;

/// Reads a text from its front. What is known can be read where it stands, without a
/// tree in between.
pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Parser<'a> {
        Parser { text, at: 0 }
    }

    /// Whether nothing follows.
    pub(crate) fn end(&mut self) -> Option<()> {
        self.space();
        (self.at == self.text.len()).then(|| ())
    }

    /// Enters an object. Any other value is stepped over, and false returned.
    pub(crate) fn open(&mut self) -> Option<bool> {
        self.space();
        if self.one(b'{') {
            return Some(true);
        }
        self.value(0).map(|_| false)
    }

    /// Goes to the value of the next member and returns its name, None behind the object.
    /// `first` is whether none was read yet.
    pub(crate) fn next(&mut self, first: bool) -> Option<Option<String>> {
        self.space();
        if self.one(b'}') {
            return Some(None);
        }
        if !first {
            self.must(b',')?;
            self.space();
        }
        let name = self.string()?;
        self.space();
        self.must(b':')?;
        self.space();
        Some(Some(name))
    }

    /// Steps over the text if it stands here. It is compared in two numbers that overlap
    /// where they must: a loop, or a call, would pay fuel for itself each time.
    #[inline(always)]
    pub(crate) fn literal(&mut self, text: &'static str) -> bool {
        let text = text.as_bytes();
        let size = text.len();
        let same = match self.text.as_bytes().get(self.at..self.at + size) {
            None => false,
            Some(here) if size > 16 => here == text,
            Some(here) if size >= 8 => word(here, 0) == word(text, 0) && word(here, size - 8) == word(text, size - 8),
            Some(here) if size >= 4 => half(here, 0) == half(text, 0) && half(here, size - 4) == half(text, size - 4),
            Some(here) => here == text,
        };
        if same {
            self.at += size;
        }
        same
    }

    /// Steps over a null, and reports whether there was one.
    pub(crate) fn null(&mut self) -> bool {
        self.eat("null").is_some()
    }

    /// Reads a string, "" of any other value.
    pub(crate) fn text(&mut self) -> Option<String> {
        if self.peek()? == b'"' {
            return self.string();
        }
        self.value(0).map(|_| String::new())
    }

    /// Reads an integer, 0 of any other value.
    pub(crate) fn int(&mut self) -> Option<i64> {
        let bytes = self.text.as_bytes();
        let mut n = 0;
        for at in self.at..bytes.len().min(self.at + 18) {
            match bytes[at] {
                c @ b'0'..=b'9' => n = n * 10 + i64::from(c - b'0'),
                b',' | b'}' if at > self.at => {
                    self.at = at;
                    return Some(n);
                }
                _ => break,
            }
        }
        self.value(0).map(|v| v.int().unwrap_or(0)) // below zero, very large, or no integer
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline(always)]
    fn space(&mut self) {
        if self.peek().map_or(false, |c| c <= b' ') {
            self.spaces();
        }
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    #[inline(always)]
    fn one(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    #[inline(always)]
    fn must(&mut self, byte: u8) -> Option<()> {
        self.one(byte).then(|| ())
    }

    /// Reads a value that stands so deep.
    pub(crate) fn value(&mut self, depth: usize) -> Option<Json> {
        self.space();
        match self.peek()? {
            b'n' => self.eat("null").map(|_| Json::Null),
            b't' => self.eat("true").map(|_| Json::Bool(true)),
            b'f' => self.eat("false").map(|_| Json::Bool(false)),
            b'"' => self.string().map(Json::Str),
            b'{' | b'[' if depth == DEEPEST => self.skip(),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        while !self.one(b']') {
            if !items.is_empty() {
                self.must(b',')?;
            }
            items.push(self.value(depth + 1)?);
            self.space();
        }
        Some(Json::Array(items))
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        let mut members = Vec::new();
        self.at += 1;
        self.space();
        while !self.one(b'}') {
            if !members.is_empty() {
                self.must(b',')?;
                self.space();
            }
            let name = self.string()?;
            self.space();
            self.must(b':')?;
            members.push((name, self.value(depth + 1)?));
            self.space();
        }
        Some(Json::Object(members))
    }

    /// Steps over what is too deep, without a stack of its own.
    fn skip(&mut self) -> Option<Json> {
        let mut open = 0;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => open += 1,
                b'}' | b']' => open -= 1,
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return Some(Json::Null);
            }
        }
    }

    fn number(&mut self) -> Option<Json> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        let text = &self.text[from..self.at];
        if text.starts_with('+') || text.starts_with('.') {
            return None;
        }
        match text.parse::<i64>() {
            Ok(n) => Some(Json::Int(n)),
            Err(_) => text.parse::<f64>().ok().map(Json::Float),
        }
    }

    #[inline(always)]
    fn string(&mut self) -> Option<String> {
        self.must(b'"')?;
        let end = plain(self.text.as_bytes(), self.at)?;
        let text = &self.text[self.at..end];
        if self.text.as_bytes()[end] == b'"' {
            self.at = end + 1;
            return Some(text.to_owned());
        }
        self.escaped()
    }

    fn escaped(&mut self) -> Option<String> {
        let mut out = String::new();
        loop {
            let end = plain(self.text.as_bytes(), self.at)?;
            out.push_str(&self.text[self.at..end]);
            self.at = end + 1;
            if self.text.as_bytes()[end] == b'"' {
                return Some(out);
            }
            self.escape(&mut out)?;
        }
    }

    fn escape(&mut self, out: &mut String) -> Option<()> {
        let c = self.peek()?;
        self.at += 1;
        out.push(match c {
            b'"' | b'\\' | b'/' => c as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode()?,
            _ => return None,
        });
        Some(())
    }

    /// Half a character alone is U+FFFD.
    fn unicode(&mut self) -> Option<char> {
        let first = self.hex4()?;
        if (0xD800..0xDC00).contains(&first) && self.text.as_bytes()[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                return char::from_u32(((first - 0xD800) << 10 | (second - 0xDC00)) + 0x10000);
            }
            self.at = back;
        }
        Some(char::from_u32(first).unwrap_or('\u{FFFD}'))
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_and_written() {
        let text = r#"{"a":[1,-2.5,true,null,"x\"\\\u0001é"],"b":{"c":9223372036854775807}}"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.to_string(), text);
        assert_eq!(json.path(&["b", "c"]).int(), Some(i64::MAX));
        assert_eq!(Json::parse(r#" "\ud83e\udd86 \ud83e" "#).unwrap().str(), "🦆 \u{FFFD}");
        assert_eq!(Json::parse("1e3").unwrap().int(), Some(1000));
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in ["", "{", "[1", "[1,]", "{\"a\"}", "\"\\x\"", "nul", "1 2", "\"\\u12\"", "-", "{\"a\":1,}", "+1"] {
            assert_eq!(Json::parse(text), None, "{}", text);
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("{}\"]\"{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut json = &Json::parse(&deep).unwrap();
        let mut levels = 0;
        while let Json::Array(items) = json {
            json = &items[0];
            levels += 1;
        }
        assert_eq!((levels, json), (DEEPEST, &Json::Null));
        assert_eq!(Json::parse(&"[".repeat(100_000)), None);
    }
}
