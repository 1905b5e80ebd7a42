//! Who may administer: the caller's roles are looked at before anything else of a call, so that nobody else learns
//! what is wrong with it. A refusal of authority is counted and logged here; it changes nothing.

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use http_kit::{Caller, Problem, RequestIdExt};
use types::{Identity, Role};

use crate::metrics;
use crate::stock::admin_store::Actor;

/// A set of roles that a call is open to.
pub(super) trait Open: Send + Sync {
    const TO: &'static [Role];
}

/// Sees sales and stock.
pub(super) struct Readers;
impl Open for Readers {
    const TO: &'static [Role] = &[Role::Viewer, Role::Merchandiser, Role::Operator, Role::Admin];
}
/// Administers sales and stock.
pub(super) struct Sellers;
impl Open for Sellers {
    const TO: &'static [Role] = &[Role::Merchandiser, Role::Admin];
}
/// Stops a sale and lets it go on.
pub(super) struct Stoppers;
impl Open for Stoppers {
    const TO: &'static [Role] = &[Role::Merchandiser, Role::Operator, Role::Admin];
}
/// Reads the audit log.
pub(super) struct Auditors;
impl Open for Auditors {
    const TO: &'static [Role] = &[Role::Operator, Role::Admin];
}

/// The caller, who has one of the roles of `O`.
pub(super) struct Staff<O> {
    /// Who it is.
    pub(super) by: Actor,
    open: PhantomData<O>,
}

impl<S: Send + Sync, O: Open> FromRequestParts<S> for Staff<O> {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let request = parts.extensions.get::<RequestIdExt>().map(|id| id.0.clone());
        let caller = Caller::from_request_parts(parts, state).await.inspect_err(|_| {
            metrics::not_allowed("unauthenticated");
        })?;
        let identity = caller.0.clone();
        match caller.require(O::TO) {
            Ok(Identity { subject, roles }) => Ok(Self { by: Actor { subject, roles, request }, open: PhantomData }),
            Err(problem) => {
                metrics::not_allowed("forbidden");
                log_refusal(&identity, parts, request.as_ref().map(types::RequestId::as_str));
                Err(problem)
            }
        }
    }
}

/// A shopper is never named in the log.
fn log_refusal(identity: &Identity, parts: &Parts, request: Option<&str>) {
    let roles: Vec<_> = identity.roles.iter().map(|role| role.as_str()).collect();
    let person = identity.roles.is_empty() || identity.roles.contains(&Role::Shopper);
    let subject = if person { "a shopper" } else { identity.subject.as_str() };
    tracing::warn!(subject, roles = roles.join(","), method = %parts.method, path = parts.uri.path(), request,
        "administration refused: not allowed for this role");
}
