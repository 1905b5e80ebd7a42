//! Whom this installation believes: the control plane and the edges by their secrets, people by the configured issuers,
//! and in a demo by the built-in issuer, which signs HS256 tokens with a secret of this installation and must never be
//! believed in production.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http_kit::VerifiedTokens;
use identity::OutsideTokens;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use types::{AuthError, Authenticator, BuyerId, Clock, Identity, Role, Timestamp};

use crate::config::{Config, Mode};
use crate::secrets::{Secret, Secrets};

/// Name in `iss` and `aud`: a token of another installation's purpose is refused.
const ISSUER: &str = "seckill-demo";
/// Longest life of a demo token: a token pasted into a shell history does not live for ever.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Longest token that is looked at: an honest one has some 300 bytes.
const MAX_TOKEN_BYTES: usize = 4096;

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    roles: BTreeSet<Role>,
    exp: i64,
}

/// Signs and verifies.
pub struct DemoIssuer {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    control_token: Secret,
    clock: Arc<dyn Clock>,
    known: VerifiedTokens,
}

impl DemoIssuer {
    /// An issuer with this installation's secrets.
    pub fn new(issuer_secret: &Secret, control_token: Secret, clock: Arc<dyn Clock>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        // The life of a token is judged by the injected clock (the demo may run faster), not by the machine's.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Self {
            signing: EncodingKey::from_secret(issuer_secret.bytes()),
            verifying: DecodingKey::from_secret(issuer_secret.bytes()),
            validation,
            control_token,
            clock,
            known: VerifiedTokens::default(),
        }
    }

    /// A token for `subject` with `roles`, good for `life` (at most [`MAX_TOKEN_LIFE`]).
    pub fn issue(&self, subject: &BuyerId, roles: &[Role], life: Duration) -> anyhow::Result<String> {
        let exp = self.clock.now().plus(life.min(MAX_TOKEN_LIFE)).second();
        let claims = Claims {
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            sub: subject.to_string(),
            roles: roles.iter().copied().collect(),
            exp,
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)?)
    }
}

impl Authenticator for DemoIssuer {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        if bearer.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        if self.control_token.equals(bearer.as_bytes()) {
            let subject = BuyerId::new("control-plane").map_err(|_| AuthError::Invalid)?;
            return Ok(Identity { subject, roles: BTreeSet::from([Role::Control]) });
        }
        // Its tokens end by their time alone, so that one verified before may be remembered.
        self.known.verify(bearer, self.clock.now(), |bearer| {
            let token = jsonwebtoken::decode::<Claims>(bearer, &self.verifying, &self.validation)
                .map_err(|_| AuthError::Invalid)?;
            // Service identities are proved by their own token, never by a demo issuer's claim.
            let mut roles = token.claims.roles;
            roles.retain(|r| !matches!(r, Role::Control | Role::Core | Role::Edge));
            let subject = BuyerId::new(&token.claims.sub).map_err(|_| AuthError::Invalid)?;
            Ok((Identity { subject, roles }, Timestamp::from_seconds(token.claims.exp)))
        })
    }
}

/// A token of the built-in issuer for a command that was given none.
pub fn local_token(config: &Config, subject: &str, roles: &[Role], life: Duration) -> anyhow::Result<String> {
    anyhow::ensure!(
        config.mode == Mode::Demo,
        "in production tokens come from the configured issuers (identity.issuers); give one with --token or SECKILL_TOKEN"
    );
    let secrets = Secrets::load(&config.secrets, &config.data_dir, config.mode.makes_secrets())?;
    let issuer = DemoIssuer::new(&secrets.issuer, secrets.control, Arc::new(types::SystemClock::new()));
    issuer.issue(&BuyerId::new(subject)?, roles, life)
}

/// Everybody who may call.
pub struct Callers {
    control: Secret,
    /// If there are edges.
    edges: Option<Secret>,
    /// In a demo alone.
    built_in: Option<Arc<DemoIssuer>>,
    outside: Arc<OutsideTokens>,
}

impl Callers {
    /// The control plane by its secret, people by `outside`, and by `built_in` where it is believed.
    pub fn new(control: Secret, built_in: Option<Arc<DemoIssuer>>, outside: Arc<OutsideTokens>) -> Self {
        Self { control, edges: None, built_in, outside }
    }

    /// Believes this secret to be an edge's.
    #[must_use]
    pub fn with_edges(mut self, edges: Secret) -> Self {
        self.edges = Some(edges);
        self
    }
}

