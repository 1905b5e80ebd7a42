//! Who calls: the bearer token of a request, verified once, before any handler runs.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use types::{Authenticator, Identity, Role};

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

/// Middleware (`axum::middleware::from_fn_with_state`): verifies the bearer token if there is one and
/// leaves the [`Identity`] in the request. A bad token is refused here; a missing one by [`Caller`].
pub async fn authenticate(
    State(authenticator): State<SharedAuthenticator>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.headers().contains_key(header::AUTHORIZATION) {
        let token = bearer(request.headers()).ok_or_else(|| {
            Problem::new(ProblemKind::UNAUTHENTICATED, "send one Authorization header: Bearer <token>")
        })?;
        let identity =
            authenticator.verify(token).map_err(|e| Problem::new(ProblemKind::UNAUTHENTICATED, e.to_string()))?;
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
