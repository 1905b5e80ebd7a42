//! Who calls. Services ask an [`Authenticator`]; the binary decides which one there is.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::BuyerId;

/// What a caller may do. A closed set: it is also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buys and sees only what is his.
    Shopper,
    /// Reads everything but personal data.
    Viewer,
    /// Analytics; administers sales and stock.
    Merchandiser,
    /// Pauses, overrides, policy, flow rules.
    Operator,
    /// Everything.
    Admin,
    /// A seckill-core process.
    Core,
    /// An edge (Nginx).
    Edge,
    /// A control plane process.
    Control,
}

impl Role {
    /// The lower-case name, as in tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shopper => "shopper",
            Self::Viewer => "viewer",
            Self::Merchandiser => "merchandiser",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Core => "core",
            Self::Edge => "edge",
            Self::Control => "control",
        }
    }
}
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl std::str::FromStr for Role {
    type Err = crate::Invalid;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [
            Self::Shopper,
            Self::Viewer,
            Self::Merchandiser,
            Self::Operator,
            Self::Admin,
            Self::Core,
            Self::Edge,
            Self::Control,
        ]
        .into_iter()
        .find(|r| r.as_str() == text)
        .ok_or_else(|| crate::Invalid::new("role", format!("{text:?} is not a role")))
    }
}

/// A verified caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's subject; for a shopper the buyer.
    pub subject: BuyerId,
    /// What the token allows.
    pub roles: BTreeSet<Role>,
}

impl Identity {
    /// Whether the caller has `role`, or is admin (admin has every human role).
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
            || (self.roles.contains(&Role::Admin) && !matches!(role, Role::Core | Role::Edge | Role::Control))
    }
    /// Whether the caller has one of `roles`.
    pub fn is_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|r| self.is(*r))
    }
}

/// Why a bearer token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not a token of the pinned algorithm, or the signature is wrong.
    #[error("the bearer token is malformed or its signature is wrong")]
    Invalid,
    /// Its `exp` has passed.
    #[error("the bearer token has expired")]
    Expired,
    /// Its issuer's keys are not here (yet): the same token may be good in a moment.
    #[error("the keys of the token's issuer are being fetched; try again")]
    Unavailable,
}

/// Port: turns a bearer token into a verified caller. Must pin the algorithm and compare in constant time.
pub trait Authenticator: Send + Sync + 'static {
    /// Verifies `bearer` (the text after `Bearer `).
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError>;

    /// Verifies the text of a session's cookie. Without logins no session is good.
    fn session(&self, _cookie: &str) -> Result<Identity, AuthError> {
        Err(AuthError::Invalid)
    }
}
