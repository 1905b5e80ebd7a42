//! A strict forward scanner over JSON text (RFC 8259) that keeps nothing but its place: no tree, no copies.
//! Whatever it steps over it has validated, UTF-8 included; it must never accept what a JSON parser refuses.

use std::borrow::Cow;

use super::DeadReason;
use super::block::{self, WIDE};

/// Deepest nesting that is followed. Filebeat with all of its metadata stays below 8; serde_json refuses 128.
pub const MAX_DEPTH: u32 = 64;

/// A string as it stands, without its quotes; its escapes are valid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted<'a> {
    pub raw: &'a str,
    pub escaped: bool,
}

impl<'a> Quoted<'a> {
    /// What it says; a copy only if it holds escapes.
    pub fn text(self) -> Cow<'a, str> {
        if self.escaped { Cow::Owned(unescape(self.raw)) } else { Cow::Borrowed(self.raw) }
    }
}

/// A string that was copied, its escapes decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Copied {
    /// Bytes of it.
    pub length: usize,
    /// Whether no control character is among its escapes; raw ones are refused.
    pub clean: bool,
}

/// Digits that 64 bits hold whatever they are.
const MAX_DIGITS: usize = 19;

/// Decodes the escapes of a string that [`Scanner::string`] has stepped over.
pub(super) fn unescape(raw: &str) -> String {
    // The scanner has validated it, so there is no error.
    checked(raw).unwrap_or_default()
}

/// Decodes the escapes of a string's inside that nobody has looked at yet.
pub(super) fn checked(raw: &str) -> Result<String, DeadReason> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let (character, next) = escape(rest.as_bytes(), at + 1).map_err(|_| DeadReason::BadJson)?;
        text.push(character);
        rest = &rest[next..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The character of an escape whose backslash stands before `at`, and where the text goes on.
fn escape(bytes: &[u8], at: usize) -> Result<(char, usize), DeadReason> {
    let character = match bytes.get(at).ok_or(DeadReason::Truncated)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode(bytes, at + 1),
        _ => return Err(DeadReason::BadJson),
    };
    Ok((character, at + 1))
}

/// `\uXXXX`, or two of them where the first is half of a surrogate pair.
fn unicode(bytes: &[u8], at: usize) -> Result<(char, usize), DeadReason> {
    let first = hex(bytes, at)?;
    let code = match first {
        0xd800..=0xdbff => {
            match (bytes.get(at + 4), bytes.get(at + 5)) {
                (Some(b'\\'), Some(b'u')) => {}
                (None, _) | (Some(b'\\'), None) => return Err(DeadReason::Truncated),
                _ => return Err(DeadReason::BadJson),
            }
            match hex(bytes, at + 6)? {
                second @ 0xdc00..=0xdfff => 0x1_0000 + ((first - 0xd800) << 10 | (second - 0xdc00)),
                _ => return Err(DeadReason::BadJson),
            }
        }
        first => first,
    };
    let length = if code > 0xffff { 10 } else { 4 };
    // A second half without its first is no character.
    char::from_u32(code).map(|character| (character, at + length)).ok_or(DeadReason::BadJson)
}

fn hex(bytes: &[u8], at: usize) -> Result<u32, DeadReason> {
    let mut value = 0;
    for place in at..at + 4 {
        let byte = *bytes.get(place).ok_or(DeadReason::Truncated)?;
        value = value << 4 | char::from(byte).to_digit(16).ok_or(DeadReason::BadJson)?;
    }
    Ok(value)
}

