//! A published key set (RFC 7517), read: which public keys verify what. Pure. It must never let a public key verify a
//! signature of another kind than its own, nor take a key that is a shared secret.

use std::collections::BTreeSet;

use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;

use crate::options::Algorithm;

/// Largest key set that is read, in bytes: a key with its certificates has some 5 KiB.
pub(crate) const MAX_SET: usize = 256 * 1024;
/// Most keys of a set: an issuer has two or three.
const MAX_KEYS: usize = 64;
/// Bytes of the shortest RSA modulus that is taken, 2048 bits.
const MIN_MODULUS: usize = 256;
/// Longest name of a key.
const MAX_NAME: usize = 256;

/// Why a key set cannot be used at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetError {
    #[error("the key set is no JSON object with an array `keys`: {0}")]
    Shape(String),
    #[error("the key set has {0} keys; at most {MAX_KEYS}")]
    TooMany(usize),
    #[error("none of its {0} keys can verify a configured algorithm")]
    NoneUsable(usize),
}

/// A key that verifies.
pub(crate) struct Key {
    name: Option<String>,
    algorithms: BTreeSet<Algorithm>,
    pub(crate) verifies: DecodingKey,
}

/// The usable keys of a set.
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

/// What is looked at of a key. Private members are not read: a set that publishes them is broken, and not by us.
#[derive(Deserialize)]
struct RawKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that cannot verify any of `allowed` are passed over, as the standard asks.
    pub(crate) fn parse(text: &[u8], allowed: &BTreeSet<Algorithm>) -> Result<Self, SetError> {
        let set: RawSet = serde_json::from_slice(text).map_err(|e| SetError::Shape(e.to_string()))?;
        let found = set.keys.len();
        if found > MAX_KEYS {
            return Err(SetError::TooMany(found));
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(|value| usable(value, allowed)).collect();
        if keys.is_empty() { Err(SetError::NoneUsable(found)) } else { Ok(Self { keys }) }
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that may have signed a token with this header. A token without a name is tried against every key of
    /// its algorithm; two keys of one name are two keys.
    pub(crate) fn candidates<'a>(
        &'a self,
        name: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a Key> {
        self.keys.iter().filter(move |key| {
            key.algorithms.contains(&algorithm) && (name.is_none() || key.name.is_none() || key.name.as_deref() == name)
        })
    }

    /// Whether there is a key of this name, or the token names none.
    pub(crate) fn knows(&self, name: Option<&str>) -> bool {
        name.is_none() || self.keys.iter().any(|key| key.name.is_none() || key.name.as_deref() == name)
    }
}

fn usable(value: Value, allowed: &BTreeSet<Algorithm>) -> Option<Key> {
    let raw: RawKey = serde_json::from_value(value).ok()?;
    let for_signatures = raw.r#use.as_deref().is_none_or(|word| word == "sig")
        && raw.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures || raw.kid.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
        return None;
    }
    let (fits, verifies): (&[Algorithm], DecodingKey) = match (raw.kty.as_str(), raw.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (raw.n.as_deref()?, raw.e.as_deref()?);
            if modulus_bytes(n)? < MIN_MODULUS {
                return None;
            }
            (&[Algorithm::RS256, Algorithm::PS256], DecodingKey::from_rsa_components(n, e).ok()?)
        }
        ("EC", Some("P-256")) => {
            (&[Algorithm::ES256], DecodingKey::from_ec_components(raw.x.as_deref()?, raw.y.as_deref()?).ok()?)
        }
        ("EC", Some("P-384")) => {
            (&[Algorithm::ES384], DecodingKey::from_ec_components(raw.x.as_deref()?, raw.y.as_deref()?).ok()?)
        }
        ("OKP", Some("Ed25519")) => (&[Algorithm::EdDSA], DecodingKey::from_ed_components(raw.x.as_deref()?).ok()?),
        // `oct` above all: a shared secret in a public place.
        _ => return None,
    };
    let says = |algorithm: &Algorithm| raw.alg.as_deref().is_none_or(|alg| alg == algorithm.as_str());
    let algorithms: BTreeSet<Algorithm> = fits.iter().copied().filter(|a| allowed.contains(a) && says(a)).collect();
    (!algorithms.is_empty()).then_some(Key { name: raw.kid, algorithms, verifies })
}

