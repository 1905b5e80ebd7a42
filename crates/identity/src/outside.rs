//! The authenticator over all configured issuers and the dashboards' sessions. It asks the issuer that a token names,
//! and no other.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::{AuthError, Authenticator, Clock, Identity};

use crate::claims::{self, Refused};
use crate::issuer::{Issuer, IssuerError};
use crate::login::{LoginSecret, Sessions};
use crate::metrics;
use crate::options::IdentityOptions;

/// Verifies tokens of outside issuers, and sessions.
pub struct OutsideTokens {
    issuers: Vec<Arc<Issuer>>,
    sessions: Option<Arc<Sessions>>,
}

impl OutsideTokens {
    /// Issuers without keys yet; the options must have been checked. Without a secret there are no sessions.
    pub fn new(
        options: &IdentityOptions,
        secret: Option<LoginSecret>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, IssuerError> {
        let make = |one: &crate::IssuerOptions| Issuer::new(one.clone(), clock.clone()).map(Arc::new);
        let issuers = options.issuers.iter().map(make).collect::<Result<_, _>>()?;
        let sessions = secret.map(|secret| Arc::new(Sessions::new(secret, options.login.session, clock.clone())));
        Ok(Self { issuers, sessions })
    }

    /// The issuer of this name.
    pub fn issuer(&self, name: &str) -> Option<Arc<Issuer>> {
        self.issuers.iter().find(|one| one.options.issuer == name).cloned()
    }

    /// The sessions, if dashboards may log in.
    pub fn sessions(&self) -> Option<Arc<Sessions>> {
        self.sessions.clone()
    }

    /// Keeps every issuer's keys fresh until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        metrics::describe();
        let mut running = JoinSet::new();
        for issuer in self.issuers.clone() {
            let stop = stop.clone();
            running.spawn(async move { issuer.run(stop).await });
        }
        while running.join_next().await.is_some() {}
        // Without an issuer there is nothing to keep, and this is still no reason to end.
        stop.cancelled().await;
    }
}

impl Authenticator for OutsideTokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        let refuse = |why: Refused| {
            metrics::refused(why.as_str());
            AuthError::Invalid
        };
        let peeked = claims::peek(bearer).map_err(refuse)?;
        let issuer = self.issuers.iter().find(|one| one.options.issuer == peeked.issuer);
        issuer.ok_or_else(|| refuse(Refused::Issuer))?.verify(bearer, &peeked)
    }

    fn session(&self, cookie: &str) -> Result<Identity, AuthError> {
        self.sessions.as_ref().ok_or(AuthError::Invalid)?.open(cookie).map(|session| session.identity)
    }
}
