//! What calls carry beside their body, parsed at the door: path names, the idempotency key, preferences. What is
//! malformed is refused here and nowhere later.

use std::convert::Infallible;
use std::str::FromStr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Caller, Problem, ProblemKind, RequestIdExt};
use serde::de::DeserializeOwned;
use types::{BuyerId, IdempotencyKey, RequestId, Role};
use utoipa::IntoParams;

/// Header with the client's own name for a purchase attempt.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// Longest time that a caller may ask to wait: above it, connections would outlive their shoppers.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Time that is waited when the caller does not say how long.
const DEFAULT_WAIT: Duration = Duration::from_secs(2);

/// [`Key`]'s header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its annotations are read")]
pub(super) struct IdempotencyKeyHeader {
    /// The caller's own name for this call: the same key has the same answer for ever, with another body it is
    /// refused.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 128, pattern = "^[!-~]+$")]
    key: String,
}

/// [`Wait`]'s header, for the OpenAPI document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its annotations are read")]
pub(super) struct PreferWait {
    /// `wait=N`: up to N seconds, at most 5, the end is waited for and answered in place of 202 (RFC 7240).
    #[param(rename = "Prefer", example = "wait=3")]
    prefer: Option<String>,
}

/// The shopper who calls.
pub(super) struct Shopper(pub(super) BuyerId);

impl<S: Send + Sync> FromRequestParts<S> for Shopper {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let identity = Caller::from_request_parts(parts, state).await?.require(&[Role::Shopper])?;
        Ok(Self(identity.subject))
    }
}

/// The request's id.
pub(super) struct Request(pub(super) Option<RequestId>);

impl<S: Send + Sync> FromRequestParts<S> for Request {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<RequestIdExt>().map(|id| id.0.clone())))
    }
}

/// The required `Idempotency-Key`.
pub(super) struct Key(pub(super) IdempotencyKey);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let malformed = |why: &str| Problem::new(ProblemKind::MALFORMED, why).field("Idempotency-Key");
        let mut values = parts.headers.get_all(&IDEMPOTENCY_KEY).iter();
        let value = match (values.next(), values.next()) {
            (Some(one), None) => one,
            (None, _) => return Err(malformed("send the header Idempotency-Key: your own name for this call")),
            (Some(_), Some(_)) => return Err(malformed("send one Idempotency-Key")),
        };
        let text = value.to_str().map_err(|_| malformed("the Idempotency-Key is not printable ASCII"))?;
        IdempotencyKey::new(text).map(Self).map_err(|e| malformed(&e.to_string()))
    }
}

/// `Prefer: wait=N`, at most [`MAX_WAIT`]. What is not understood is ignored, as the RFC says.
pub(super) struct Wait(pub(super) Option<Duration>);

impl<S: Send + Sync> FromRequestParts<S> for Wait {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(wait(&parts.headers)))
    }
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(&PREFER).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split([',', ';'])).find_map(|preference| {
        let mut halves = preference.splitn(2, '=');
        if !halves.next()?.trim().eq_ignore_ascii_case("wait") {
            return None;
        }
        match halves.next() {
            None => Some(DEFAULT_WAIT),
            Some(n) => n.trim().parse().ok().map(|s: u32| Duration::from_secs(s.into()).min(MAX_WAIT)),
        }
    })
}

/// A name in the path; one that is not well formed names nothing: 404.
pub(super) struct Named<T>(pub(super) T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.ok().and_then(|Path(text)| text.parse().ok()).map(Self).ok_or_else(unknown)
    }
}

/// Two names in the path.
pub(super) struct Named2<A, B>(pub(super) A, pub(super) B);

impl<S: Send + Sync, A: FromStr, B: FromStr> FromRequestParts<S> for Named2<A, B> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<(String, String)>, PathRejection> = Path::from_request_parts(parts, state).await;
        let Path((a, b)) = path.map_err(|_| unknown())?;
        a.parse().ok().zip(b.parse().ok()).map(|(a, b)| Self(a, b)).ok_or_else(unknown)
    }
}

/// The parameters behind `?`. A misspelt one is refused: without it a list would silently begin anew.
pub(super) struct Params<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|e| Problem::new(ProblemKind::MALFORMED, e.body_text()))
    }
}

/// The bounded length of a page; `most` if none is asked for.
pub(super) fn page_length(asked: Option<usize>, most: usize) -> Result<usize, Problem> {
    match asked {
        None => Ok(most),
        Some(n) if (1..=most).contains(&n) => Ok(n),
        Some(n) => Err(Problem::new(ProblemKind::INVALID_FIELD, format!("{n} is not in 1 to {most}")).field("limit")),
    }
}

/// A JSON object as body. Beyond axum's own extractor it refuses an array: serde would take its elements for the
/// fields in their order, and `[1]` is no purchase.
pub(super) struct Object<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Object<T> {
    type Rejection = Response;
    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        let typed = object_type(request.headers());
        let bytes = Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        typed.and_then(|()| object(&bytes)).map(Self).map_err(IntoResponse::into_response)
    }
}

/// Refuses a body that is not said to be JSON.
pub(super) fn object_type(headers: &HeaderMap) -> Result<(), Problem> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter().filter_map(|v| v.to_str().ok());
    let essence = types.next().and_then(|t| t.split(';').next()).unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") && types.next().is_none() {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::MEDIA_TYPE, "send the body as application/json"))
}

/// What is wrong with a JSON body: its text (400) or its content (422).
pub(super) fn json_problem(error: &serde_json::Error) -> Problem {
    let kind = if error.is_data() { ProblemKind::INVALID_FIELD } else { ProblemKind::MALFORMED };
    Problem::new(kind, error.to_string())
}

/// A JSON object from bytes.
pub(super) fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let value = serde_json::from_slice(bytes).map_err(|e| json_problem(&e))?;
    // It parses, so its first character tells its kind.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::new(ProblemKind::INVALID_FIELD, "the body is not a JSON object"));
    }
    Ok(value)
}

/// The 404 of everything that does not exist or is not the caller's.
pub(super) fn unknown() -> Problem {
    Problem::new(ProblemKind::NOT_FOUND, "no such thing, or it is not yours")
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_preference_to_wait_is_bounded_and_nonsense_ignored() {
        let said = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(PREFER, HeaderValue::from_static(text));
            wait(&headers)
        };
        assert_eq!(said("wait=3"), Some(Duration::from_secs(3)));
        assert_eq!(said("respond-async, Wait = 999999"), Some(MAX_WAIT));
        assert_eq!(said("wait"), Some(DEFAULT_WAIT));
        for nonsense in ["wait=-1", "wait=1.5", "wait=", "waiting=3", "", "wait=99999999999999999999"] {
            assert_eq!(said(nonsense), None, "{nonsense:?}");
        }
        assert_eq!(wait(&HeaderMap::new()), None);
    }
}