fn modulus_bytes(text: &str) -> Option<usize> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).ok()?;
    Some(bytes.iter().skip_while(|b| **b == 0).count())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn all() -> BTreeSet<Algorithm> {
        BTreeSet::from([Algorithm::RS256, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA])
    }
    fn read(keys: Value) -> Result<KeySet, SetError> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes(), &all())
    }
    /// 256 bytes above zero, as base64url.
    fn modulus(bytes: usize) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xc3; bytes])
    }
    // The public point of RFC 8037, appendix A.2.
    const ED: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    #[test]
    fn a_key_verifies_its_own_kind_alone() {
        let rsa = json!({"kty": "RSA", "kid": "a", "n": modulus(256), "e": "AQAB"});
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": ED});
        let set = read(json!([rsa, ed])).expect("two keys");
        let found = |name: Option<&str>, algorithm| set.candidates(name, algorithm).count();
        assert_eq!(set.len(), 2);
        assert_eq!((found(Some("a"), Algorithm::RS256), found(Some("a"), Algorithm::PS256)), (1, 1));
        assert_eq!((found(Some("a"), Algorithm::EdDSA), found(Some("b"), Algorithm::RS256)), (0, 0));
        assert_eq!((found(None, Algorithm::EdDSA), found(Some("c"), Algorithm::EdDSA)), (1, 0));
        assert_eq!((set.knows(Some("c")), set.knows(Some("b")), set.knows(None)), (false, true, true));
        let pinned = read(json!([{"kty": "RSA", "kid": "a", "alg": "PS256", "n": modulus(256), "e": "AQAB"}]));
        assert_eq!(pinned.expect("a key").candidates(Some("a"), Algorithm::RS256).count(), 0, "it says how it signs");
    }

    #[test]
    fn what_cannot_be_used_is_passed_over_and_a_set_of_nothing_else_is_refused() {
        let rows = [
            ("a shared secret", json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0", "alg": "HS256"})),
            ("for encryption", json!({"kty": "OKP", "crv": "Ed25519", "use": "enc", "x": ED})),
            ("for something else", json!({"kty": "OKP", "crv": "Ed25519", "key_ops": ["deriveKey"], "x": ED})),
            ("a short key", json!({"kty": "RSA", "n": modulus(128), "e": "AQAB"})),
            ("another algorithm", json!({"kty": "RSA", "n": modulus(256), "e": "AQAB", "alg": "RS512"})),
            ("another curve", json!({"kty": "EC", "crv": "secp256k1", "x": ED, "y": ED})),
            ("half a key", json!({"kty": "RSA", "n": modulus(256)})),
            ("no base64", json!({"kty": "OKP", "crv": "Ed25519", "x": "!!"})),
            ("an unknown kind", json!({"kty": "XYZ"})),
            ("no object", json!(7)),
        ];
        for (what, key) in rows {
            assert_eq!(read(json!([key])).err(), Some(SetError::NoneUsable(1)), "{what}");
        }
        assert_eq!(read(json!([])).err(), Some(SetError::NoneUsable(0)));
        let many = vec![json!({"kty": "OKP", "crv": "Ed25519", "x": ED}); MAX_KEYS + 1];
        assert_eq!(read(many.into()).err(), Some(SetError::TooMany(MAX_KEYS + 1)));
        for text in ["", "[]", "{}", "{\"keys\": 1}", "<html>"] {
            assert!(matches!(KeySet::parse(text.as_bytes(), &all()), Err(SetError::Shape(_))), "{text}");
        }
    }
}
