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
    /// All names: a closed set of metric labels.
    pub(crate) const NAMES: [&'static str; 16] = [
        "sold_out",
        "all_reserved",
        "limit",
        "deadline",
        "ended",
        "not_open",
        "paused",
        "other_body",
        "token_used",
        "token_missing",
        "token_invalid",
        "unknown",
        "backlog",
        "draining",
        "overloaded",
        "unavailable",
    ];

    /// The place of its name in [`Self::NAMES`].
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::SoldOut => 0,
            Self::AllReserved => 1,
            Self::Limit => 2,
            Self::Deadline => 3,
            Self::Ended => 4,
            Self::NotOpen { .. } => 5,
            Self::Paused => 6,
            Self::OtherBody => 7,
            Self::TokenUsed => 8,
            Self::TokenMissing => 9,
            Self::TokenInvalid => 10,
            Self::Unknown => 11,
            Self::Backlog { .. } => 12,
            Self::Draining => 13,
            Self::Overloaded => 14,
            Self::Unavailable => 15,
        }
    }

    /// Its name, as metric label and in a ticket's answer.
    pub(crate) const fn as_str(self) -> &'static str {
        Self::NAMES[self.place()]
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
