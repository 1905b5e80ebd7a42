//! The edge's log line: one flat JSON object, of which seven fields matter. A scanner of its own because it
//! sees every line and serde would build what is thrown away; it must never accept what is cut off.

use std::borrow::Cow;

use memchr::memchr3;
use serde::de::IgnoredAny;

use super::{DeadReason, Line, Method, status, time};

/// The fields that are read; each may stand once.
#[derive(Clone, Copy, PartialEq)]
enum Field {
    Time,
    RemoteAddr,
    Method,
    Uri,
    Status,
    Visitor,
    UserAgent,
}

impl Field {
    fn named(key: &str) -> Option<Self> {
        Some(match key {
            "time" => Self::Time,
            "remote_addr" => Self::RemoteAddr,
            "method" => Self::Method,
            "uri" => Self::Uri,
            "status" => Self::Status,
            "visitor" => Self::Visitor,
            "user_agent" => Self::UserAgent,
            _ => return None,
        })
    }
}

pub(super) fn decode(text: &str) -> Result<Line<'_>, DeadReason> {
    let mut scanner = Scanner { text, at: 1 };
    let mut seen = 0u8;
    let mut at = None;
    let mut code = None;
    let mut method = None;
    let mut uri = None;
    let mut remote_addr = None;
    let mut visitor = None;
    let mut user_agent = None;

    scanner.blanks();
    if scanner.peek()? == b'}' {
        return Err(DeadReason::MissingField);
    }
    loop {
        scanner.blanks();
        let key = scanner.string()?.text()?;
        scanner.blanks();
        scanner.expect(b':')?;
        scanner.blanks();
        if let Some(field) = Field::named(&key) {
            let bit = 1 << field as u8;
            if seen & bit != 0 {
                return Err(DeadReason::BadJson);
            }
            seen |= bit;
            let value = scanner.scalar()?;
            match field {
                Field::Time => {
                    let text = value.string(DeadReason::BadTime)?.ok_or(DeadReason::MissingField)?;
                    at = Some(time::iso(text.as_bytes()).ok_or(DeadReason::BadTime)?);
                }
                Field::Status => code = Some(status(&value.number_or_string()?)?),
                Field::Method => method = value.string(DeadReason::BadJson)?,
                Field::Uri => uri = value.string(DeadReason::BadJson)?,
                Field::RemoteAddr => remote_addr = value.string(DeadReason::BadJson)?,
                Field::Visitor => visitor = value.string(DeadReason::BadJson)?,
                Field::UserAgent => user_agent = value.string(DeadReason::BadJson)?,
            }
        } else {
            scanner.skip()?;
        }
        scanner.blanks();
        match scanner.next()? {
            b',' => {}
            b'}' => break,
            _ => return Err(DeadReason::BadJson),
        }
    }
    scanner.blanks();
    if scanner.at != text.len() {
        return Err(DeadReason::BadJson);
    }

    let method = Method::parse(&method.ok_or(DeadReason::MissingField)?)?;
    let target = uri.ok_or(DeadReason::MissingField)?;
    if target.is_empty() && method != Method::Absent {
        return Err(DeadReason::BadRequest);
    }
    let visitor = visitor.filter(|v| !v.is_empty() && v != "-");
    let remote_addr = remote_addr.filter(|a| !a.is_empty());
    if visitor.is_none() && remote_addr.is_none() {
        return Err(DeadReason::MissingField);
    }
    Ok(Line {
        at: at.ok_or(DeadReason::MissingField)?,
        remote_addr: remote_addr.unwrap_or_default(),
        method,
        target,
        status: code.ok_or(DeadReason::MissingField)?,
        user_agent: user_agent.unwrap_or_default(),
        visitor,
    })
}

