//! Money as integer minor units with a currency. Never a float; sums that overflow are refused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// An ISO 4217 code such as `EUR`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// The code as text.
    pub fn as_str(&self) -> &str {
        // The constructor admits ASCII capitals only.
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }
}

impl FromStr for Currency {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(Invalid::new("currency", format!("{text:?} is not an ISO 4217 code such as EUR"))),
        }
    }
}
impl TryFrom<String> for Currency {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}
impl From<Currency> for String {
    fn from(currency: Currency) -> String {
        currency.as_str().to_owned()
    }
}
impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount in minor units (cents) of one currency; never negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Money {
    /// Minor units, for example cents.
    amount: u64,
    currency: Currency,
}

impl Money {
    /// Largest amount of minor units: fits a signed 64-bit SQL column.
    pub const MAX_MINOR: u64 = i64::MAX as u64;

    /// An amount of minor units, at most [`Money::MAX_MINOR`].
    pub fn new(minor: u64, currency: Currency) -> Result<Self, Invalid> {
        if minor > Self::MAX_MINOR {
            return Err(Invalid::new("amount", format!("{minor} is above {}", Self::MAX_MINOR)));
        }
        Ok(Self { amount: minor, currency })
    }
    /// Minor units.
    pub const fn minor(self) -> u64 {
        self.amount
    }
    /// Its currency.
    pub const fn currency(self) -> Currency {
        self.currency
    }
    /// The price of `n` units, or a refusal if it does not fit.
    pub fn times(self, n: u32) -> Result<Self, Invalid> {
        let minor = self.amount.checked_mul(u64::from(n)).ok_or_else(|| Invalid::new("amount", "overflows"))?;
        Self::new(minor, self.currency)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} (minor units)", self.amount, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_never_overflows_silently() {
        let eur: Currency = "EUR".parse().expect("a currency");
        let most = Money::new(Money::MAX_MINOR, eur).expect("the largest amount");
        assert!(most.times(2).is_err());
        assert_eq!(Money::new(250, eur).and_then(|m| m.times(3)).map(Money::minor), Ok(750));
        assert!("eur".parse::<Currency>().is_err());
    }
}
