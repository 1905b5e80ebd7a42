//! Admission: what can be refused at the door by the tier table alone, before any path is chosen. It may refuse
//! early and never accepts; flow rules will stand here.

use std::time::Duration;

use types::Timestamp;

use crate::stock::store::{Outcome, ProductRow, SaleState};

/// Why a purchase was refused. Some are decisions and stand for ever, the others bind nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing sellable and nothing reserved.
    SoldOut,
    /// Nothing (or too little) sellable, but unpaid orders may give units back.
    AllReserved,
    /// The buyer holds as many as he may.
    Limit,
    /// Not decided before its deadline.
    Deadline,
    /// The sale is over.
    Ended,
    /// The sale has not opened.
    NotOpen {
        /// Time until it does.
        opens_in: Duration,
    },
    /// The sale is paused.
    Paused,
    /// The key is bound to another body.
    OtherBody,
    /// The purchase token was used by another attempt.
    TokenUsed,
    /// The sale wants a purchase token, and there is none.
    TokenMissing,
    /// The purchase token is not of this buyer and product, or too old.
    TokenInvalid,
    /// There is no such product in this sale.
    Unknown,
    /// Too many attempts are queued, or every unit left is granted and not decided yet.
    Backlog {
        /// When there may be room.
        retry_after: Duration,
    },
    /// The product is between two tiers.
    Draining,
    /// Too many calls at once.
    Overloaded,
    /// A store behind the call is not reachable.
    Unavailable,
}

impl Refusal {
    /// Its name, as metric label and in a ticket's answer.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::AllReserved => "all_reserved",
            Self::Limit => "limit",
            Self::Deadline => "deadline",
            Self::Ended => "ended",
            Self::NotOpen { .. } => "not_open",
            Self::Paused => "paused",
            Self::OtherBody => "other_body",
            Self::TokenUsed => "token_used",
            Self::TokenMissing => "token_missing",
            Self::TokenInvalid => "token_invalid",
            Self::Unknown => "unknown",
            Self::Backlog { .. } => "backlog",
            Self::Draining => "draining",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }

    /// The refusal that a decision is, unless it accepted.
    pub(crate) const fn of(outcome: Outcome) -> Option<Self> {
        match outcome {
            Outcome::Accepted(_) => None,
            Outcome::SoldOut => Some(Self::SoldOut),
            Outcome::AllReserved => Some(Self::AllReserved),
            Outcome::Limit => Some(Self::Limit),
            Outcome::Deadline => Some(Self::Deadline),
            Outcome::Closed => Some(Self::Ended),
        }
    }

    /// Whether it sounds final to a shopper, so that an earlier decision of the same key must be looked for
    /// before it is said.
    pub(crate) const fn sounds_final(self) -> bool {
        // A token grows too old while its purchase is long done.
        matches!(
            self,
            Self::SoldOut | Self::AllReserved | Self::Limit | Self::Ended | Self::TokenMissing | Self::TokenInvalid
        )
    }
}

/// Whether the product takes purchases now.
pub(crate) fn admit(row: &ProductRow, now: Timestamp) -> Result<(), Refusal> {
    if row.sale_state == SaleState::Closed || now >= row.state.closes {
        return Err(Refusal::Ended);
    }
    if row.sale_state == SaleState::Paused {
        return Err(Refusal::Paused);
    }
    if now < row.state.opens {
        return Err(Refusal::NotOpen { opens_in: row.state.opens.since(now) });
    }
    Ok(())
}

/// What to say when a lease has too few units for an attempt: as the store rules, by `sellable`.
pub(crate) fn short(row: &ProductRow, quantity: u32) -> Refusal {
    if row.state.sellable >= u64::from(quantity) {
        // The units are granted to attempts that are not decided yet, or lie in `free` beside the lease.
        Refusal::Backlog { retry_after: Duration::from_secs(1) }
    } else if row.state.sellable == 0 && row.state.reserved == 0 {
        Refusal::SoldOut
    } else {
        Refusal::AllReserved
    }
}
