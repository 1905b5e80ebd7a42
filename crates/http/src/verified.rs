//! Tokens that were verified before: a bounded memory of who they prove and until when, so that a shopper's tenth
//! call costs one digest instead of a signature and two JSON texts. It holds digests and no token, and never answers
//! for one that has expired.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use types::{AuthError, Identity, Timestamp};

/// Locks: many more than cores.
const SHARDS: usize = 16;
/// Tokens of one shard; with all shards those of the last 65,536 callers, some 300 bytes each.
const TOKENS: NonZeroUsize = NonZeroUsize::new(4_096).expect("above zero");

type Known = LruCache<[u8; 32], (Identity, Timestamp)>;

/// The memory of one authenticator. A token that is taken back must not be remembered: use it only for issuers
/// whose tokens end by their time alone.
pub struct VerifiedTokens {
    shards: Vec<Mutex<Known>>,
}

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::new(LruCache::new(TOKENS))).collect() }
    }
}

impl VerifiedTokens {
    /// Who this token proves: remembered, or by `verify`, which answers the first moment at which it is no longer
    /// good. Refusals are not remembered: nobody can fill the memory without good tokens.
    pub fn verify(
        &self,
        bearer: &str,
        now: Timestamp,
        verify: impl FnOnce(&str) -> Result<(Identity, Timestamp), AuthError>,
    ) -> Result<Identity, AuthError> {
        let digest: [u8; 32] = Sha256::digest(bearer.as_bytes()).into();
        let shard = &self.shards[usize::from(digest[0]) % SHARDS];
        if let Some((identity, until)) = shard.lock().get(&digest) {
            return if now < *until { Ok(identity.clone()) } else { Err(AuthError::Expired) };
        }
        let (identity, until) = verify(bearer)?;
        if now >= until {
            return Err(AuthError::Expired);
        }
        shard.lock().put(digest, (identity.clone(), until));
        Ok(identity)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;

    use types::{BuyerId, Role};

    use super::*;

    #[test]
    fn a_token_is_verified_once_and_not_a_moment_longer_than_it_is_good() {
        let known = VerifiedTokens::default();
        let asked = Cell::new(0);
        let at = |now: i64, token: &str| {
            known.verify(token, Timestamp::from_seconds(now), |token| {
                asked.set(asked.get() + 1);
                let subject = BuyerId::new(token).map_err(|_| AuthError::Invalid)?;
                Ok((Identity { subject, roles: BTreeSet::from([Role::Shopper]) }, Timestamp::from_seconds(10)))
            })
        };
        for now in [1, 5, 9] {
            assert_eq!(at(now, "ann").map(|i| i.subject.to_string()), Ok("ann".to_owned()));
        }
        assert_eq!(at(9, "ben").map(|i| i.subject.to_string()), Ok("ben".to_owned()), "each token proves its own");
        assert_eq!(asked.get(), 2);
        assert_eq!(at(10, "ann"), Err(AuthError::Expired));
        assert_eq!(at(10, "new"), Err(AuthError::Expired), "a late one is not remembered");
        assert_eq!(at(1, "no name"), Err(AuthError::Invalid));
        assert_eq!(at(1, "no name"), Err(AuthError::Invalid));
        assert_eq!(asked.get(), 5, "a refusal is not remembered");
    }

    #[test]
    fn it_is_bounded() {
        let known = VerifiedTokens::default();
        let until = Timestamp::from_seconds(10);
        for n in 0..(SHARDS * TOKENS.get() + 20_000) {
            let good = |token: &str| {
                let subject = BuyerId::new(token).map_err(|_| AuthError::Invalid)?;
                Ok((Identity { subject, roles: BTreeSet::new() }, until))
            };
            known.verify(&format!("t{n}"), Timestamp::default(), good).expect("good");
        }
        let held: usize = known.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= SHARDS * TOKENS.get(), "{held}");
    }
}
