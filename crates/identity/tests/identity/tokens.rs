//! Bearer tokens: what is good, what is refused, and what happens to keys that change or cannot be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use identity::{Algorithm, IdentityOptions, IssuerOptions, OutsideTokens};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use types::{AuthError, Authenticator, Clock, Identity, Role, SystemClock};

use crate::provider::{AUDIENCE, Provider, SigningKey};

pub fn issuer(provider: &Provider) -> IssuerOptions {
    IssuerOptions {
        issuer: provider.issuer(),
        audience: AUDIENCE.to_owned(),
        roles_claim: "realm_access.roles".to_owned(),
        roles: BTreeMap::from([("shop-ops".to_owned(), Role::Operator), ("shop-boss".to_owned(), Role::Admin)]),
        everybody: BTreeSet::from([Role::Shopper]),
        ..IssuerOptions::default()
    }
}

pub fn outside(options: IssuerOptions) -> Arc<OutsideTokens> {
    let options = IdentityOptions { issuers: vec![options], ..IdentityOptions::default() };
    options.check().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Arc::new(OutsideTokens::new(&options, None, &clock).unwrap())
}

/// Verifies until it is not for want of keys; everything here is on loopback, so that is soon.
pub async fn verified(tokens: &OutsideTokens, token: &str) -> Result<Identity, AuthError> {
    let begun = Instant::now();
    loop {
        match tokens.verify(token) {
            Err(AuthError::Unavailable) if begun.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            end => return end,
        }
    }
}

fn run(tokens: &Arc<OutsideTokens>) -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(tokens.clone().run(stop.clone()));
    stop
}

