//! Any `log_format` of Nginx's as a decoder: compiled once into literals and variables, then run over each line. It
//! must never guess where a field ends: a format in which that is not clear is refused when it is compiled.

mod compile;

use std::borrow::Cow;

use memchr::memmem;
use types::Invalid;

use super::{DeadReason, Line, Method, combined, edge_json, json, status, time};

/// Longest format, in bytes.
pub const MAX_FORMAT: usize = 4096;

/// Which lines a log holds.
#[derive(Debug)]
pub enum Format {
    /// Each line by its first byte: the edge's JSON, else combined.
    Auto,
    /// Nginx's combined with any fields behind it.
    Combined,
    /// The edge's JSON.
    Edge,
    /// A `log_format` of the shop's own.
    Custom(LogFormat),
}

impl Format {
    /// `auto`, `combined`, `edge`, or what stands in Nginx's configuration: the string alone, with `escape=json`
    /// before it if it has that, or the whole directive.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "" | "auto" => Ok(Self::Auto),
            "combined" => Ok(Self::Combined),
            "edge" => Ok(Self::Edge),
            other => compile::compile(other),
        }
    }

    /// Decodes a line without its end, of which nothing is known but that it is text.
    #[inline]
    pub(super) fn decode<'a>(&self, text: &'a str) -> Result<Line<'a>, DeadReason> {
        match self {
            Self::Auto if text.as_bytes().first() == Some(&b'{') => edge_json::decode(text),
            Self::Auto | Self::Combined => combined::decode(text),
            Self::Edge if text.as_bytes().first() == Some(&b'{') => edge_json::decode(text),
            Self::Edge => Err(DeadReason::BadJson),
            Self::Custom(format) => format.decode(text),
        }
    }

    /// Whether its lines are objects of JSON, so that they look like a shipper's record.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self, Self::Custom(format) if matches!(format.steps.first(), Some(Step::Literal(text)) if text.starts_with(b"{")))
    }
}

/// How Nginx escapes what stands in a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    /// `\xHH` for quotes, backslashes and control characters.
    Default,
    /// As in JSON.
    Json,
    /// Not at all.
    None,
}

/// A piece of the format.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Literal(Vec<u8>),
    Field(Variable),
}

/// What a variable is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Address,
    /// A list of addresses of which the first is the client's.
    Forwarded,
    Time,
    /// Seconds since the epoch with milliseconds.
    Seconds,
    /// Method, target and version.
    Request,
    Method,
    Target,
    Status,
    Size,
    Agent,
    Visitor,
    /// Several values may stand in it, a comma or colon and a blank apart.
    List,
    Other,
}

/// A compiled format.
#[derive(Debug)]
pub struct LogFormat {
    steps: Vec<Step>,
    escape: Escape,
}

/// What the variables said.
#[derive(Default)]
struct Found<'a> {
    at: Option<types::Timestamp>,
    address: Option<Cow<'a, str>>,
    method: Option<Method>,
    target: Option<Cow<'a, str>>,
    status: Option<u16>,
    agent: Option<Cow<'a, str>>,
    visitor: Option<Cow<'a, str>>,
}

