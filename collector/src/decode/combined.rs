//! Nginx's combined format, with any fields behind it:
//! `addr - user [time] "request" status size "referer" "agent" …`. Must never read a delimiter out of a
//! field that the client wrote.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memrchr};

use super::{DeadReason, Line, Method, status, time};

/// Length of `$time_local`: `22/Jan/2019:03:56:14 +0330`.
const LOCAL_TIME: usize = 26;
/// Digits of a size that still fits 64 bits.
const MAX_SIZE_DIGITS: usize = 19;

pub(super) fn decode(text: &str) -> Result<Line<'_>, DeadReason> {
    let bytes = text.as_bytes();
    // The first quote opens the request: Nginx escapes quotes in whatever the client sent, the user's name
    // included, so what stands before it cannot forge one. The time is the bracket right before that quote.
    let Some(open) = memchr(b'"', bytes) else {
        return Err(if memchr(b'[', bytes).is_some_and(|at| at > 0) {
            DeadReason::Truncated
        } else {
            DeadReason::MissingField
        });
    };
    let head = text[..open].strip_suffix("] ").ok_or(DeadReason::MissingField)?;
    let bracket = bracket(head.as_bytes()).ok_or(DeadReason::MissingField)?;
    let at = time::parse(&head.as_bytes()[bracket + 1..]).ok_or(DeadReason::BadTime)?;
    let remote_addr = match memchr(b' ', &head.as_bytes()[..bracket]) {
        Some(end) if end > 0 => &head[..end],
        _ => return Err(DeadReason::MissingField),
    };

    let mut fields = Fields { text, at: open };
    let (method, target) = request(fields.quoted()?)?;
    let status = fields.status()?;
    fields.size()?;
    fields.quoted()?;
    let user_agent = fields.quoted()?;
    fields.rest()?;
    Ok(Line {
        at,
        remote_addr: Cow::Borrowed(remote_addr),
        method,
        target: Cow::Borrowed(target),
        status,
        user_agent: Cow::Borrowed(user_agent),
        visitor: None,
    })
}

/// Where the time's bracket opens: nearly always as far from the end as `$time_local` is long.
fn bracket(head: &[u8]) -> Option<usize> {
    match head.len().checked_sub(LOCAL_TIME + 1) {
        // Another bracket behind it would stand within the time, which then is none.
        Some(at) if head[at] == b'[' => Some(at),
        _ => memrchr(b'[', head),
    }
}

/// `GET /product/42 HTTP/1.1`; HTTP/0.9 has no version, and old versions of Nginx let spaces into the target.
pub(super) fn request(text: &str) -> Result<(Method, &str), DeadReason> {
    // What nearly every request looks like.
    if let Some(target) = text.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
        && !target.is_empty()
    {
        return Ok((Method::Get, target));
    }
    let Some(end) = memchr(b' ', text.as_bytes()) else {
        return match Method::parse(text)? {
            Method::Absent => Ok((Method::Absent, "")),
            _ => Err(DeadReason::BadRequest),
        };
    };
    let method = Method::parse(&text[..end])?;
    let rest = &text[end + 1..];
    let target = match memrchr(b' ', rest.as_bytes()) {
        Some(space) if is_version(&rest[space + 1..]) => &rest[..space],
        None => rest,
        Some(_) => return Err(DeadReason::BadRequest),
    };
    if target.is_empty() || method == Method::Absent {
        return Err(DeadReason::BadRequest);
    }
    Ok((method, target))
}

/// `HTTP/1.1`, `HTTP/2.0`, `HTTP/3`.
fn is_version(text: &str) -> bool {
    text.strip_prefix("HTTP/").is_some_and(|v| match v.as_bytes() {
        [major] => major.is_ascii_digit(),
        [major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    })
}

pub(super) fn size(text: &str) -> Result<(), DeadReason> {
    let number = !text.is_empty() && text.len() <= MAX_SIZE_DIGITS && text.bytes().all(|b| b.is_ascii_digit());
    if number || text == "-" { Ok(()) } else { Err(DeadReason::BadSize) }
}

/// Walks over fields that stand one blank apart.
struct Fields<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Fields<'a> {
    /// A quoted field, as it stands between its quotes.
    fn quoted(&mut self) -> Result<&'a str, DeadReason> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at) {
            Some(b'"') => {}
            Some(_) => return Err(DeadReason::Malformed),
            None => return Err(DeadReason::MissingField),
        }
        let start = self.at + 1;
        let end = closing_quote(bytes, start).ok_or(DeadReason::Truncated)?;
        self.at = end + 1;
        self.blank()?;
        Ok(&self.text[start..end])
    }

    /// Three digits; whatever else stands there is judged as a field.
    #[inline]
    fn status(&mut self) -> Result<u16, DeadReason> {
        if let Some([a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', b' ']) =
            self.text.as_bytes().get(self.at..).and_then(|rest| rest.first_chunk())
        {
            self.at += 4;
            return Ok(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'));
        }
        status(self.bare()?)
    }

    /// A number or `-`; whatever else stands there is judged as a field.
    #[inline]
    fn size(&mut self) -> Result<(), DeadReason> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let digits = rest.iter().take(MAX_SIZE_DIGITS).take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 && rest.get(digits) == Some(&b' ') {
            self.at += digits + 1;
            return Ok(());
        }
        size(self.bare()?)
    }

    /// A field up to the next blank.
    fn bare(&mut self) -> Result<&'a str, DeadReason> {
        let rest = &self.text[self.at..];
        if rest.is_empty() {
            return Err(DeadReason::MissingField);
        }
        let field = &rest[..memchr(b' ', rest.as_bytes()).unwrap_or(rest.len())];
        self.at += field.len();
        self.blank()?;
        Ok(field)
    }

    fn blank(&mut self) -> Result<(), DeadReason> {
        match self.text.as_bytes().get(self.at) {
            Some(b' ') => self.at += 1,
            Some(_) => return Err(DeadReason::Malformed),
            None => {}
        }
        Ok(())
    }

    /// Further fields may be anything, but a quote that opens must close: else the line is cut off.
    fn rest(&mut self) -> Result<(), DeadReason> {
        let bytes = self.text.as_bytes();
        if &bytes[self.at..] == b"\"-\"" {
            return Ok(());
        }
        while let Some(open) = memchr(b'"', &bytes[self.at..]) {
            self.at = closing_quote(bytes, self.at + open + 1).ok_or(DeadReason::Truncated)? + 1;
        }
        Ok(())
    }
}

/// The next quote at or behind `from` that no backslash escapes.
#[inline]
fn closing_quote(bytes: &[u8], from: usize) -> Option<usize> {
    // `"-"`, an empty field.
    if let Some([b'-', b'"']) = bytes.get(from..).and_then(|rest| rest.first_chunk()) {
        return Some(from + 1);
    }
    let mut at = from;
    loop {
        let found = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[found] == b'"' {
            return Some(found);
        }
        at = found + 2;
    }
}
