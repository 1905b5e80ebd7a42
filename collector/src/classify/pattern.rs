//! Path patterns such as `/v1/sales/{sale}/products/{id}/purchases`, matched without a regular expression.
//! Must never decode or normalise the path: a page is what stands in the log.

use types::Invalid;

/// Longest pattern, in bytes: nobody's route is longer, and each is tried on each line.
const MAX_PATTERN: usize = 256;

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// These bytes, slashes included.
    Literal(String),
    /// Any segment that is not empty.
    Any,
    /// The page.
    Page,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    pub(super) fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Err(Invalid::new(field, format!("pattern {text:?} {why}")));
        if text.len() > MAX_PATTERN {
            return wrong("is too long");
        }
        let Some(segments) = text.strip_prefix('/') else { return wrong("does not begin with /") };
        let mut parts = Vec::new();
        let mut literal = String::new();
        for segment in segments.split('/') {
            literal.push('/');
            let part = match segment.strip_prefix('{').and_then(|s| s.strip_suffix('}')) {
                Some("id") => Part::Page,
                Some(name) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
                    Part::Any
                }
                Some(_) => return wrong("has a segment in braces without a plain name"),
                None if segment.is_empty() => return wrong("has an empty segment"),
                None if segment.bytes().any(|b| matches!(b, b'{' | b'}' | b'?' | b'#') || !b.is_ascii_graphic()) => {
                    return wrong("has a segment that is neither plain text nor {name}");
                }
                None => {
                    literal.push_str(segment);
                    continue;
                }
            };
            parts.push(Part::Literal(std::mem::take(&mut literal)));
            parts.push(part);
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        match parts.iter().filter(|part| **part == Part::Page).count() {
            1 => Ok(Self(parts)),
            _ => wrong("must have exactly one segment {id}"),
        }
    }

    /// The page's segment if a prefix of `path` (without its query) matches and ends at `/` or the end.
    pub(super) fn page<'a>(&self, path: &'a str) -> Option<&'a str> {
        let mut rest = path;
        let mut page = None;
        for part in &self.0 {
            match part {
                Part::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Any | Part::Page => {
                    let end = memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
                    let (segment, after) = rest.split_at(end);
                    if segment.is_empty() {
                        return None;
                    }
                    if *part == Part::Page {
                        page = Some(segment);
                    }
                    rest = after;
                }
            }
        }
        if rest.is_empty() || rest.starts_with('/') { page } else { None }
    }
}
