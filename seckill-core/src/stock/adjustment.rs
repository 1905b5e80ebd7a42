//! Adjustments of stock, as the store's port speaks of them: units that come into being or leave while a product
//! sells. They move no order and no buyer's limit.

use std::num::NonZeroI64;

use types::{IdempotencyKey, Invalid, Sku, Timestamp};

use crate::stock::store::ProductRow;

/// Longest reason in bytes: a sentence or two for the books.
const MAX_REASON: usize = 500;
/// Longest name of whoever asked, in bytes: as long as any subject of a token.
const MAX_BY: usize = 128;

/// Why stock was adjusted, in words for people: 1 to 500 bytes, no control characters, not blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// Parses it; blanks around it are cut off.
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Invalid::new("reason", "is empty; say why the stock changes"));
        }
        if text.len() > MAX_REASON {
            return Err(Invalid::new("reason", format!("is {} bytes long; at most {MAX_REASON}", text.len())));
        }
        if text.chars().any(char::is_control) {
            return Err(Invalid::new("reason", "holds a control character"));
        }
        Ok(Self(text.to_owned()))
    }
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A change of a product's total that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// The caller's name for it, of the whole installation: the same one takes effect once.
    pub id: IdempotencyKey,
    /// Of which product.
    pub product: Sku,
    /// Units: above 0 they come into being, below 0 they leave.
    pub delta: NonZeroI64,
    /// Why.
    pub reason: Reason,
    /// Who asked. No part of what makes two requests the same. Cut off after 128 bytes.
    pub by: String,
}

impl Adjustment {
    /// Who asked, as far as the books keep it.
    pub(crate) fn by(&self) -> &str {
        &self.by[..self.by.floor_char_boundary(MAX_BY)]
    }
}

/// An adjustment that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdjustmentRow {
    /// Its name.
    pub id: IdempotencyKey,
    /// Of which product.
    pub product: Sku,
    /// Units added (above 0) or removed.
    pub delta: i64,
    /// The product's total right after it.
    pub total: u64,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What asking for an adjustment came to. Only `Done` binds the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Adjusted {
    /// It took effect, wholly: now (`product` is the row after it), or by an earlier call with this id (`None`).
    Done {
        /// What stands in the books, the same for every repeat.
        row: AdjustmentRow,
        /// The product right after it, if this call did it.
        product: Option<Box<ProductRow>>,
    },
    /// The id is bound to another product, number or reason. Nothing changed.
    OtherBody,
    /// More than is neither sold nor reserved. Nothing changed.
    TooFew {
        /// How many units can be removed now.
        removable: u64,
    },
    /// The total would be above [`types::sale::MAX_STOCK`]. Nothing changed.
    TooMany {
        /// How many units can be added now.
        room: u64,
    },
    /// There is no such product.
    UnknownProduct,
}
