//! Answers with caching: JSON with an `ETag` and `Cache-Control`, and 304 where the caller has it already.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_kit::{Problem, ProblemKind};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A JSON answer that anybody may cache for `seconds`.
pub(super) fn cached<T: Serialize>(request: &HeaderMap, value: &T, seconds: u32) -> Response {
    let Ok(body) = serde_json::to_vec(value) else {
        return Problem::new(ProblemKind::INTERNAL, "the answer could not be written").into_response();
    };
    let digest = Sha256::digest(&body);
    let tag = format!("\"{}\"", digest[..8].iter().map(|b| format!("{b:02x}")).collect::<String>());
    let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|v| v.to_str().ok());
    let same =
        known.flat_map(|v| v.split(',')).map(|t| t.trim().trim_start_matches("W/")).any(|t| t == tag || t == "*");
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if let Ok(cache) = HeaderValue::from_str(&format!("public, max-age={seconds}")) {
        headers.insert(header::CACHE_CONTROL, cache);
    }
    response
}
