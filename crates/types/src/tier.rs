//! The decided purchase path of a product, and the numbers that order decisions in time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// The purchase path of a product. Heat is measured; a tier is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// One SQL transaction per purchase, shared by group commit.
    Db,
    /// Leased stock in a lease store (Redis, or in process).
    Redis,
    /// Event log first, decided in order of arrival.
    Queue,
}

impl Tier {
    /// All tiers, coldest first.
    pub const ALL: [Self; 3] = [Self::Db, Self::Redis, Self::Queue];
    /// `db`, `redis` or `queue`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Db => "db",
            Self::Redis => "redis",
            Self::Queue => "queue",
        }
    }
}
impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
impl FromStr for Tier {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL
            .into_iter()
            .find(|t| t.as_str() == text)
            .ok_or_else(|| Invalid::new("tier", format!("{text:?} is none of db, redis, queue")))
    }
}

/// Whether a product sells on its tier (`Active`) or is between fence and open (`Draining`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Selling on its tier.
    Active,
    /// Between fence and open of a move.
    Draining,
}
impl Phase {
    /// `active` or `draining`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
        }
    }
}
impl FromStr for Phase {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "active" => Ok(Self::Active),
            "draining" => Ok(Self::Draining),
            _ => Err(Invalid::new("phase", format!("{text:?} is neither active nor draining"))),
        }
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);
        impl $name {
            /// From a number.
            pub const fn new(n: u64) -> Self {
                Self(n)
            }
            /// As a number.
            pub const fn get(self) -> u64 {
                self.0
            }
            /// The following one.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

counter!(
    /// Orders plans: monotonic and durable. The newest generation wins.
    Generation
);
counter!(
    /// Counts the moves of one product: raised by every move's first step.
    Epoch
);
counter!(
    /// Distinguishes two pushes of one generation.
    Nonce
);
counter!(
    /// Counts the leaders of the control plane: rises with each that takes over. A core refuses an older one.
    Term
);
