//! Sealed texts in cookies: a session says who somebody is and until when, a begun login how it was begun. They are
//! kept nowhere, so no number of logins fills a memory; only sessions that were ended early are remembered.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use lru::LruCache;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::collections::BTreeSet;
use types::{AuthError, BuyerId, Clock, Identity, Invalid, Role, Timestamp};

/// Shortest secret: the output length of the hash.
const MIN_SECRET: usize = 32;
/// Largest sealed text: a browser keeps 4 KiB of a cookie.
const MAX_TEXT: usize = 3 * 1024;
/// Sessions ended early that are remembered until they would have ended; beyond it the oldest are good again until
/// their time. A shop has some dozens of staff.
const ENDED: NonZeroUsize = NonZeroUsize::new(10_000).expect("above zero");

/// The secret that seals cookies, one for an installation. Never printed.
#[derive(Clone)]
pub struct LoginSecret(Vec<u8>);

impl LoginSecret {
    /// At least 32 bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        if bytes.len() < MIN_SECRET {
            return Err(Invalid::new("session", format!("has {} bytes; give {MIN_SECRET} or more", bytes.len())));
        }
        Ok(Self(bytes))
    }

    /// What only we can say of `text` for this purpose.
    pub(super) fn word(&self, purpose: &str, text: &[u8]) -> [u8; 32] {
        self.mac(purpose, text).finalize().into_bytes().into()
    }

    fn mac(&self, purpose: &str, text: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(b"seckill login 1\0");
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        mac.update(text);
        mac
    }

    /// The value as a text that nobody else can make.
    pub(super) fn seal<T: Serialize>(&self, purpose: &str, value: &T) -> Option<String> {
        let payload = serde_json::to_vec(value).ok()?;
        let mac = self.word(purpose, &payload);
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(mac));
        (text.len() <= MAX_TEXT).then_some(text)
    }

    /// Reads it back; `None` if it is not one of ours for this purpose.
    pub(super) fn open<T: DeserializeOwned>(&self, purpose: &str, text: &str) -> Option<T> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let (payload, mac) = text.split_once('.')?;
        let (payload, mac) = (URL_SAFE_NO_PAD.decode(payload).ok()?, URL_SAFE_NO_PAD.decode(mac).ok()?);
        // Compares in constant time, before anything in the payload is believed.
        self.mac(purpose, &payload).verify_slice(&mac).ok()?;
        serde_json::from_slice(&payload).ok()
    }
}

impl fmt::Debug for LoginSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginSecret(…)")
    }
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    id: String,
    subject: BuyerId,
    roles: BTreeSet<Role>,
    until: Timestamp,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who.
    pub identity: Identity,
    /// Until when.
    pub until: Timestamp,
    id: String,
}

/// Sessions of one installation.
pub struct Sessions {
    pub(super) secret: LoginSecret,
    pub(super) life: Duration,
    pub(super) clock: Arc<dyn Clock>,
    ended: Mutex<LruCache<String, ()>>,
}

const PURPOSE: &str = "session";

impl Sessions {
    /// Sessions that last so long.
    pub fn new(secret: LoginSecret, life: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { secret, life, clock, ended: Mutex::new(LruCache::unbounded()) }
    }

    /// The cookie of a new session.
    pub(super) fn begin(&self, identity: &Identity) -> Option<String> {
        let sealed = Sealed {
            id: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            subject: identity.subject.clone(),
            roles: identity.roles.clone(),
            until: self.clock.now().plus(self.life),
        };
        self.secret.seal(PURPOSE, &sealed)
    }

    /// Whose session a cookie is.
    pub fn open(&self, cookie: &str) -> Result<Session, AuthError> {
        let Sealed { id, subject, roles, until } = self.secret.open(PURPOSE, cookie).ok_or(AuthError::Invalid)?;
        if self.clock.now() >= until {
            return Err(AuthError::Expired);
        }
        if self.ended.lock().contains(&id) {
            return Err(AuthError::Invalid);
        }
        Ok(Session { identity: Identity { subject, roles }, until, id })
    }

    /// Ends one before its time.
    pub(super) fn end(&self, session: &Session) {
        let mut ended = self.ended.lock();
        ended.put(session.id.clone(), ());
        while ended.len() > ENDED.get() {
            ended.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use types::ManualClock;

    use super::*;

    fn sessions(clock: &Arc<ManualClock>, key: u8) -> Sessions {
        Sessions::new(LoginSecret::new([key; 32]).expect("a secret"), Duration::from_secs(60), clock.clone())
    }

    #[test]
    fn a_session_is_good_until_its_end_or_its_logout_and_nobody_else_makes_one() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)));
        let sessions = sessions(&clock, 1);
        let ann = Identity { subject: "ann".parse().expect("a name"), roles: BTreeSet::from([Role::Operator]) };
        let (one, two) = (sessions.begin(&ann).expect("sealed"), sessions.begin(&ann).expect("sealed"));
        let open = sessions.open(&one).expect("open");
        assert_eq!(open.identity, ann);
        sessions.end(&open);
        assert_eq!(sessions.open(&one), Err(AuthError::Invalid), "she has logged out");
        assert!(sessions.open(&two).is_ok(), "her other browser has not");
        assert_eq!(super::Sessions::open(&self::sessions(&clock, 2), &two), Err(AuthError::Invalid));
        let until = clock.now().plus(Duration::from_secs(60));
        let sealed = Sealed { id: "x".to_owned(), subject: ann.subject.clone(), roles: ann.roles.clone(), until };
        let begun = sessions.secret.seal("begun", &sealed).expect("sealed");
        assert_eq!(sessions.open(&begun), Err(AuthError::Invalid), "sealed for another purpose");
        for bad in ["", ".", "a.b", &two[1..], &two[..two.len() - 1], &"x".repeat(10_000)] {
            assert_eq!(sessions.open(bad), Err(AuthError::Invalid), "{bad}");
        }
        clock.advance(Duration::from_secs(60));
        assert_eq!(sessions.open(&two), Err(AuthError::Expired));
        assert!(LoginSecret::new([0u8; 31]).is_err());
        assert_eq!(format!("{:?}", sessions.secret), "LoginSecret(…)");
    }

    #[test]
    fn what_is_remembered_of_the_ended_is_bounded() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(1_000)));
        let sessions = sessions(&clock, 1);
        let ann = Identity { subject: "ann".parse().expect("a name"), roles: BTreeSet::new() };
        let template = sessions.open(&sessions.begin(&ann).expect("sealed")).expect("open");
        for n in 0..ENDED.get() + 100 {
            sessions.end(&Session { id: n.to_string(), ..template.clone() });
        }
        assert_eq!(sessions.ended.lock().len(), ENDED.get());
    }
}