/// A place in a text of JSON. The end of the text inside a value means that it was cut off.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }
    /// Bytes stepped over.
    pub fn at(&self) -> usize {
        self.at
    }
    /// Steps over `length` bytes that are known to be well-formed.
    pub fn jump(&mut self, length: usize) {
        self.at += length;
    }
    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }
    /// The next byte, which stays.
    #[inline]
    pub fn peek(&self) -> Result<u8, DeadReason> {
        self.text.get(self.at).copied().ok_or(DeadReason::Truncated)
    }
    /// The next byte.
    #[inline]
    pub fn next(&mut self) -> Result<u8, DeadReason> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Result<(), DeadReason> {
        if self.next()? == byte { Ok(()) } else { Err(DeadReason::BadJson) }
    }
    #[inline]
    pub fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }
    /// Nothing but blanks is left.
    pub fn end(&mut self) -> Result<(), DeadReason> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { Err(DeadReason::BadJson) }
    }
    /// After a member or an element: whether another follows, or `close` ended it all.
    #[inline]
    pub fn another(&mut self, close: u8) -> Result<bool, DeadReason> {
        self.blanks();
        match self.next()? {
            b',' => {
                self.blanks();
                Ok(true)
            }
            byte if byte == close => Ok(false),
            _ => Err(DeadReason::BadJson),
        }
    }
    /// Opens an object or array; whether anything stands in it.
    pub fn open(&mut self, open: u8, close: u8) -> Result<bool, DeadReason> {
        self.expect(open)?;
        self.blanks();
        if self.peek()? == close {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }
    /// A member's key and its colon.
    #[inline]
    pub fn key(&mut self) -> Result<Quoted<'a>, DeadReason> {
        let key = self.string()?;
        self.blanks();
        self.expect(b':')?;
        self.blanks();
        Ok(key)
    }

    /// A string.
    #[inline]
    pub fn string(&mut self) -> Result<Quoted<'a>, DeadReason> {
        self.expect(b'"')?;
        let bytes = self.text;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = block::string_stop(bytes, self.at).ok_or(DeadReason::Truncated)?;
            match bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    (_, self.at) = escape(bytes, self.at + 1)?;
                }
                _ => return Err(DeadReason::BadJson),
            }
        }
        self.at += 1;
        let raw = std::str::from_utf8(&bytes[start..self.at - 1]).map_err(|_| DeadReason::NotUtf8)?;
        Ok(Quoted { raw, escaped })
    }

    /// Steps over a string.
    #[inline]
    pub fn skip_string(&mut self) -> Result<(), DeadReason> {
        let start = self.at;
        self.expect(b'"')?;
        self.at = block::string_stop(self.text, self.at).ok_or(DeadReason::Truncated)?;
        if self.text[self.at] == b'"' && self.text[start..self.at].is_ascii() {
            self.at += 1;
            return Ok(());
        }
        self.at = start;
        self.string().map(drop)
    }

    /// A string, decoded into `out`, which is only ever lengthened. That it is UTF-8 is left to whoever reads it:
    /// escapes say whole characters, so they cannot mend a broken one.
    pub fn string_into(&mut self, out: &mut Vec<u8>) -> Result<Copied, DeadReason> {
        self.expect(b'"')?;
        let bytes = self.text;
        // An escape never says more bytes than it has, and a block may be written past the text's end.
        let room = bytes.len() - self.at + WIDE;
        if out.len() < room {
            out.resize(room, 0);
        }
        let (mut at, mut to, mut clean) = (self.at, 0, true);
        // Where the bytes from `at` on stop, and of how many of them that is known.
        let (mut stops, mut known) = (0u64, 0usize);
        loop {
            if let Some(block) = block::wide(bytes, at) {
                out[to..to + WIDE].copy_from_slice(block);
                if known == 0 {
                    (stops, known) = (block::wide_stops(block), WIDE);
                }
                if stops == 0 {
                    (at, to, known) = (at + known, to + known, 0);
                    continue;
                }
                let free = stops.trailing_zeros() as usize;
                (at, to) = (at + free, to + free);
                // By far the most frequent one: the line's own quotes.
                if bytes[at] == b'\\' && bytes.get(at + 1) == Some(&b'"') {
                    out[to] = b'"';
                    (at, to) = (at + 2, to + 1);
                    match known.checked_sub(free + 2) {
                        Some(left) if left > 0 => (stops, known) = (stops >> (free + 2), left),
                        _ => known = 0,
                    }
                    continue;
                }
                known = 0;
            }
            match *bytes.get(at).ok_or(DeadReason::Truncated)? {
                b'"' => break,
                b'\\' => {
                    let (character, next) = escape(bytes, at + 1)?;
                    clean &= character >= ' ';
                    to += character.encode_utf8(&mut out[to..]).len();
                    at = next;
                }
                0..=0x1f => return Err(DeadReason::BadJson),
                byte => {
                    out[to] = byte;
                    (at, to) = (at + 1, to + 1);
                }
            }
        }
        self.at = at + 1;
        Ok(Copied { length: to, clean })
    }

    /// A number without sign, fraction and exponent; `None` if it is another one, or too large.
    #[inline]
    pub fn whole(&mut self) -> Result<Option<u64>, DeadReason> {
        // The text of any number is read as the grammar wants it; these are only the ones that all are.
        let digits = self.rest().iter().take(MAX_DIGITS).take_while(|b| b.is_ascii_digit()).count();
        let number = &self.rest()[..digits];
        let next = self.rest().get(digits);
        if number.first().is_some_and(|first| *first != b'0') && matches!(next, Some(b',' | b'}')) {
            self.at += digits;
            return Ok(Some(number.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))));
        }
        Ok(self.number()?.parse().ok())
    }

    /// A number, as it stands.
    pub fn number(&mut self) -> Result<&'a str, DeadReason> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.next()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(DeadReason::BadJson),
        }
        if self.rest().first() == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.rest().first(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        // Digits, signs and dots.
        std::str::from_utf8(&self.text[start..self.at]).map_err(|_| DeadReason::NotUtf8)
    }
    fn digits(&mut self) {
        while matches!(self.text.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }
    fn some_digits(&mut self) -> Result<(), DeadReason> {
        if !self.next()?.is_ascii_digit() {
            return Err(DeadReason::BadJson);
        }
        self.digits();
        Ok(())
    }

    /// `true`, `false` or `null`, as given.
    pub fn word(&mut self, word: &str) -> Result<(), DeadReason> {
        let rest = self.rest();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            Ok(())
        } else if word.as_bytes().starts_with(rest) {
            Err(DeadReason::Truncated)
        } else {
            Err(DeadReason::BadJson)
        }
    }

    /// Steps over any value, which stands `depth` levels deep.
    pub fn skip(&mut self, depth: u32) -> Result<(), DeadReason> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => {
                deeper(depth)?;
                let mut more = self.open(b'{', b'}')?;
                while more {
                    self.key()?;
                    self.skip(depth + 1)?;
                    more = self.another(b'}')?;
                }
                Ok(())
            }
            b'[' => {
                deeper(depth)?;
                let mut more = self.open(b'[', b']')?;
                while more {
                    self.skip(depth + 1)?;
                    more = self.another(b']')?;
                }
                Ok(())
            }
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => Err(DeadReason::BadJson),
        }
    }
}

