//! The signature of a payment callback: HMAC-SHA256 over `<seconds>.<body>`, in the header
//! `X-Payment-Signature: t=<seconds>,v1=<hex>`. It compares in constant time, and says nothing of the body.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use types::{Invalid, Timestamp};

/// The header's name.
pub const HEADER: &str = "x-payment-signature";
/// Shortest key: the output length of the hash, below which the MAC is weaker than it looks.
pub const MIN_KEY: usize = 32;
/// By how much a callback's time may differ from ours: clocks and the provider's queue; beyond it, a recorded call
/// that is played again.
pub const TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures in one header: the sender too may be changing its key.
const MAX_SIGNATURES: usize = 4;
/// Bytes of a SHA-256 MAC.
const MAC: usize = 32;
/// Longest header that is looked at: a time and the signatures, with room.
const MAX_HEADER: usize = 512;

/// The key that providers sign with, and while it is being changed also the one before. Never printed.
#[derive(Clone)]
pub struct CallbackKeys {
    newest: Vec<u8>,
    previous: Option<Vec<u8>>,
}

impl fmt::Debug for CallbackKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallbackKeys(…)")
    }
}

/// Why a callback is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// No header, several, or none of the form that is asked for.
    #[error("send one header X-Payment-Signature: t=<seconds>,v1=<hexadecimal HMAC-SHA256 of \"<seconds>.<body>\">")]
    Malformed,
    /// No key of ours has made it.
    #[error("the signature is of another key, time or body")]
    Wrong,
    /// It is good, but from another time.
    #[error("the signature's time is more than 300 s from now; sign again when you repeat a call")]
    Stale,
}

impl CallbackKeys {
    /// The key, and the one before it if calls that it signed are still good. Each has at least [`MIN_KEY`] bytes.
    pub fn new(newest: impl Into<Vec<u8>>, previous: Option<Vec<u8>>) -> Result<Self, Invalid> {
        let newest = newest.into();
        for (what, key) in [("payment_key", Some(&newest)), ("previous_payment_key", previous.as_ref())] {
            if let Some(key) = key
                && key.len() < MIN_KEY
            {
                return Err(Invalid::new(what, format!("has {} bytes; give {MIN_KEY} or more", key.len())));
            }
        }
        Ok(Self { newest, previous })
    }

    /// The header's value for a body that is sent now, by the newest key.
    pub fn sign(&self, now: Timestamp, body: &[u8]) -> String {
        let seconds = now.second().to_string();
        let mac = mac(&self.newest, &seconds, body).finalize().into_bytes();
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("t={seconds},v1={hex}")
    }

    /// Whether the body was signed by a holder of a key, not longer ago than [`TOLERANCE`] and not later than that
    /// from now. The signature comes first, so that only who holds a key learns what our clock says.
    pub fn verify(&self, header: &str, body: &[u8], now: Timestamp) -> Result<(), BadSignature> {
        let (seconds, signatures) = parse(header).ok_or(BadSignature::Malformed)?;
        let mut good = false;
        for key in std::iter::once(&self.newest).chain(&self.previous) {
            for signature in &signatures {
                // All are tried, each in constant time: how long it takes says nothing of which one it was.
                good |= mac(key, seconds, body).verify_slice(signature).is_ok();
            }
        }
        if !good {
            return Err(BadSignature::Wrong);
        }
        let at: i64 = seconds.parse().map_err(|_| BadSignature::Malformed)?;
        if at.abs_diff(now.second()) > TOLERANCE.as_secs() {
            return Err(BadSignature::Stale);
        }
        Ok(())
    }
}

fn mac(key: &[u8], seconds: &str, body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(seconds.as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

/// The time as it was signed, and the signatures. What is not known is skipped, so that a sender may add to it.
fn parse(header: &str) -> Option<(&str, Vec<[u8; MAC]>)> {
    /// Digits of a time until the year 33658.
    const MOST_DIGITS: usize = 12;
    if header.len() > MAX_HEADER {
        return None;
    }
    let (mut seconds, mut signatures) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", digits) => {
                let good = (1..=MOST_DIGITS).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
                if !good || seconds.replace(digits).is_some() {
                    return None;
                }
            }
            ("v1", hex) => {
                if signatures.len() == MAX_SIGNATURES {
                    return None;
                }
                signatures.push(bytes(hex)?);
            }
            _ => {}
        }
    }
    seconds.filter(|_| !signatures.is_empty()).map(|seconds| (seconds, signatures))
}

