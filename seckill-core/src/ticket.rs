//! Tickets: the text of a 202 is its own proof, a MAC over buyer, key, body, product and deadline. Tickets are
//! stored nowhere, and the buyer does not stand in the text: only his own token opens it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use types::{BuyerId, IdempotencyKey, Invalid, Sku, Timestamp};

use crate::stock::store::BodyHash;

/// Shortest secret: the output length of the hash, below which the MAC is weaker than it looks.
pub const MIN_SECRET: usize = 32;
/// Longest ticket text that is looked at: key and product at their longest, in base64.
const MAX_TEXT: usize = 512;
const MAC: usize = 32;
/// Deadline, body hash and the key's length stand before key and product.
const FIXED: usize = 8 + 32 + 1;

/// The secret of a fleet of cores. Never printed.
#[derive(Clone)]
pub struct TicketSecret(Vec<u8>);

impl TicketSecret {
    /// At least [`MIN_SECRET`] bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        if bytes.len() < MIN_SECRET {
            return Err(Invalid::new("ticket_secret", format!("has {} bytes; give {MIN_SECRET} or more", bytes.len())));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(…)")
    }
}

/// What a ticket promises an end for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) key: IdempotencyKey,
    pub(crate) body_hash: BodyHash,
    pub(crate) product: Sku,
    pub(crate) deadline: Timestamp,
}

impl TicketSecret {
    /// What only this fleet can say of `text`; `label` keeps one use of the secret apart from every other.
    pub(crate) fn keyed(&self, label: &[u8], text: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(label);
        mac.update(text);
        mac
    }

    fn mac(&self, buyer: &BuyerId, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(b"seckill ticket 1\0");
        // The length keeps buyer and payload apart.
        mac.update(&(buyer.as_str().len() as u64).to_be_bytes());
        mac.update(buyer.as_str().as_bytes());
        mac.update(payload);
        mac
    }

    /// The ticket's text, for this buyer only.
    pub(crate) fn seal(&self, buyer: &BuyerId, ticket: &Ticket) -> String {
        let key = ticket.key.as_str().as_bytes();
        let mut payload = Vec::with_capacity(FIXED + key.len() + ticket.product.as_str().len());
        payload.extend_from_slice(&ticket.deadline.millis().to_be_bytes());
        payload.extend_from_slice(&ticket.body_hash.0);
        payload.push(u8::try_from(key.len()).expect("a key has at most 128 bytes"));
        payload.extend_from_slice(key);
        payload.extend_from_slice(ticket.product.as_str().as_bytes());
        let mut bytes = self.mac(buyer, &payload).finalize().into_bytes().to_vec();
        bytes.extend_from_slice(&payload);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a ticket back; `None` if it is not one of ours or not this buyer's.
    pub(crate) fn open(&self, buyer: &BuyerId, text: &str) -> Option<Ticket> {
        if text.len() > MAX_TEXT {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (mac, payload) = bytes.split_at_checked(MAC)?;
        // Compares in constant time, before anything in the payload is believed.
        self.mac(buyer, payload).verify_slice(mac).ok()?;
        let (fixed, rest) = payload.split_at_checked(FIXED)?;
        let (deadline, hash) = fixed.split_at(8);
        let (key, product) = rest.split_at_checked(usize::from(hash[32]))?;
        Some(Ticket {
            key: IdempotencyKey::new(std::str::from_utf8(key).ok()?).ok()?,
            body_hash: BodyHash(hash[..32].try_into().ok()?),
            product: Sku::new(std::str::from_utf8(product).ok()?).ok()?,
            deadline: Timestamp::from_millis(i64::from_be_bytes(deadline.try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> TicketSecret {
        TicketSecret::new([7u8; 32]).expect("long enough")
    }
    fn ticket() -> Ticket {
        Ticket {
            key: IdempotencyKey::new("k-1").expect("a key"),
            body_hash: BodyHash([3; 32]),
            product: Sku::new("lamp").expect("a sku"),
            deadline: Timestamp::from_millis(1_794_355_260_123),
        }
    }

    #[test]
    fn a_ticket_opens_for_its_owner_alone() {
        let (anna, ben) = (BuyerId::new("anna").expect("id"), BuyerId::new("ben").expect("id"));
        let text = secret().seal(&anna, &ticket());
        assert_eq!(secret().open(&anna, &text), Some(ticket()));
        assert_eq!(secret().open(&ben, &text), None);
        assert_eq!(TicketSecret::new([8u8; 32]).expect("secret").open(&anna, &text), None);
        assert!(!text.contains("anna"));
        assert!(TicketSecret::new([0u8; 31]).is_err());
        assert_eq!(format!("{:?}", secret()), "TicketSecret(…)");
    }

    proptest! {
        #[test]
        fn no_other_text_opens(text in "[A-Za-z0-9_-]{0,600}") {
            prop_assert_eq!(secret().open(&BuyerId::new("anna").expect("id"), &text), None);
        }

        #[test]
        fn a_changed_byte_closes_it(at in 0usize..100, flip in 1u8..255) {
            let anna = BuyerId::new("anna").expect("id");
            let mut bytes = URL_SAFE_NO_PAD.decode(secret().seal(&anna, &ticket())).expect("base64");
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(secret().open(&anna, &URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }
}
