//! Path patterns in the shop's own form, `/v1/sales/{sale}/products/{id}/purchases`, `/shop/{slug}-p{id:digits}.html` or
//! `/item.php?sku={id}`, matched without a regular expression. A page is what stands in the log: nothing is decoded.

use types::Invalid;

/// Longest pattern, in bytes: nobody's route is longer, and each is tried on each line.
const MAX_PATTERN: usize = 256;

#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// These bytes, slashes included.
    Literal(String),
    /// A segment that is one variable, or several between texts.
    Segment(Vec<Piece>),
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable { page: bool, digits: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
    /// The query's parameter that holds the page, and whether it must be digits.
    parameter: Option<(String, bool)>,
}

impl Pattern {
    pub(super) fn parse(field: &'static str, text: &str) -> Result<Self, Invalid> {
        let wrong = |why: &str| Err(Invalid::new(field, format!("pattern {text:?} {why}")));
        if text.len() > MAX_PATTERN {
            return wrong("is too long");
        }
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let Some(segments) = path.strip_prefix('/') else { return wrong("does not begin with /") };
        let mut parts = Vec::new();
        let mut literal = String::new();
        for segment in segments.split('/') {
            literal.push('/');
            if segment.is_empty() {
                return wrong("has an empty segment");
            }
            if segment.bytes().any(|b| b == b'#' || !b.is_ascii_graphic()) {
                return wrong("has a segment that is neither plain text nor {name}");
            }
            if !segment.contains(['{', '}']) {
                literal.push_str(segment);
                continue;
            }
            match pieces(segment) {
                Ok(pieces) => {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                    parts.push(Part::Segment(pieces));
                }
                Err(why) => return wrong(why),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let parameter = match query.map(|query| query.split_once('=')) {
            None => None,
            Some(Some((name, "{id}"))) if plain(name) => Some((name.to_owned(), false)),
            Some(Some((name, "{id:digits}"))) if plain(name) => Some((name.to_owned(), true)),
            Some(_) => return wrong("has a query that is not one parameter={id}"),
        };
        let page = |part: &Part| matches!(part, Part::Segment(pieces) if pieces.iter().any(Piece::is_page));
        let pages = parts.iter().filter(|part| page(part)).count() + usize::from(parameter.is_some());
        if pages == 1 { Ok(Self { parts, parameter }) } else { wrong("must have {id} exactly once") }
    }

    /// The page's text if a prefix of `path` matches and ends at `/` or the end.
    pub(super) fn page<'a>(&self, path: &'a str, query: &'a str) -> Option<&'a str> {
        let mut rest = path;
        let mut page = None;
        for part in &self.parts {
            match part {
                Part::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Part::Segment(pieces) => {
                    let end = memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
                    let (segment, after) = rest.split_at(end);
                    page = match_segment(pieces, segment)?.or(page);
                    rest = after;
                }
            }
        }
        if !rest.is_empty() && !rest.starts_with('/') {
            return None;
        }
        let Some((name, digits)) = &self.parameter else { return page };
        let value = |pair: &'a str| pair.strip_prefix(name.as_str())?.strip_prefix('=');
        query.split('&').find_map(value).filter(|value| fits(value, *digits))
    }
}

impl Piece {
    fn is_page(&self) -> bool {
        matches!(self, Self::Variable { page: true, .. })
    }
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'[' | b']'))
}

fn fits(value: &str, digits: bool) -> bool {
    !value.is_empty() && (!digits || value.bytes().all(|b| b.is_ascii_digit()))
}

/// A segment's texts and variables.
fn pieces(segment: &str) -> Result<Vec<Piece>, &'static str> {
    const NAME: &str = "has a segment in braces without a plain name";
    let mut pieces = Vec::new();
    let mut rest = segment;
    while !rest.is_empty() {
        let open = rest.find('{').unwrap_or(rest.len());
        if rest[..open].contains('}') {
            return Err(NAME);
        }
        if open > 0 {
            pieces.push(Piece::Text(rest[..open].to_owned()));
        }
        let Some(inner) = rest.get(open + 1..) else { break };
        let (name, after) = inner.split_once('}').ok_or(NAME)?;
        let (name, digits) = match name.split_once(':') {
            Some((name, "digits")) => (name, true),
            Some(_) => return Err("has a variable of a kind that is not digits"),
            None => (name, false),
        };
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(NAME);
        }
        if matches!(pieces.last(), Some(Piece::Variable { .. })) {
            return Err("has two variables side by side");
        }
        if name == "id" && pieces.iter().any(Piece::is_page) {
            return Err("must have {id} exactly once");
        }
        pieces.push(Piece::Variable { page: name == "id", digits });
        rest = after;
    }
    Ok(pieces)
}

/// Whether the segment matches, and the page if it is in this one. From the right, as a slug may hold anything.
fn match_segment<'a>(pieces: &[Piece], segment: &'a str) -> Option<Option<&'a str>> {
    let mut rest = segment;
    let mut page = None;
    for (at, piece) in pieces.iter().enumerate().rev() {
        match piece {
            Piece::Text(text) => rest = rest.strip_suffix(text.as_str())?,
            Piece::Variable { page: is_page, digits } => {
                let start = match at.checked_sub(1).map(|before| &pieces[before]) {
                    Some(Piece::Text(text)) if at == 1 => rest.starts_with(text.as_str()).then_some(text.len())?,
                    Some(Piece::Text(text)) => rest.rfind(text.as_str())? + text.len(),
                    _ => 0,
                };
                let value = rest.get(start..)?;
                if !fits(value, *digits) {
                    return None;
                }
                if *is_page {
                    page = Some(value);
                }
                rest = &rest[..start];
            }
        }
    }
    rest.is_empty().then_some(page)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_shop_may_have_its_own_form_of_ids() {
        for (pattern, path, query, page) in [
            ("/p/{id}.html", "/p/red-shoe.html", "", Some("red-shoe")),
            ("/p/{id}.html", "/p/.html", "", None),
            ("/p/{id}.html", "/p/x.htm", "", None),
            ("/p/{id:digits}", "/p/42/reviews", "", Some("42")),
            ("/p/{id:digits}", "/p/red-shoe", "", None),
            ("/{slug}-p{id:digits}.html", "/red-p-shoe-p123.html", "", Some("123")),
            ("/{slug}-p{id:digits}.html", "/red-shoe-px.html", "", None),
            ("/{slug}-p{id}.html", "/-p1.html", "", None),
            ("/{lang}/product-{id}", "/de/product-7/", "", Some("7")),
            ("/{lang}/product-{id}", "/de/product-", "", None),
            ("/item.php?sku={id}", "/item.php", "a=1&sku=A-1&b=2", Some("A-1")),
            ("/item.php?sku={id}", "/item.php", "xsku=1", None),
            ("/item.php?sku={id}", "/item.php", "sku=", None),
            ("/item.php?sku={id}", "/item.phpx", "sku=1", None),
            ("/item?id={id:digits}", "/item/", "id=1x", None),
        ] {
            assert_eq!(Pattern::parse("x", pattern).unwrap().page(path, query), page, "{pattern} on {path}?{query}");
        }
        for bad in
            ["/{a}{id}", "/{id}-{id}", "/{id:hex}", "/x?id", "/x?id={sku}", "/{id}?x={id}", "/x?={id}", "/a}b/{id}"]
        {
            assert!(Pattern::parse("x", bad).is_err(), "{bad}");
        }
    }
}
