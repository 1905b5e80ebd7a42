//! Identifiers. The shop's own ids are short and printable; ours are 128 random bits in hex.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// Longest SKU or sale name, in bytes: what `interfaces.md` promises to every shop.
pub const MAX_NAME: usize = 64;
/// Longest page id, in bytes: a path segment longer than this is not a product page.
pub const MAX_PAGE: usize = 128;
/// Longest buyer id, in bytes: room for an issuer's subject.
pub const MAX_BUYER: usize = 128;
/// Longest idempotency key, in bytes: the length that public APIs commonly allow.
pub const MAX_KEY: usize = 128;

fn name_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-')
}

fn check(what: &'static str, text: &str, max: usize, allowed: fn(u8) -> bool, class: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::new(what, format!("is empty; give 1 to {max} characters of {class}")));
    }
    if text.len() > max {
        return Err(Invalid::new(what, format!("is {} bytes long; at most {max} are allowed", text.len())));
    }
    match text.bytes().find(|b| !allowed(*b)) {
        Some(b) => Err(Invalid::new(what, format!("holds the byte {:?}; only {class} are allowed", char::from(b)))),
        None => Ok(()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:expr, $allowed:expr, $class:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the text, refusing what is empty, too long or outside the allowed characters.
            pub fn new(text: impl AsRef<str>) -> Result<Self, Invalid> {
                let text = text.as_ref();
                check($what, text, $max, $allowed, $class)?;
                Ok(Self(Arc::from(text)))
            }
            /// Whether this text could be such an id; nothing is copied.
            pub fn fits(text: &str) -> bool {
                !text.is_empty() && text.len() <= $max && text.bytes().all($allowed)
            }
            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The id as shared text, without copying it.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::new(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text_id!(
    /// The shop's own id of a product: `[A-Za-z0-9._~-]{1,64}`.
    Sku, "sku", MAX_NAME, name_byte, "letters, digits and . _ ~ -"
);
text_id!(
    /// The name of a sale: `[A-Za-z0-9._~-]{1,64}`.
    SaleName, "sale", MAX_NAME, name_byte, "letters, digits and . _ ~ -"
);
text_id!(
    /// What the log shows of a product page: the path segment as it stands there (not decoded).
    PageId, "page", MAX_PAGE, |b| b.is_ascii_graphic() && b != b'/' && b != b'?' && b != b'#', "printable ASCII except / ? #"
);
text_id!(
    /// A buyer as the identity issuer names him (`sub`). Never logged.
    BuyerId, "buyer", MAX_BUYER, |b| b.is_ascii_graphic(), "printable ASCII without spaces"
);
text_id!(
    /// The client's own name for one purchase attempt (header `Idempotency-Key`).
    IdempotencyKey, "idempotency-key", MAX_KEY, |b| b.is_ascii_graphic(), "printable ASCII without spaces"
);
text_id!(
    /// The name of one seckill-core process.
    CoreId, "core", MAX_NAME, name_byte, "letters, digits and . _ ~ -"
);
text_id!(
    /// The name of one edge, an Nginx in front of the cores.
    EdgeId, "edge", MAX_NAME, name_byte, "letters, digits and . _ ~ -"
);
text_id!(
    /// One HTTP request's id, carried from the edge to the order event.
    RequestId, "request-id", MAX_NAME, name_byte, "letters, digits and . _ ~ -"
);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(u128);

        impl $name {
            /// Makes the id from 128 random bits; the caller brings the randomness.
            pub const fn from_bits(bits: u128) -> Self {
                Self(bits)
            }
            /// The 128 bits.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }
        impl FromStr for $name {
            type Err = Invalid;
            fn from_str(text: &str) -> Result<Self, Invalid> {
                if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    return Err(Invalid::new($what, "is not 32 lower-case hexadecimal digits"));
                }
                u128::from_str_radix(text, 16)
                    .map(Self)
                    .map_err(|_| Invalid::new($what, "is not 32 lower-case hexadecimal digits"))
            }
        }
        impl TryFrom<String> for $name {
            type Error = Invalid;
            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // By table: formatting 128 bits costs several times as much, and each order is written six times.
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut text = [0u8; 32];
                for (i, byte) in self.0.to_be_bytes().into_iter().enumerate() {
                    text[2 * i] = DIGITS[usize::from(byte >> 4)];
                    text[2 * i + 1] = DIGITS[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&text).unwrap_or_default())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:032x})", stringify!($name), self.0)
            }
        }
    };
}

random_id!(
    /// An order: 128 random bits, so that nobody can guess another's.
    OrderId, "order id"
);
random_id!(
    /// A payment, as the payment provider names it.
    PaymentId, "payment id"
);
random_id!(
    /// A lease of units from SQL to a fast path.
    LeaseId, "lease id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_is_the_shops_own_short_printable_name() {
        assert!(Sku::new("IPHONE-15.black_128~A").is_ok());
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
            assert!(Sku::new(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn random_ids_read_back_what_they_print() {
        let id = OrderId::from_bits(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
        assert!("0123".parse::<OrderId>().is_err());
        assert!("0123456789ABCDEF0011223344556677".parse::<OrderId>().is_err());
        assert!("+123456789abcdef0011223344556677".parse::<OrderId>().is_err());
    }
}
