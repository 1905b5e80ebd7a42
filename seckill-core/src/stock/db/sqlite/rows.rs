//! Between columns and types: small, total conversions. What does not convert is a broken row, never a guess.

use rusqlite::Row;
use types::{Money, OrderId, Timestamp};

use super::fault::Fault;
use crate::stock::db::words;
pub(super) use crate::stock::db::words::{hash_text, order_state_text, outcome_text, sale_state_text};
use crate::stock::store::{BodyHash, OrderState, Outcome, SaleState};

/// A count as a column.
pub(super) fn int(n: u64) -> Result<i64, Fault> {
    i64::try_from(n).map_err(|_| Fault::broken(format!("{n} does not fit a column")))
}

/// A column as a count.
pub(super) fn count(row: &Row<'_>, column: &str) -> Result<u64, Fault> {
    let n: i64 = row.get(column)?;
    u64::try_from(n).map_err(|_| Fault::broken(format!("{column} is {n}")))
}

/// A column as a count of few units.
pub(super) fn small_count(row: &Row<'_>, column: &str) -> Result<u32, Fault> {
    let n: i64 = row.get(column)?;
    u32::try_from(n).map_err(|_| Fault::broken(format!("{column} is {n}")))
}

/// A column as a moment.
pub(super) fn time(row: &Row<'_>, column: &str) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_millis(row.get(column)?))
}

/// A text column parsed as what it stands for.
pub(super) fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<T, Fault> {
    let value = row.get_ref(column)?;
    let text = value.as_str().map_err(|e| Fault::broken(format!("{column}: {e}")))?;
    text.parse().map_err(|_| Fault::broken(format!("{column} holds {text:?}")))
}

/// A text column that may be NULL.
pub(super) fn parsed_if_any<T: std::str::FromStr>(row: &Row<'_>, column: &str) -> Result<Option<T>, Fault> {
    if row.get_ref(column)? == rusqlite::types::ValueRef::Null {
        return Ok(None);
    }
    parsed(row, column).map(Some)
}

/// An amount and its currency as money.
pub(super) fn money(row: &Row<'_>, amount: &str, currency: &str) -> Result<Money, Fault> {
    Money::new(count(row, amount)?, parsed(row, currency)?).map_err(|e| Fault::broken(e.to_string()))
}

/// A body hash from hexadecimal.
pub(super) fn hash(row: &Row<'_>, column: &str) -> Result<BodyHash, Fault> {
    let text: String = row.get(column)?;
    words::hash(&text).map_err(Fault::Broken)
}

/// An outcome from its word and the order it names.
pub(super) fn outcome(word: &str, order: Option<OrderId>) -> Result<Outcome, Fault> {
    words::outcome(word, order).map_err(Fault::Broken)
}

/// An order's state from its word.
pub(super) fn order_state(word: &str) -> Result<OrderState, Fault> {
    words::order_state(word).map_err(Fault::Broken)
}

/// A sale's state from its word.
pub(super) fn sale_state(word: &str) -> Result<SaleState, Fault> {
    words::sale_state(word).map_err(Fault::Broken)
}
