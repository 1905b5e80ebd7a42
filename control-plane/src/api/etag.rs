//! Versions as entity tags: of an override `"g<generation that carried it first>"`, of the policy `"p<version>"`.

use axum::http::{HeaderMap, HeaderName, header};
use http_kit::{Problem, ProblemKind};
use types::Generation;

use crate::brain::Expects;

/// Most tags in one header: more than any client can have seen.
const MAX_TAGS: usize = 16;

pub(super) fn print(generation: Generation) -> String {
    format!("\"g{generation}\"")
}

pub(super) fn print_policy(version: u64) -> String {
    format!("\"p{version}\"")
}

/// The versions of the policy that the caller believes to be there, from `If-Match`; `*` is any.
pub(super) fn policy_versions(headers: &HeaderMap) -> Result<Option<Vec<u64>>, Problem> {
    match tags(headers, &header::IF_MATCH, 'p')? {
        None | Some(Tags::Any) => Ok(None),
        Some(Tags::These(versions)) => Ok(Some(versions)),
    }
}

/// Whether `If-None-Match` of a read names this version of the policy.
pub(super) fn knows_policy(headers: &HeaderMap, version: u64) -> bool {
    matches!(tags(headers, &header::IF_NONE_MATCH, 'p'), Ok(Some(Tags::These(known))) if known.contains(&version))
}

/// What the caller believes, from `If-Match` and `If-None-Match`.
pub(super) fn expects(headers: &HeaderMap) -> Result<Expects, Problem> {
    let expected = tags(headers, &header::IF_MATCH, 'g')?;
    let excluded = tags(headers, &header::IF_NONE_MATCH, 'g')?;
    match (expected, excluded) {
        (None, None) => Ok(Expects::Anything),
        (Some(Tags::Any), None) => Ok(Expects::Present),
        (Some(Tags::These(versions)), None) => Ok(Expects::OneOf(versions.into_iter().map(Generation::new).collect())),
        (None, Some(Tags::Any)) => Ok(Expects::Absent),
        (None, Some(Tags::These(_))) => {
            Err(Problem::new(ProblemKind::MALFORMED, "If-None-Match takes * here: create only").field("If-None-Match"))
        }
        (Some(_), Some(_)) => {
            Err(Problem::new(ProblemKind::MALFORMED, "send If-Match or If-None-Match, not both").field("If-Match"))
        }
    }
}

/// Whether `If-None-Match` of a read names the version that is there.
pub(super) fn is_known(headers: &HeaderMap, generation: Generation) -> bool {
    match tags(headers, &header::IF_NONE_MATCH, 'g') {
        Ok(Some(Tags::Any)) => true,
        Ok(Some(Tags::These(versions))) => versions.contains(&generation.get()),
        Ok(None) | Err(_) => false,
    }
}

enum Tags {
    Any,
    These(Vec<u64>),
}

/// A tag that is well formed but not of ours (weak, foreign) is a version that is not there: it matches nothing.
fn tags(headers: &HeaderMap, name: &HeaderName, kind: char) -> Result<Option<Tags>, Problem> {
    let malformed = |why: &str| Problem::new(ProblemKind::MALFORMED, format!("{name}: {why}")).field(name.as_str());
    let mut versions = Vec::new();
    let mut count = 0usize;
    for value in headers.get_all(name) {
        let text = value.to_str().map_err(|_| malformed("not text"))?;
        for tag in text.split(',').map(str::trim).filter(|t| !t.is_empty()) {
            count += 1;
            if count > MAX_TAGS {
                return Err(malformed("too many tags"));
            }
            if tag == "*" {
                return if text.trim() == "*" { Ok(Some(Tags::Any)) } else { Err(malformed("* stands alone")) };
            }
            let strong = tag.strip_prefix("W/").unwrap_or(tag);
            let inner = strong
                .strip_prefix('"')
                .and_then(|t| t.strip_suffix('"'))
                .ok_or_else(|| malformed("a tag stands in double quotes, as in the ETag header"))?;
            let ours = inner.strip_prefix(kind).and_then(|n| n.parse::<u64>().ok());
            if let Some(version) = ours.filter(|n| tag == format!("\"{kind}{n}\"")) {
                versions.push(version);
            }
        }
    }
    Ok((count > 0).then_some(Tags::These(versions)))
}