/// A string as it stands in the line, its quotes included.
struct Quoted<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Quoted<'a> {
    fn text(self) -> Result<Cow<'a, str>, DeadReason> {
        if self.escaped {
            return serde_json::from_str(self.raw).map(Cow::Owned).map_err(|_| DeadReason::BadJson);
        }
        Ok(Cow::Borrowed(&self.raw[1..self.raw.len() - 1]))
    }
}

enum Scalar<'a> {
    String(Quoted<'a>),
    /// A number, as it stands.
    Number(&'a str),
    Null,
    Other,
}

impl<'a> Scalar<'a> {
    /// The text of a string, `None` for null.
    fn string(self, otherwise: DeadReason) -> Result<Option<Cow<'a, str>>, DeadReason> {
        match self {
            Self::String(quoted) => quoted.text().map(Some),
            Self::Null => Ok(None),
            Self::Number(_) | Self::Other => Err(otherwise),
        }
    }
    /// Nginx writes every variable as a string unless its format leaves out the quotes.
    fn number_or_string(self) -> Result<Cow<'a, str>, DeadReason> {
        match self {
            Self::String(quoted) => quoted.text(),
            Self::Number(text) => Ok(Cow::Borrowed(text)),
            Self::Null | Self::Other => Err(DeadReason::BadStatus),
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next byte; the end of the line inside the object means that the line was cut off.
    fn peek(&self) -> Result<u8, DeadReason> {
        self.text.as_bytes().get(self.at).copied().ok_or(DeadReason::Truncated)
    }
    fn next(&mut self) -> Result<u8, DeadReason> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }
    fn expect(&mut self, byte: u8) -> Result<(), DeadReason> {
        if self.next()? == byte { Ok(()) } else { Err(DeadReason::BadJson) }
    }
    fn blanks(&mut self) {
        while matches!(self.text.as_bytes().get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn string(&mut self) -> Result<Quoted<'a>, DeadReason> {
        let start = self.at;
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            let rest = bytes.get(self.at..).ok_or(DeadReason::Truncated)?;
            self.at += memchr3(b'"', b'\\', b'\t', rest).ok_or(DeadReason::Truncated)?;
            match bytes[self.at] {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    self.at += 2;
                }
                // The other control characters were screened out before.
                _ => return Err(DeadReason::BadJson),
            }
        }
        self.at += 1;
        // Quotes are ASCII, so both ends are character boundaries even behind a stray backslash.
        self.text.get(start..self.at).map(|raw| Quoted { raw, escaped }).ok_or(DeadReason::BadJson)
    }

    fn scalar(&mut self) -> Result<Scalar<'a>, DeadReason> {
        match self.peek()? {
            b'"' => Ok(Scalar::String(self.string()?)),
            b'-' | b'0'..=b'9' => {
                let start = self.at;
                while matches!(self.text.as_bytes().get(self.at), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
                {
                    self.at += 1;
                }
                Ok(Scalar::Number(&self.text[start..self.at]))
            }
            b'n' => self.word("null").map(|()| Scalar::Null),
            b't' => self.word("true").map(|()| Scalar::Other),
            b'f' => self.word("false").map(|()| Scalar::Other),
            _ => Err(DeadReason::BadJson),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), DeadReason> {
        let rest = &self.text[self.at..];
        if rest.starts_with(word) {
            self.at += word.len();
            Ok(())
        } else if word.starts_with(rest) {
            Err(DeadReason::Truncated)
        } else {
            Err(DeadReason::BadJson)
        }
    }

    /// Steps over the value of a field that is not ours.
    fn skip(&mut self) -> Result<(), DeadReason> {
        if !matches!(self.peek()?, b'{' | b'[') {
            return self.scalar().map(drop);
        }
        // serde_json steps over nested values with a bound of its own on their depth.
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(IgnoredAny)) => {
                self.at += values.byte_offset();
                Ok(())
            }
            Some(Err(error)) if error.is_eof() => Err(DeadReason::Truncated),
            Some(Err(_)) | None => Err(DeadReason::BadJson),
        }
    }
}
