//! Visitors as keyed hashes: HMAC-SHA-256, so that nobody without the key can find the address behind one.
//! The key must never be printed or logged.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use types::{Invalid, VisitorHash};

use crate::decode::Line;

/// Shortest key, in bytes: 128 bits that nobody can try through.
const MIN_KEY: usize = 16;
/// What a set key is printed as; refused as a key, so that printed options cannot be read back by mistake.
const HIDDEN: &str = "(hidden)";

/// The secret that visitors are hashed with: 16 bytes at least. Empty means that none was given.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct VisitorKey(String);

impl VisitorKey {
    /// The key for hashes that are never stored, as in `seckill top`.
    pub fn public() -> Self {
        Self("no secret: nothing is stored".to_owned())
    }
    /// Whether no key was given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether it is long enough, or empty.
    pub fn check(&self) -> Result<(), Invalid> {
        if !self.is_empty() && self.0.len() < MIN_KEY {
            return Err(Invalid::new("visitor_key", format!("is too short; give at least {MIN_KEY} bytes")));
        }
        if self.0 == HIDDEN {
            return Err(Invalid::new("visitor_key", "is the text that stands for a hidden key"));
        }
        Ok(())
    }
}

impl From<String> for VisitorKey {
    fn from(text: String) -> Self {
        Self(text)
    }
}
impl From<&str> for VisitorKey {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}
impl fmt::Debug for VisitorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "VisitorKey(none)" } else { "VisitorKey(hidden)" })
    }
}
impl Serialize for VisitorKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(if self.is_empty() { "" } else { HIDDEN })
    }
}
impl<'de> Deserialize<'de> for VisitorKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(Self)
    }
}

pub(super) struct VisitorHasher(Hmac<Sha256>);

impl fmt::Debug for VisitorHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VisitorHasher")
    }
}

impl VisitorHasher {
    pub(super) fn new(key: &VisitorKey) -> Self {
        Self(Hmac::new_from_slice(key.0.as_bytes()).expect("HMAC takes keys of any length"))
    }

    /// The first 64 bits of the HMAC over the edge's visitor, else over address and user agent. The first
    /// byte tells the two apart, the NUL the address from the agent: neither can hold one.
    pub(super) fn hash(&self, line: &Line<'_>) -> VisitorHash {
        let mut mac = self.0.clone();
        match &line.visitor {
            Some(visitor) => {
                mac.update(b"v");
                mac.update(visitor.as_bytes());
            }
            None => {
                mac.update(b"a");
                mac.update(line.remote_addr.as_bytes());
                mac.update(b"\0");
                mac.update(line.user_agent.as_bytes());
            }
        }
        let bytes = mac.finalize().into_bytes();
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        VisitorHash(u64::from_be_bytes(first))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use types::Timestamp;

    use super::*;
    use crate::decode::Method;

    fn line<'a>(addr: &'a str, agent: &'a str, visitor: Option<&'a str>) -> Line<'a> {
        Line {
            at: Timestamp::from_seconds(0),
            remote_addr: Cow::Borrowed(addr),
            method: Method::Get,
            target: Cow::Borrowed("/"),
            status: 200,
            user_agent: Cow::Borrowed(agent),
            visitor: visitor.map(Cow::Borrowed),
        }
    }

    #[test]
    fn a_visitor_is_the_cookie_if_there_is_one_else_address_and_agent() {
        let hasher = VisitorHasher::new(&"a key of sixteen bytes".into());
        let by = |addr, agent, visitor| hasher.hash(&line(addr, agent, visitor));
        assert_eq!(by("::1", "x", Some("v")), by("::2", "y", Some("v")));
        assert_ne!(by("::1", "x", None), by("::1", "y", None));
        assert_ne!(by("::1", "x", None), by("::2", "x", None));
        let other = VisitorHasher::new(&"another key of sixteen".into());
        assert_ne!(by("::1", "x", None), other.hash(&line("::1", "x", None)));
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = VisitorKey::from("a very secret key indeed");
        assert_eq!(format!("{key:?}"), "VisitorKey(hidden)");
        let printed = serde_json::to_string(&key).unwrap();
        assert_eq!(printed, "\"(hidden)\"");
        assert!(serde_json::from_str::<VisitorKey>(&printed).unwrap().check().is_err());
        assert!(VisitorKey::from("short").check().is_err());
    }
}