impl LogFormat {
    fn decode<'a>(&self, text: &'a str) -> Result<Line<'a>, DeadReason> {
        let mut found = Found::default();
        let mut rest = text;
        let mut steps = self.steps.iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Literal(literal) => {
                    rest = match rest.as_bytes().strip_prefix(literal.as_slice()) {
                        Some(_) => &rest[literal.len()..],
                        None if literal.starts_with(rest.as_bytes()) => return Err(DeadReason::Truncated),
                        None => return Err(DeadReason::Malformed),
                    };
                }
                Step::Field(variable) => {
                    let end = match steps.peek() {
                        Some(Step::Literal(literal)) => self.end(*variable, rest.as_bytes(), literal)?,
                        _ => rest.len(),
                    };
                    let value = rest.get(..end).ok_or(DeadReason::Malformed)?;
                    self.take(*variable, value, &mut found)?;
                    rest = &rest[end..];
                }
            }
        }
        if !rest.is_empty() {
            return Err(DeadReason::Malformed);
        }
        let method = found.method.ok_or(DeadReason::MissingField)?;
        let target = found.target.ok_or(DeadReason::MissingField)?;
        if target.is_empty() != (method == Method::Absent) {
            return Err(DeadReason::BadRequest);
        }
        if found.visitor.is_none() && found.address.is_none() {
            return Err(DeadReason::MissingField);
        }
        Ok(Line {
            at: found.at.ok_or(DeadReason::MissingField)?,
            remote_addr: found.address.unwrap_or_default(),
            method,
            target,
            status: found.status.ok_or(DeadReason::MissingField)?,
            user_agent: found.agent.unwrap_or_default(),
            visitor: found.visitor,
        })
    }

    /// Where the field ends that the literal follows.
    fn end(&self, variable: Variable, rest: &[u8], literal: &[u8]) -> Result<usize, DeadReason> {
        let mut from = 0;
        loop {
            let at = from + memmem::find(&rest[from..], literal).ok_or(DeadReason::Truncated)?;
            // A quote that a backslash escapes is the client's. (A backslash of his own is escaped itself.)
            let escaped = self.escape != Escape::None
                && literal[0] == b'"'
                && rest[..at].iter().rev().take_while(|b| **b == b'\\').count() % 2 == 1;
            let listed = matches!(variable, Variable::List | Variable::Forwarded)
                && (matches!(rest[..at].last(), Some(b',' | b':')) || rest[at + literal.len()..].starts_with(b": "))
                && literal == b" ";
            if !escaped && !listed {
                return Ok(at);
            }
            from = at + 1;
        }
    }

    fn take<'a>(&self, variable: Variable, value: &'a str, found: &mut Found<'a>) -> Result<(), DeadReason> {
        let text = || self.text(value);
        let said = |text: Cow<'a, str>| Some(text).filter(|text| !text.is_empty() && text != "-");
        match variable {
            Variable::Address => found.address = said(text()?),
            Variable::Forwarded => {
                let first = value.split(',').next().unwrap_or_default().trim();
                found.address = said(self.text(first)?);
            }
            Variable::Time => found.at = Some(time::parse(value.as_bytes()).ok_or(DeadReason::BadTime)?),
            Variable::Seconds => found.at = Some(time::seconds(value.as_bytes()).ok_or(DeadReason::BadTime)?),
            Variable::Request => {
                let (method, target) = match text()? {
                    Cow::Borrowed(text) => {
                        let (method, target) = combined::request(text)?;
                        (method, Cow::Borrowed(target))
                    }
                    Cow::Owned(text) => {
                        let (method, target) = combined::request(&text)?;
                        (method, Cow::Owned(target.to_owned()))
                    }
                };
                (found.method, found.target) = (Some(method), Some(target));
            }
            Variable::Method => found.method = Some(Method::parse(&text()?)?),
            // Nginx writes a dash for what is not there.
            Variable::Target => found.target = Some(said(text()?).unwrap_or_default()),
            Variable::Status => found.status = Some(status(value)?),
            Variable::Size => combined::size(value)?,
            Variable::Agent => found.agent = Some(text()?),
            Variable::Visitor => found.visitor = said(text()?),
            Variable::List | Variable::Other => {}
        }
        Ok(())
    }

    /// What a variable says. Nginx's own `\xHH` stay, as a page is what stands in the log.
    fn text<'a>(&self, value: &'a str) -> Result<Cow<'a, str>, DeadReason> {
        if self.escape != Escape::Json || memchr::memchr(b'\\', value.as_bytes()).is_none() {
            return Ok(Cow::Borrowed(value));
        }
        json::checked(value).map(Cow::Owned)
    }
}

#[cfg(test)]
mod tests;