fn deeper(depth: u32) -> Result<(), DeadReason> {
    if depth < MAX_DEPTH { Ok(()) } else { Err(DeadReason::TooDeep) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn accepts(text: &str) -> Result<(), DeadReason> {
        let mut scanner = Scanner::new(text.as_bytes());
        scanner.blanks();
        scanner.skip(0)?;
        scanner.end()
    }

    fn strings(text: &str) -> (Result<String, DeadReason>, Result<String, DeadReason>) {
        let whole = Scanner::new(text.as_bytes()).string().map(|quoted| quoted.text().into_owned());
        let mut out = Vec::new();
        let into = Scanner::new(text.as_bytes()).string_into(&mut out);
        (
            whole,
            into.map(|copied| {
                let said = String::from_utf8(out[..copied.length].to_vec()).expect("characters only");
                assert_eq!(copied.clean, !said.contains(|c| c < ' '), "{said:?}");
                said
            }),
        )
    }

    /// Text that is nearly JSON.
    fn nearly() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\""),
            Just("\\"),
            Just("\\u"),
            Just("\\ud83d"),
            Just("\\ude00"),
            Just("00e4"),
            Just("\"a\""),
            Just("\"ä\\n\""),
            Just("1"),
            Just("-0.5e+7"),
            Just("01"),
            Just("1."),
            Just("true"),
            Just("nul"),
            Just("null"),
            Just(" "),
            Just("\t"),
            Just("\u{1}"),
            Just("a long text without anything special in it"),
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn what_is_accepted_is_json(text in nearly()) {
            if accepts(&text).is_ok() {
                prop_assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{text}");
            } else if let Ok(value) = serde_json::from_str::<serde_json::Value>(&text) {
                prop_assert!(false, "refused {value}");
            }
        }

        #[test]
        fn strings_read_as_serde_json_reads_them(inner in nearly()) {
            let text = format!("\"{inner}\"");
            let (whole, into) = strings(&text);
            prop_assert_eq!(&whole, &into);
            if let Ok(expected) = serde_json::from_str::<String>(&text) {
                prop_assert_eq!(whole, Ok(expected));
            }
        }

        #[test]
        fn any_text_survives_the_way_through_json(said in any::<String>()) {
            let text = serde_json::to_string(&said).expect("text");
            prop_assert_eq!(strings(&text), (Ok(said.clone()), Ok(said)));
        }

        #[test]
        fn any_value_is_accepted(seed in proptest::collection::vec(any::<(u8, i64, String)>(), 0..20)) {
            let mut value = serde_json::Value::Null;
            for (kind, number, text) in seed {
                value = match kind % 4 {
                    0 => serde_json::json!([value, number]),
                    1 => serde_json::json!({ text: value, "x": number as f64 / 7.0 }),
                    2 => serde_json::json!({ "a": value, "b": text, "c": true }),
                    _ => serde_json::json!([[], {}, value]),
                };
            }
            prop_assert_eq!(accepts(&value.to_string()), Ok(()));
            let pretty = serde_json::to_string_pretty(&value).expect("value");
            prop_assert_eq!(accepts(&pretty), Ok(()));
        }
    }

    #[test]
    fn a_value_cut_off_is_named_as_such() {
        for text in
            ["", "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "[1,", "[", "tru", "\"\\", "\"\\u12", "-", "1e"]
        {
            assert_eq!(accepts(text), Err(DeadReason::Truncated), "{text}");
        }
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(accepts(&deep(64)), Ok(()));
        assert_eq!(accepts(&deep(65)), Err(DeadReason::TooDeep));
    }
}
