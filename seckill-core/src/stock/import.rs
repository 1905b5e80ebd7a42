//! Imports of many rows at once, as the administration's port speaks of them: all of a file takes effect, or nothing.
//! What a row says is parsed already; what is possible is the store's to say, row by row.

use std::num::NonZeroI64;

use types::sale::Window;
use types::{IdempotencyKey, Invalid, ProductSpec, SaleName, Sku};

use crate::stock::adjustment::{Adjustment, Reason};
use crate::stock::store::BodyHash;

/// Most rows of one file: an import is one transaction, and purchases wait while it runs (about a second for these).
/// A larger file is sent in parts, as what is not in a file stays as it is.
pub const MAX_ROWS: usize = 10_000;
/// Rows whose errors are told; of the others only how many there are.
pub const MAX_ROW_ERRORS: usize = 100;
/// Longest name of an import, in bytes: with a slash and a SKU behind it, it names an adjustment.
pub const MAX_IMPORT_ID: usize = 60;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The line of the file, as an editor counts it: the header is 1.
    pub row: u64,
    /// Which column, as the header names it; empty if it is the row as a whole.
    pub column: String,
    /// What is wrong.
    pub why: String,
}

/// What is wrong with a file: the first errors, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowErrors {
    /// At most [`MAX_ROW_ERRORS`].
    pub first: Vec<RowError>,
    /// How many more were found.
    pub more: u64,
}

impl RowErrors {
    /// Adds one.
    pub fn add(&mut self, row: u64, column: impl Into<String>, why: impl Into<String>) {
        if self.first.len() < MAX_ROW_ERRORS {
            self.first.push(RowError { row, column: column.into(), why: why.into() });
        } else {
            self.more += 1;
        }
    }
    /// In the order of the file.
    #[must_use]
    pub fn in_order(mut self) -> Self {
        self.first.sort_by_key(|error| error.row);
        self
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }
    /// How many there are in all.
    pub fn count(&self) -> u64 {
        self.more + self.first.len() as u64
    }
}

/// Products for a sale: new ones are added, those there are changed; others stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueImport {
    /// Which sale.
    pub sale: SaleName,
    /// Zone and window, to make the sale with if there is none; of one that is there they must say what it has.
    pub window: Option<(String, Window)>,
    /// The file's rows; no SKU and no page twice, one currency.
    pub rows: Vec<(u64, ProductSpec)>,
    /// Only says what would become of it: nothing is written, no line in the audit log.
    pub dry_run: bool,
}

/// The name of a stock import, of the whole installation: the same one takes effect once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportId(IdempotencyKey);

impl ImportId {
    /// A key short enough that each row has an adjustment's id of its own made of it.
    pub fn new(key: IdempotencyKey) -> Result<Self, Invalid> {
        if key.as_str().len() > MAX_IMPORT_ID {
            let why = format!("is {} bytes long; an import's has at most {MAX_IMPORT_ID}", key.as_str().len());
            return Err(Invalid::new("Idempotency-Key", why));
        }
        Ok(Self(key))
    }
    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A row of a stock import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockRow {
    /// The line of the file.
    pub row: u64,
    /// Which product.
    pub product: Sku,
    /// Units: above 0 they come into being, below 0 they leave.
    pub delta: NonZeroI64,
    /// Why.
    pub reason: Reason,
}

/// Adjustments of many products of one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockImport {
    /// Its name.
    pub id: ImportId,
    /// The file: the same id with another file is refused.
    pub file: BodyHash,
    /// The sale of all its products.
    pub sale: SaleName,
    /// No SKU twice.
    pub rows: Vec<StockRow>,
    /// Who asked.
    pub by: String,
    /// Only says what would become of it.
    pub dry_run: bool,
}

impl StockImport {
    /// The adjustment that a row is, named by the import and its product.
    pub(crate) fn adjustment(&self, row: &StockRow) -> Result<Adjustment, Invalid> {
        Ok(Adjustment {
            id: IdempotencyKey::new(format!("{}/{}", self.id.as_str(), row.product))?,
            product: row.product.clone(),
            delta: row.delta,
            reason: row.reason.clone(),
            by: self.by.clone(),
        })
    }
}

/// What an import did, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportCounts {
    /// Rows of the file.
    pub rows: u64,
    /// Products that are new.
    pub created: u64,
    /// Products that came back from a closed sale.
    pub returned: u64,
    /// Products that were changed.
    pub changed: u64,
    /// Products that were so already.
    pub unchanged: u64,
    /// Units that came into being.
    pub added: u64,
    /// Units that left.
    pub removed: u64,
}

/// What an import came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// It took effect (or would, in a dry run).
    Done {
        /// In numbers.
        counts: ImportCounts,
        /// The sale was made by it.
        new_sale: bool,
        /// An earlier call with this id did it.
        repeated: bool,
    },
    /// Some rows cannot be; nothing changed.
    Rows(RowErrors),
    /// It cannot be as a whole; nothing changed. The text names the field first.
    Refused(String),
    /// The id belongs to another file. Nothing changed.
    OtherFile,
    /// There is no such sale.
    UnknownSale,
}
