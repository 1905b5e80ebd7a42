//! Port: what administration does to sales and stock. Every act and its line in the audit log are one transaction, so
//! that neither is ever there without the other; it never takes a purchase and never moves an order.

use std::collections::BTreeSet;

use async_trait::async_trait;
use types::{BuyerId, Invalid, ProductSpec, RequestId, Role, SaleName, SaleSpec, Timestamp};

use crate::stock::adjustment::{Adjusted, Adjustment};
use crate::stock::import::{CatalogueImport, Imported, StockImport};
use crate::stock::store::{ProductRow, SaleApplied, SaleState, StoreError};

/// Most lines of the audit log in one answer.
pub const MAX_AUDIT_PAGE: usize = 500;

/// Who administers, as the audit log keeps him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The token's subject.
    pub subject: BuyerId,
    /// What the token allows.
    pub roles: BTreeSet<Role>,
    /// The call with which it was asked.
    pub request: Option<RequestId>,
}

/// What administration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Creates a sale, or changes window, names, prices, limits, pages, initial tiers; never stock that is there.
    Apply(Box<SaleSpec>),
    /// Creates a sale that another one was the pattern of; refused if there is one of this name.
    Clone {
        /// The pattern.
        from: SaleName,
        /// What is to be.
        sale: Box<SaleSpec>,
    },
    /// Pauses, resumes or closes; `action` is the word for the audit log: closing pauses first.
    SetState {
        /// Which sale.
        sale: SaleName,
        /// What it is to be.
        state: SaleState,
        /// As part of what.
        action: Action,
    },
    /// Adds or removes units.
    Adjust(Adjustment),
    /// Products from a file.
    ImportCatalogue(CatalogueImport),
    /// Adjustments from a file.
    ImportStock(StockImport),
}

impl Act {
    /// How much of a group of commands it fills: about as many rows as it writes.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Apply(sale) | Self::Clone { sale, .. } => sale.products.len().max(1),
            Self::SetState { .. } | Self::Adjust(_) => 1,
            Self::ImportCatalogue(import) => import.rows.len().max(1),
            Self::ImportStock(import) => import.rows.len().max(1),
        }
    }
    /// Whether it only asks what would become of it: that changes nothing and has no line in the audit log.
    pub fn is_dry_run(&self) -> bool {
        match self {
            Self::ImportCatalogue(import) => import.dry_run,
            Self::ImportStock(import) => import.dry_run,
            _ => false,
        }
    }
}

/// What was done, in a word of the audit log. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A sale's file.
    Apply,
    /// A sale after the pattern of another.
    Clone,
    /// No purchases for now.
    Pause,
    /// Purchases again.
    Resume,
    /// The end.
    Close,
    /// Units added or removed.
    Adjust,
    /// A buyer's name, taken from what he left.
    EraseBuyer,
    /// Products from a file.
    ImportCatalogue,
    /// Units added or removed from a file.
    ImportStock,
}

impl Action {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Clone => "clone",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Close => "close",
            Self::Adjust => "adjust",
            Self::EraseBuyer => "erase_buyer",
            Self::ImportCatalogue => "import_catalogue",
            Self::ImportStock => "import_stock",
        }
    }
}

/// What an [`Act`] came to, of the kind of the act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// Of `Apply` and `Clone`.
    Sale(SaleApplied),
    /// Of `SetState`: what the sale is then; `None`: no such sale.
    State(Option<SaleState>),
    /// Of `Adjust`.
    Adjusted(Adjusted),
    /// Of `ImportCatalogue` and `ImportStock`.
    Imported(Imported),
}

/// How an act ended, in a word of the audit log. A closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ActEnd {
    /// It took effect.
    Done,
    /// Everything was so already, or an earlier call with the same id did it.
    Unchanged,
    /// A rule refused it; nothing changed.
    Refused,
}

impl ActEnd {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

impl std::str::FromStr for ActEnd {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Self::Done, Self::Unchanged, Self::Refused]
            .into_iter()
            .find(|end| end.as_str() == text)
            .ok_or_else(|| Invalid::new("outcome", format!("{text:?} is no end of an act")))
    }
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditLine {
    /// Its number: lines are numbered in the order of their commits, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who: the token's subject.
    pub subject: String,
    /// His roles then, parted by commas.
    pub roles: String,
    /// What: an [`Action`]'s word.
    pub action: String,
    /// On which sale.
    pub sale: Option<String>,
    /// On which product.
    pub product: Option<String>,
    /// The call's id.
    pub request: Option<String>,
    /// How it ended.
    pub end: ActEnd,
    /// What there was, what there is now, why it was refused: `{"before": …, "after": …, "why": …}`, each only where
    /// there is such a thing.
    pub detail: serde_json::Value,
}

/// A sale with its products, closed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleDetail {
    /// Its name.
    pub name: SaleName,
    /// The IANA time zone in which its window was written.
    pub zone: String,
    /// First moment at which purchases are taken.
    pub opens: Timestamp,
    /// First moment at which they no longer are.
    pub closes: Timestamp,
    /// Its state beside its window.
    pub state: SaleState,
    /// When its file or its state changed last.
    pub updated_at: Timestamp,
    /// Its products in the order of their SKUs, each with the stock that it came with. A product that has gone on to
    /// a later sale is that one's.
    pub products: Vec<(ProductRow, u64)>,
}

impl SaleDetail {
    /// A product as a sale's file would say it.
    pub fn spec_of(row: &ProductRow, brought: u64) -> ProductSpec {
        ProductSpec {
            sku: row.state.product.clone(),
            name: row.name.clone(),
            price: row.price,
            stock: brought,
            limit: row.limit,
            initial_tier: row.state.initial_tier,
            pages: row.state.pages.clone(),
        }
    }
    /// The sale as its file would say it.
    pub fn spec(&self) -> SaleSpec {
        SaleSpec {
            name: self.name.clone(),
            zone: self.zone.clone(),
            opens: self.opens,
            closes: self.closes,
            // Every product shows its sale's.
            policy: self.products.first().map(|(row, _)| row.policy).unwrap_or_default(),
            products: self.products.iter().map(|(row, brought)| Self::spec_of(row, *brought)).collect(),
        }
    }
}

/// The store, as administration sees it. `now` is the caller's clock.
#[async_trait]
pub trait AdminStore: Send + Sync + 'static {
    /// Does it and writes its line in the audit log, both in one transaction. What a rule refuses has a line too; what
    /// the database failed to do (an error) may have none, as it may not have been done.
    async fn administer(&self, act: Act, by: Actor, now: Timestamp) -> Result<Acted, StoreError>;
    /// The lines of the audit log after `since`, oldest first, at most `max` (and [`MAX_AUDIT_PAGE`]).
    async fn audit_lines(&self, since: u64, max: usize) -> Result<Vec<AuditLine>, StoreError>;
    /// One sale, also a closed one.
    async fn sale(&self, sale: &SaleName) -> Result<Option<SaleDetail>, StoreError>;
}