fn bytes(hex: &str) -> Option<[u8; MAC]> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * MAC || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; MAC];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_764_000_000);

    fn keys(newest: u8, previous: Option<u8>) -> CallbackKeys {
        CallbackKeys::new([newest; 32], previous.map(|key| vec![key; 32])).unwrap()
    }

    #[test]
    fn the_signature_is_as_others_compute_it() {
        // printf '1764000000.{}' | openssl dgst -sha256 -hmac 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk'
        insta::assert_snapshot!(keys(b'k', None).sign(NOW, b"{}"), @"t=1764000000,v1=99d67f8aa9d2c99d56c9bb09125d79710bc91e65aa9a86e018c9ddc9c28c54df");
    }

    #[test]
    fn while_the_key_changes_both_are_good_and_then_one() {
        let (old, both, new) = (keys(1, None), keys(2, Some(1)), keys(2, None));
        let header = old.sign(NOW, b"body");
        assert_eq!(both.verify(&header, b"body", NOW), Ok(()));
        assert_eq!(new.verify(&header, b"body", NOW), Err(BadSignature::Wrong));
        assert_eq!(new.verify(&both.sign(NOW, b"body"), b"body", NOW), Ok(()));
        // A sender that changes its key may sign with both.
        let twice = format!("{header},{}", new.sign(NOW, b"body").split_once(',').unwrap().1);
        assert_eq!(new.verify(&twice, b"body", NOW), Ok(()));
        assert!(CallbackKeys::new([0; 31], None).is_err());
        assert!(CallbackKeys::new([0; 32], Some(vec![0; 5])).is_err());
        assert_eq!(format!("{old:?}"), "CallbackKeys(…)");
    }

    #[test]
    fn the_time_is_signed_and_must_be_near() {
        let keys = keys(1, None);
        let header = keys.sign(NOW, b"body");
        for (later, end) in [(0, Ok(())), (300, Ok(())), (301, Err(BadSignature::Stale))] {
            let d = Duration::from_secs(later);
            assert_eq!(keys.verify(&header, b"body", NOW.plus(d)), end, "{later} s later");
            assert_eq!(keys.verify(&header, b"body", NOW.minus(d)), end, "{later} s earlier");
        }
        let newer = header.replace("1764000000", "1764000001");
        assert_eq!(keys.verify(&newer, b"body", NOW), Err(BadSignature::Wrong));
    }

    #[test]
    fn what_is_no_signature_is_said_so() {
        let keys = keys(1, None);
        let good = keys.sign(NOW, b"body");
        let (time, signature) = good.split_once(',').unwrap();
        let many = format!("{time},{}", [signature; 5].join(","));
        let long = format!("{good},x={}", "y".repeat(600));
        let rows = [
            "",
            "t=",
            "v1=",
            time,
            signature,
            "t=1,v1=00",
            "t=-1",
            "nonsense",
            &many,
            &long,
            &format!("{time},{good}"),
            &format!("t=1e9,{signature}"),
            &format!("t=+1764000000,{signature}"),
            &format!("t=9999999999999,{signature}"),
            &format!("{time},{signature}0"),
            &format!("{time},{}", signature.replace("v1=", "v1=+")),
        ];
        for row in rows {
            assert_eq!(keys.verify(row, b"body", NOW), Err(BadSignature::Malformed), "{row:?}");
        }
        assert_eq!(keys.verify(&format!("{time},v0=old,{signature}"), b"body", NOW), Ok(()), "more may be said");
        let upper = signature.to_uppercase().replace("V1", "v1");
        assert_eq!(keys.verify(&format!("{time}, {upper}"), b"body", NOW), Ok(()));
    }

    proptest! {
        /// One changed bit anywhere, in body or header, and it is not believed; and no header makes it panic.
        #[test]
        fn nothing_may_be_changed(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), bit in 0u8..8, noise in ".{0,80}") {
            let keys = keys(1, Some(2));
            let header = keys.sign(NOW, &body);
            prop_assert_eq!(keys.verify(&header, &body, NOW), Ok(()));
            let mut changed = body.clone();
            changed[at.index(body.len())] ^= 1 << bit;
            prop_assert_eq!(keys.verify(&header, &changed, NOW), Err(BadSignature::Wrong));
            let _no_panic = keys.verify(&noise, &body, NOW);
            let _no_panic = keys.verify(&format!("t={noise},v1={noise}"), &body, NOW);
        }
    }
}
