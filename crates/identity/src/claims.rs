//! Judges one token against one issuer's keys: signature, issuer, audience, time, subject, roles. Pure. Nothing in a
//! token is believed before its signature was verified, except which issuer and key it asks to be tried with.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Validation;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use types::{BuyerId, Identity, Role, Timestamp};

use crate::keys::KeySet;
use crate::options::{Algorithm, IssuerOptions};

/// Longest token that is looked at: an honest one with many groups has some 4 KiB.
pub(crate) const MAX_TOKEN: usize = 16 * 1024;
/// Words of a roles claim that are looked at.
const MAX_WORDS: usize = 1_000;

/// Why a token is not good. A closed set: it is also a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No signed token at all, or too long.
    Malformed,
    /// Of an issuer that is not believed.
    Issuer,
    /// `alg` is none of the configured (`none` and shared secrets never are).
    Algorithm,
    /// It names a key that the issuer does not publish.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// For somebody else.
    Audience,
    /// Its `exp` has passed.
    Expired,
    /// Its `nbf` has not come.
    NotYet,
    /// It has no usable `sub` or `exp`.
    Claims,
}

impl Refused {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Issuer => "issuer",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Claims => "claims",
        }
    }
}

/// What a token says of itself before it is believed.
pub(crate) struct Peeked {
    algorithm: Option<Algorithm>,
    pub(crate) key: Option<String>,
    pub(crate) issuer: String,
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, 4.1.11): we understand none.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct From {
    iss: String,
}

/// Which issuer and key a token asks to be tried with.
pub(crate) fn peek(token: &str) -> Result<Peeked, Refused> {
    let mut parts = token.split('.');
    let (Some(head), Some(body), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(Refused::Malformed);
    };
    if token.len() > MAX_TOKEN {
        return Err(Refused::Malformed);
    }
    let head: Head = decoded(head).ok_or(Refused::Malformed)?;
    let from: From = decoded(body).ok_or(Refused::Malformed)?;
    if head.crit.is_some() {
        return Err(Refused::Malformed);
    }
    let known = [Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA];
    let algorithm = known.into_iter().find(|a| a.as_str() == head.alg);
    Ok(Peeked { algorithm, key: head.kid, issuer: from.iss })
}

fn decoded<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// What a good token says.
#[derive(Debug)]
pub(crate) struct Claims {
    /// The first moment at which it is no longer good.
    pub(crate) until: Timestamp,
    subject: String,
    all: Map<String, Value>,
}

impl Claims {
    /// Judges `token` for `audience` at `now`.
    pub(crate) fn judge(
        token: &str,
        peeked: &Peeked,
        keys: &KeySet,
        options: &IssuerOptions,
        audience: &str,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let algorithm = peeked.algorithm.filter(|a| options.algorithms.contains(a)).ok_or(Refused::Algorithm)?;
        let mut validation = Validation::new(algorithm.theirs());
        // Claims are judged below, by the injected clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let mut tried = false;
        let verified = keys.candidates(peeked.key.as_deref(), algorithm).find_map(|key| {
            tried = true;
            jsonwebtoken::decode::<Map<String, Value>>(token, &key.verifies, &validation).ok()
        });
        let all = match verified {
            Some(token) => token.claims,
            None if tried || keys.knows(peeked.key.as_deref()) => return Err(Refused::Signature),
            None => return Err(Refused::UnknownKey),
        };
        if all.get("iss").and_then(Value::as_str) != Some(options.issuer.as_str()) {
            return Err(Refused::Issuer);
        }
        let meant = match all.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        };
        if !meant {
            return Err(Refused::Audience);
        }
        let until = moment(&all, "exp").ok_or(Refused::Claims)?.plus(options.skew);
        if now >= until {
            return Err(Refused::Expired);
        }
        if all.contains_key("nbf") && moment(&all, "nbf").ok_or(Refused::Claims)? > now.plus(options.skew) {
            return Err(Refused::NotYet);
        }
        let subject = all.get("sub").and_then(Value::as_str).filter(|sub| !sub.is_empty());
        let subject = subject.ok_or(Refused::Claims)?.to_owned();
        Ok(Self { until, subject, all })
    }

    /// A claim that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all.get(name).and_then(Value::as_str)
    }

    /// Whether it is for several, of which `party` is not the one that asked for it (OpenID Connect Core, 3.1.3.7).
    pub(crate) fn asked_by_another(&self, party: &str) -> bool {
        let several = self.all.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        match self.text("azp") {
            Some(azp) => azp != party,
            None => several,
        }
    }

    /// Who it is, with the roles that the options give for what the token says.
    pub(crate) fn identity(&self, options: &IssuerOptions) -> Result<Identity, Refused> {
        let subject =
            BuyerId::new(format!("{}{}", options.subject_prefix, self.subject)).map_err(|_| Refused::Claims)?;
        let mut roles = options.everybody.clone();
        roles.extend(self.words(&options.roles_claim).into_iter().filter_map(|word| options.roles.get(word)));
        // The configuration refuses them too; here it costs nothing to be sure.
        roles.retain(|role| !matches!(role, Role::Core | Role::Edge | Role::Control));
        Ok(Identity { subject, roles })
    }

    /// The words of a claim that is a list, one word, or several in one text.
    fn words(&self, path: &str) -> BTreeSet<&str> {
        // A claim may have dots in its own name (`https://shop.example/roles`).
        let found = self.all.get(path).or_else(|| {
            let mut steps = path.split('.');
            let first = self.all.get(steps.next()?)?;
            steps.try_fold(first, |value, step| value.get(step))
        });
        match found {
            Some(Value::String(text)) => text.split_whitespace().take(MAX_WORDS).collect(),
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).take(MAX_WORDS).collect(),
            _ => BTreeSet::new(),
        }
    }
}

/// A NumericDate: seconds, perhaps with a fraction.
fn moment(all: &Map<String, Value>, name: &str) -> Option<Timestamp> {
    let number = all.get(name)?;
    let seconds = number.as_i64().or_else(|| number.as_f64().map(|f| f as i64))?;
    // Far beyond any honest time lie overflows.
    (0..=253_402_300_799).contains(&seconds).then(|| Timestamp::from_seconds(seconds))
}