#[tokio::test]
async fn a_token_of_each_algorithm_says_who_calls_and_what_he_may() {
    let provider = Provider::start().await;
    let rsa = Arc::new(SigningKey::rsa("r", jsonwebtoken::Algorithm::RS256));
    let keys = [Arc::new(SigningKey::ed25519("e")), Arc::new(SigningKey::p256("p")), rsa];
    provider.publish(&[&keys[0], &keys[1], &keys[2]]);
    let tokens = outside(issuer(&provider));
    let _stop = run(&tokens).drop_guard();
    for key in &keys {
        let staff = provider.claims(json!({"realm_access": {"roles": ["shop-ops", "unknown", "core"]}}));
        let identity = verified(&tokens, &key.sign(&staff)).await.unwrap();
        assert_eq!(identity.subject.as_str(), "ann", "{}", key.name);
        assert_eq!(
            identity.roles,
            BTreeSet::from([Role::Shopper, Role::Operator]),
            "a word that is not mapped is none"
        );
        let shopper = tokens.verify(&key.sign(&provider.claims(json!({"sub": "ben"})))).unwrap();
        assert_eq!(shopper.roles, BTreeSet::from([Role::Shopper]));
    }
    // Asked again, the answer is remembered; it is the same.
    let token = keys[0].sign(&provider.claims(json!({"aud": ["other", AUDIENCE]})));
    assert_eq!(tokens.verify(&token), tokens.verify(&token));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_it_is_refused() {
    let provider = Provider::start().await;
    let (key, other) = (Arc::new(SigningKey::ed25519("k")), Arc::new(SigningKey::p256("p")));
    provider.publish(&[&key, &other]);
    let tokens = outside(IssuerOptions { algorithms: BTreeSet::from([Algorithm::EdDSA]), ..issuer(&provider) });
    let _stop = run(&tokens).drop_guard();
    let good = key.sign(&provider.claims(json!({})));
    assert!(verified(&tokens, &good).await.is_ok());

    let now = SystemClock::new().now().second();
    let claims = |change: Value| key.sign(&provider.claims(change));
    let body = good.split('.').nth(1).unwrap();
    let forged = |head: Value, mac: &[u8]| {
        let text = format!("{}.{body}", URL_SAFE_NO_PAD.encode(head.to_string()));
        let sign = if mac.is_empty() {
            Vec::new()
        } else {
            let mut hmac = Hmac::<Sha256>::new_from_slice(mac).unwrap();
            hmac.update(text.as_bytes());
            hmac.finalize().into_bytes().to_vec()
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(sign))
    };
    let public = key.public["x"].as_str().unwrap();
    let raw = URL_SAFE_NO_PAD.decode(public).unwrap();
    let foreign = SigningKey::ed25519("k");
    let unnamed = Header { kid: None, ..Header::new(jsonwebtoken::Algorithm::EdDSA) };
    let swapped = {
        let mut parts: Vec<_> = good.split('.').map(str::to_owned).collect();
        parts[1] = URL_SAFE_NO_PAD.encode(provider.claims(json!({"sub": "eve"})).to_string());
        parts.join(".")
    };
    let rows = [
        ("alg none", forged(json!({"alg": "none"}), b"")),
        ("alg None", forged(json!({"alg": "None", "kid": "k"}), b"")),
        ("no alg", forged(json!({"kid": "k"}), b"")),
        ("the public key as a shared secret, as text", forged(json!({"alg": "HS256", "kid": "k"}), public.as_bytes())),
        ("the public key as a shared secret, as bytes", forged(json!({"alg": "HS256", "kid": "k"}), &raw)),
        ("another algorithm's name", forged(json!({"alg": "RS256", "kid": "k"}), b"x")),
        ("an algorithm that is published and not configured", other.sign(&provider.claims(json!({})))),
        ("its own key in its head", forged(json!({"alg": "EdDSA", "jwk": foreign.public}), b"x")),
        ("an extension that must be understood", forged(json!({"alg": "EdDSA", "kid": "k", "crit": ["b64"]}), b"x")),
        ("a foreign key of the same name", foreign.sign(&provider.claims(json!({})))),
        (
            "a foreign key without a name",
            jsonwebtoken::encode(&unnamed, &provider.claims(json!({})), &foreign.signs).unwrap(),
        ),
        ("another person under the same signature", swapped),
        ("cut", good[..good.len() - 4].to_owned()),
        ("two parts", good.rsplit_once('.').unwrap().0.to_owned()),
        ("four parts", format!("{good}.x")),
        ("not JSON", format!("{}.{body}.x", URL_SAFE_NO_PAD.encode("{"))),
        ("empty", String::new()),
        ("long", format!("{good}{}", "A".repeat(20_000))),
        ("for somebody else", claims(json!({"aud": "other"}))),
        ("for nobody", claims(json!({"aud": null}))),
        ("for a number", claims(json!({"aud": 7}))),
        ("of another issuer", claims(json!({"iss": "https://evil.example"}))),
        ("of an issuer with a slash more", claims(json!({"iss": format!("{}/", provider.issuer())}))),
        ("without an end", claims(json!({"exp": null}))),
        ("with an end that is a text", claims(json!({"exp": "tomorrow"}))),
        ("with an end beyond all time", claims(json!({"exp": 1e30}))),
        ("not yet", claims(json!({"nbf": now + 120}))),
        ("of nobody", claims(json!({"sub": null}))),
        ("of an empty name", claims(json!({"sub": ""}))),
        ("of a name with a line break", claims(json!({"sub": "ann\nadmin"}))),
    ];
    for (what, token) in rows {
        assert_eq!(tokens.verify(&token), Err(AuthError::Invalid), "{what}");
    }
    assert_eq!(tokens.verify(&claims(json!({"exp": now - 60}))), Err(AuthError::Expired));
    assert!(tokens.verify(&claims(json!({"exp": now - 10}))).is_ok(), "clocks may differ by half a minute");
    assert!(tokens.verify(&claims(json!({"nbf": now + 10}))).is_ok());
    assert!(
        tokens.verify(&claims(json!({"exp": (now + 60) as f64 + 0.5}))).is_ok(),
        "a NumericDate may have a fraction"
    );
}

#[tokio::test]
async fn keys_rotate_and_who_invents_names_cannot_make_us_ask_for_ever() {
    let provider = Provider::start().await;
    let (old, new) = (Arc::new(SigningKey::ed25519("old")), Arc::new(SigningKey::p256("new")));
    provider.publish(&[&old]);
    let tokens = outside(issuer(&provider));
    let _stop = run(&tokens).drop_guard();
    let before = old.sign(&provider.claims(json!({})));
    assert!(verified(&tokens, &before).await.is_ok());
    let read = provider.reads();

    // Made-up names cost the issuer one read in five seconds and no more.
    let begun = Instant::now();
    let mut invented = SigningKey::ed25519("x");
    for n in 0..50 {
        invented.name = format!("made-up-{n}");
        assert!(tokens.verify(&invented.sign(&provider.claims(json!({})))).is_err());
    }
    let most = |since: Instant| 1 + since.elapsed().as_secs() as usize / 5;
    assert!(provider.reads() - read <= most(begun), "{} reads more", provider.reads() - read);

    // The issuer changes its key. The first token of the new one makes us look, a moment later it is good; and the
    // old one, taken back, is not good any more for having been good.
    provider.publish(&[&new]);
    let after = new.sign(&provider.claims(json!({})));
    while verified(&tokens, &after).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the new key was never looked for");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(provider.reads() - read <= most(begun) + 1);
    assert_ne!(tokens.verify(&before).map(|i| i.subject.to_string()), Ok("ann".to_owned()));
    assert_eq!(verified(&tokens, &before).await, Err(AuthError::Invalid));
}

#[tokio::test]
async fn an_issuer_that_is_away_is_missed_only_by_who_was_never_there() {
    let mut provider = Provider::start().await;
    let key = Arc::new(SigningKey::ed25519("k"));
    provider.publish(&[&key]);
    provider.go_away().await;
    let options = issuer(&provider);
    let tokens = outside(options.clone());
    let token = key.sign(&provider.claims(json!({})));
    assert_eq!(tokens.verify(&token), Err(AuthError::Unavailable), "nothing is known of it: not refused, not believed");

    let one = tokens.issuer(&options.issuer).unwrap();
    assert!(one.refresh().await.is_err());
    provider.come_back().await;
    one.refresh().await.unwrap();
    assert!(tokens.verify(&token).is_ok());

    // Away again: the last good keys stay, also for tokens that were never seen.
    provider.go_away().await;
    assert!(one.refresh().await.is_err());
    assert!(tokens.verify(&key.sign(&provider.claims(json!({"sub": "ben"})))).is_ok());
    // Back with nonsense: the same.
    provider.come_back().await;
    provider.publish(&[]);
    assert!(one.refresh().await.is_err());
    assert!(tokens.verify(&key.sign(&provider.claims(json!({"sub": "carl"})))).is_ok());
}

#[tokio::test]
async fn keys_may_lie_in_a_file_and_another_issuers_document_is_not_taken() {
    let provider = Provider::start().await;
    let key = Arc::new(SigningKey::ed25519("k"));
    provider.publish(&[&key]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, json!({"keys": [key.public]}).to_string()).unwrap();
    let keys = Some(file.to_str().unwrap().to_owned());
    let tokens = outside(IssuerOptions { issuer: "any text".to_owned(), keys, ..issuer(&provider) });
    tokens.issuer("any text").unwrap().refresh().await.unwrap();
    assert!(tokens.verify(&key.sign(&provider.claims(json!({"iss": "any text"})))).is_ok());
    assert_eq!(tokens.verify(&key.sign(&provider.claims(json!({})))), Err(AuthError::Invalid));

    // `localhost` is the same machine, and its document says that it is somebody else.
    let name = format!("http://localhost:{}", provider.address.port());
    let tokens = outside(IssuerOptions { issuer: name.clone(), ..issuer(&provider) });
    let refused = tokens.issuer(&name).unwrap().refresh().await.unwrap_err().to_string();
    assert!(refused.contains("the document of"), "{refused}");
}

#[test]
fn a_private_key_signs_what_its_public_key_verifies() {
    // What the other tests stand on: the little issuer's tokens are what a standard library reads.
    let key = SigningKey::ed25519("k");
    let token = key.sign(&json!({"exp": 4_000_000_000u64}));
    let public = jsonwebtoken::DecodingKey::from_ed_components(key.public["x"].as_str().unwrap()).unwrap();
    let validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::EdDSA);
    assert!(jsonwebtoken::decode::<Value>(&token, &public, &validation).is_ok());
    let other = EncodingKey::from_ed_der(&[0u8; 48]);
    assert!(jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::EdDSA), &json!({}), &other).is_err());
}
