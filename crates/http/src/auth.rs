//! Who calls: the bearer token of a request, or the session of a dashboard's browser, verified once, before any
//! handler runs. A session alone never changes anything for a page of another site.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use types::{AuthError, Authenticator, Identity, Role};

use crate::{Problem, ProblemKind};

/// The authenticator that a listener was given.
pub type SharedAuthenticator = Arc<dyn Authenticator>;

/// The text behind `Bearer `, if there is exactly one `Authorization` header of that scheme.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    match (all.next(), all.next()) {
        (Some(one), None) => {
            let (scheme, token) = one.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        }
        _ => None,
    }
}

/// Cookie of a dashboard's session.
pub const SESSION_COOKIE: &str = "seckill_session";
/// Says of a request whether the page that sent it is of this place (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The value of this cookie, if there is exactly one.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut all = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = all.by_ref().filter(|(its, _)| *its == name);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Some(value),
        _ => None,
    }
}

/// Refuses what a page of another place has sent: a browser adds cookies by itself, and says where a page came from.
pub fn own_page(headers: &HeaderMap) -> Result<(), Problem> {
    let one = |name: &HeaderName| headers.get(name).map(|value| value.as_bytes());
    let own = match (one(&FETCH_SITE), one(&header::ORIGIN), one(&header::HOST)) {
        (Some(site), _, _) => site == b"same-origin",
        (None, Some(origin), Some(host)) => {
            let its = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
            its.is_some_and(|its| its.eq_ignore_ascii_case(host))
        }
        (None, _, _) => false,
    };
    let foreign = || {
        let why = "a session changes something only for its own pages; programs send Authorization: Bearer <token>";
        Problem::new(ProblemKind::FOREIGN_PAGE, why)
    };
    own.then_some(()).ok_or_else(foreign)
}

/// Who a request's session is; `None` without a good one. What changes something must come from a page of ours.
pub fn session(
    authenticator: &dyn Authenticator,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Option<Identity>, Problem> {
    let Some(identity) = cookie(headers, SESSION_COOKIE).and_then(|text| authenticator.session(text).ok()) else {
        return Ok(None);
    };
    if !method.is_safe() {
        own_page(headers)?;
    }
    Ok(Some(identity))
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Invalid | AuthError::Expired => Self::new(ProblemKind::UNAUTHENTICATED, error.to_string()),
            AuthError::Unavailable => Self::new(ProblemKind::UNAVAILABLE, error.to_string()).retry_after(1),
        }
    }
}

/// Middleware (`axum::middleware::from_fn_with_state`): verifies the bearer token if there is one, else the session,
/// and leaves the [`Identity`] in the request. A bad token is refused here; a missing one by [`Caller`].
pub async fn authenticate(
    State(authenticator): State<SharedAuthenticator>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let token = bearer(request.headers()).ok_or_else(|| {
            Problem::new(ProblemKind::UNAUTHENTICATED, "send one Authorization header: Bearer <token>")
        })?;
        let identity = authenticator.verify(token)?;
        request.extensions_mut().insert(identity);
    } else if let Some(identity) = session(&*authenticator, request.method(), request.headers())? {
        request.extensions_mut().insert(identity);
    }
    Ok(next.run(request).await)
}

/// Extractor: the verified caller; 401 without one.
#[derive(Debug, Clone)]
pub struct Caller(pub Identity);

impl Caller {
    /// The caller, if he has one of `roles`; else 403.
    pub fn require(self, roles: &[Role]) -> Result<Identity, Problem> {
        if self.0.is_any(roles) {
            Ok(self.0)
        } else {
            let names: Vec<_> = roles.iter().map(|r| r.as_str()).collect();
            Err(Problem::new(ProblemKind::FORBIDDEN, format!("this call needs one of the roles: {}", names.join(", "))))
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .extensions
            .get::<Identity>()
            .cloned()
            .map(Caller)
            .ok_or_else(|| Problem::new(ProblemKind::UNAUTHENTICATED, "send the header Authorization: Bearer <token>"))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut map = HeaderMap::new();
        for (name, value) in all.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn a_cookie_is_found_among_others_and_two_of_a_name_are_none() {
        assert_eq!(cookie(&headers(&[("cookie", "a=1; b=2=3;c=")]), "b"), Some("2=3"));
        assert_eq!(cookie(&headers(&[("cookie", "a=1"), ("cookie", "b=2")]), "b"), Some("2"));
        assert_eq!(cookie(&headers(&[("cookie", "b=1; b=2")]), "b"), None);
        assert_eq!(cookie(&headers(&[("cookie", "ab=1; b")]), "b"), None);
        assert_eq!(cookie(&headers(&[]), "b"), None);
    }

    #[test]
    fn only_a_page_of_this_place_changes_something() {
        let host = ("host", "ops.example");
        for own in
            [headers(&[host, ("sec-fetch-site", "same-origin")]), headers(&[host, ("origin", "https://ops.example")])]
        {
            assert_eq!(own_page(&own), Ok(()), "{own:?}");
        }
        for foreign in [
            headers(&[host]),
            headers(&[host, ("origin", "null")]),
            headers(&[host, ("origin", "https://ops.example.evil.example")]),
            headers(&[host, ("sec-fetch-site", "same-site"), ("origin", "https://ops.example")]),
            headers(&[host, ("sec-fetch-site", "cross-site")]),
            headers(&[("origin", "https://ops.example")]),
        ] {
            let refused = own_page(&foreign).expect_err("must be refused");
            assert_eq!(refused.kind(), ProblemKind::FOREIGN_PAGE, "{foreign:?}");
        }
    }
}
