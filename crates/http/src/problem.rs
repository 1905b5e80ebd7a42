//! Errors as RFC 9457 `application/problem+json`, with a stable `type` per reason.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

/// A reason with its stable name and status; services keep theirs as constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProblemKind {
    /// Stable name, used as `type: "/problems/<name>"`.
    pub name: &'static str,
    /// Short text for people.
    pub title: &'static str,
    /// HTTP status.
    pub status: StatusCode,
}

impl ProblemKind {
    /// A kind; use in constants.
    pub const fn new(name: &'static str, title: &'static str, status: StatusCode) -> Self {
        Self { name, title, status }
    }

    /// The body is not what the call takes.
    pub const MALFORMED: Self = Self::new("malformed", "Malformed request", StatusCode::BAD_REQUEST);
    /// A field's value is refused.
    pub const INVALID_FIELD: Self = Self::new("invalid-field", "Invalid field", StatusCode::UNPROCESSABLE_ENTITY);
    /// No or bad credentials.
    pub const UNAUTHENTICATED: Self = Self::new("unauthenticated", "Authentication required", StatusCode::UNAUTHORIZED);
    /// The caller's roles do not allow this.
    pub const FORBIDDEN: Self = Self::new("forbidden", "Not allowed for your role", StatusCode::FORBIDDEN);
    /// A page of another place sent it, with a session that the browser added by itself.
    pub const FOREIGN_PAGE: Self = Self::new("foreign-page", "Not from a page of another place", StatusCode::FORBIDDEN);
    /// There is no such thing, or it is not the caller's.
    pub const NOT_FOUND: Self = Self::new("not-found", "Not found", StatusCode::NOT_FOUND);
    /// The route exists for other methods.
    pub const METHOD: Self = Self::new("method-not-allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED);
    /// The body is larger than the listener takes.
    pub const TOO_LARGE: Self = Self::new("body-too-large", "Body too large", StatusCode::PAYLOAD_TOO_LARGE);
    /// The body has another content type than the call takes.
    pub const MEDIA_TYPE: Self =
        Self::new("unsupported-media-type", "Unsupported media type", StatusCode::UNSUPPORTED_MEDIA_TYPE);
    /// The request took longer than the listener allows.
    pub const TIMEOUT: Self = Self::new("timeout", "Request took too long", StatusCode::REQUEST_TIMEOUT);
    /// More requests at once than the listener serves.
    pub const OVERLOADED: Self = Self::new("overloaded", "Overloaded", StatusCode::SERVICE_UNAVAILABLE);
    /// A store behind the call is not reachable.
    pub const UNAVAILABLE: Self = Self::new("unavailable", "Temporarily unavailable", StatusCode::SERVICE_UNAVAILABLE);
    /// A defect of ours; the request id leads to the log.
    pub const INTERNAL: Self = Self::new("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR);

    /// Those above: every listener may answer with them.
    pub const COMMON: [Self; 13] = [
        Self::MALFORMED,
        Self::INVALID_FIELD,
        Self::UNAUTHENTICATED,
        Self::FORBIDDEN,
        Self::FOREIGN_PAGE,
        Self::NOT_FOUND,
        Self::METHOD,
        Self::TOO_LARGE,
        Self::MEDIA_TYPE,
        Self::TIMEOUT,
        Self::OVERLOADED,
        Self::UNAVAILABLE,
        Self::INTERNAL,
    ];
}

/// One refusal, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    field: Option<String>,
    retry_after: Option<u64>,
    // Boxed: most have none, and a Result carries a Problem.
    more: Option<Box<Map<String, Value>>>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(flatten)]
    more: Option<&'a Map<String, Value>>,
}

impl Problem {
    /// A refusal of `kind`; `detail` says what is wrong and what to do.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), field: None, retry_after: None, more: None }
    }
    /// Names the field at fault.
    #[must_use]
    pub fn field(mut self, path: impl Into<String>) -> Self {
        self.field = Some(path.into());
        self
    }
    /// Adds a member of its own (RFC 9457, 3.2), such as the list of everything that is wrong.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.get_or_insert_default().insert(name.to_owned(), value.into());
        self
    }
    /// Says after how many seconds a new try makes sense.
    #[must_use]
    pub const fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }
    /// The reason.
    pub const fn kind(&self) -> ProblemKind {
        self.kind
    }
}

impl From<types::Invalid> for Problem {
    fn from(e: types::Invalid) -> Self {
        Self::new(ProblemKind::INVALID_FIELD, e.to_string()).field(e.what)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("/problems/{}", self.kind.name),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            field: self.field.as_deref(),
            more: self.more.as_deref(),
        };
        let mut response = (self.kind.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
