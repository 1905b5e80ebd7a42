//! Tokens of the built-in issuer, made in advance for generated shoppers and verified by the core that is measured.
//! Signed as the demo's issuer signs; it is not for production.

use std::collections::BTreeSet;
use std::time::Duration;

use http_kit::VerifiedTokens;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use types::{AuthError, Authenticator, BuyerId, Clock, Identity, Role, SystemClock, Timestamp};

/// Name in `iss` and `aud`, as the demo's issuer has it: its secret file opens its core to `bench load`.
const ISSUER: &str = "seckill-demo";
/// Life of a made token: longer than any run.
const LIFE: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    roles: BTreeSet<Role>,
    exp: i64,
}

/// Signs and verifies.
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
    clock: SystemClock,
    known: VerifiedTokens,
}

impl Tokens {
    /// With this secret.
    pub fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        // As the demo's: judged by the clock below.
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let (signing, verifying) = (EncodingKey::from_secret(secret), DecodingKey::from_secret(secret));
        Self { signing, verifying, validation, clock: SystemClock::new(), known: VerifiedTokens::default() }
    }

    /// A token, good for a day.
    pub fn issue(&self, subject: &str, role: Role) -> anyhow::Result<String> {
        let claims = Claims {
            iss: ISSUER.into(),
            aud: ISSUER.into(),
            sub: subject.to_owned(),
            roles: BTreeSet::from([role]),
            exp: self.clock.now().plus(LIFE).second(),
        };
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)?)
    }
}

impl Authenticator for Tokens {
    fn verify(&self, bearer: &str) -> Result<Identity, AuthError> {
        self.known.verify(bearer, self.clock.now(), |bearer| {
            let token = jsonwebtoken::decode::<Claims>(bearer, &self.verifying, &self.validation)
                .map_err(|_| AuthError::Invalid)?;
            let subject = BuyerId::new(&token.claims.sub).map_err(|_| AuthError::Invalid)?;
            Ok((Identity { subject, roles: token.claims.roles }, Timestamp::from_seconds(token.claims.exp)))
        })
    }
}
