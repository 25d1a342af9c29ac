//! Base64, for bodies that are no text.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub fn encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity((bytes.len() + 2) / 3 * 4);
    for group in bytes.chunks(3) {
        let n = group.iter().fold(0u32, |n, b| n << 8 | *b as u32) << (8 * (3 - group.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63] as char;
            out.push(if i > group.len() { '=' } else { digit });
        }
    }
    out
}

pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut n = 0u32;
        for digit in group {
            n = n << 6 | DIGITS.iter().position(|d| d == digit)? as u32;
        }
        n <<= 6 * (4 - group.len());
        out.extend_from_slice(&n.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

#[test]
fn bytes_come_back() {
    for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar"] {
        assert_eq!(decode(&encode(text.as_bytes())).unwrap(), text.as_bytes());
    }
    assert_eq!(encode(b"fooba"), "Zm9vYmE=");
}