impl Authenticator for Callers {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        if self.control.equals(bearer.as_bytes()) {
            let subject = BuyerId::new("control-plane").map_err(|_| AuthError::Invalid)?;
            return Ok(Identity { subject, roles: BTreeSet::from([Role::Control]) });
        }
        if self.edges.as_ref().is_some_and(|secret| secret.equals(bearer.as_bytes())) {
            let subject = BuyerId::new("edge").map_err(|_| AuthError::Invalid)?;
            return Ok(Identity { subject, roles: BTreeSet::from([Role::Edge]) });
        }
        match self.built_in.as_ref().map(|issuer| issuer.verify(bearer)) {
            Some(Ok(identity)) => Ok(identity),
            Some(Err(AuthError::Expired)) => Err(AuthError::Expired),
            Some(Err(_)) | None => self.outside.verify(bearer),
        }
    }

    fn session(&self, cookie: &str) -> Result<Identity, AuthError> {
        self.outside.session(cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{ManualClock, Timestamp};

    fn issuer(clock: &Arc<ManualClock>) -> DemoIssuer {
        DemoIssuer::new(&Secret::new(b"s".repeat(32)), Secret::new(b"control-plane-token".to_vec()), clock.clone())
    }

    #[test]
    fn a_token_says_who_calls_until_it_expires() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000_000)));
        let issuer = issuer(&clock);
        let ann = BuyerId::new("ann").expect("a buyer");
        let token = issuer.issue(&ann, &[Role::Shopper], Duration::from_secs(60)).expect("it signs");
        assert_eq!(issuer.verify(&token).map(|i| i.subject), Ok(ann));
        clock.advance(Duration::from_secs(60));
        assert_eq!(issuer.verify(&token), Err(AuthError::Expired));
    }

    #[test]
    fn forged_tokens_are_refused() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000_000)));
        let issuer = issuer(&clock);
        let ann = BuyerId::new("ann").expect("a buyer");
        let token = issuer.issue(&ann, &[Role::Control, Role::Shopper], Duration::from_secs(60)).expect("it signs");
        let roles = issuer.verify(&token).expect("its own token").roles;
        assert_eq!(roles, BTreeSet::from([Role::Shopper]), "a claim never makes a service identity");

        let other = DemoIssuer::new(&Secret::new(b"t".repeat(32)), Secret::new(b"x".repeat(32)), clock.clone());
        let foreign = other.issue(&ann, &[Role::Admin], Duration::from_secs(60)).expect("it signs");
        // {"alg":"none"} with admin claims and an empty signature.
        let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJyb2xlcyI6WyJhZG1pbiJdLCJleHAiOjk5OTk5OTk5OTl9.";
        let cut = &token[..token.len() - 2];
        for bad in [foreign.as_str(), none, cut, "", "a.b.c", &"x".repeat(5000)] {
            assert_eq!(issuer.verify(bad), Err(AuthError::Invalid), "{bad}");
        }
        assert!(issuer.verify("control-plane-token").is_ok_and(|i| i.is(Role::Control)));
    }

    #[test]
    fn production_believes_no_token_of_the_built_in_issuer() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000_000)));
        let built_in = Arc::new(issuer(&clock));
        let ann = BuyerId::new("ann").expect("a buyer");
        let token = built_in.issue(&ann, &[Role::Admin], Duration::from_secs(60)).expect("it signs");
        let callers = |built_in| {
            let clock: Arc<dyn Clock> = clock.clone();
            let outside = OutsideTokens::new(&identity::IdentityOptions::default(), None, &clock).expect("no issuers");
            Callers::new(Secret::new(b"control-plane-token".to_vec()), built_in, Arc::new(outside))
        };
        assert!(callers(Some(built_in)).verify(&token).is_ok_and(|i| i.is(Role::Admin)), "a demo does");
        assert_eq!(callers(None).verify(&token), Err(AuthError::Invalid));
        assert!(callers(None).verify("control-plane-token").is_ok_and(|i| i.is(Role::Control)));
        assert_eq!(callers(None).verify("token-of-the-edges"), Err(AuthError::Invalid), "there are no edges");
        let edges = callers(None).with_edges(Secret::new(b"token-of-the-edges".to_vec()));
        assert!(edges.verify("token-of-the-edges").is_ok_and(|i| i.roles == BTreeSet::from([Role::Edge])));
        assert_eq!(callers(None).session("x.y"), Err(AuthError::Invalid), "nobody can log in");
    }
}
