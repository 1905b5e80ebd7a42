//! How values of this crate stand in columns, for every provider. It knows no database.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use types::{Generation, Sku, Term, Timestamp};

use super::{AuditRow, GenerationRow, PolicyRow, StoreError};
use crate::planner::Decision;

/// Databases' integers are signed; our counters rise by one and cannot get near the bound.
pub(super) fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Damaged {
        table: "new row",
        row: String::new(),
        why: format!("cannot be written: {e}"),
    })
}

pub(super) fn read<T: DeserializeOwned>(table: &'static str, row: &str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::Damaged { table, row: row.to_owned(), why: e.to_string() })
}

pub(super) fn sku(table: &'static str, text: &str) -> Result<Sku, StoreError> {
    Sku::new(text).map_err(|e| StoreError::Damaged { table, row: text.to_owned(), why: e.to_string() })
}

/// A product with its value.
pub(super) fn pair<T: DeserializeOwned>(
    table: &'static str,
    product: &str,
    text: &str,
) -> Result<(Sku, T), StoreError> {
    Ok((sku(table, product)?, read(table, product, text)?))
}

/// A decision as a new leader takes it up.
pub(super) fn taken_up(decision: Decision) -> Decision {
    Decision { memory: decision.memory.after_restart(), ..decision }
}

/// The columns of an audit row, in the order of the SELECT.
pub(super) struct AuditColumns {
    pub id: i64,
    pub at: i64,
    pub actor: String,
    pub action: String,
    pub product: Option<String>,
    pub before: Option<String>,
    pub after: Option<String>,
    pub why: String,
    pub generation: i64,
}

impl AuditColumns {
    pub(super) fn row(self) -> Result<AuditRow, StoreError> {
        let id = self.id.to_string();
        let value = |text: Option<String>| text.map(|t| read::<Value>("audit", &id, &t)).transpose();
        Ok(AuditRow {
            id: unsigned(self.id),
            at: Timestamp::from_millis(self.at),
            before: value(self.before)?,
            after: value(self.after)?,
            actor: self.actor,
            action: self.action,
            product: self.product,
            why: self.why,
            generation: Generation::new(unsigned(self.generation)),
        })
    }
}

pub(super) fn generation_row(
    n: i64,
    at: i64,
    term: i64,
    products: i64,
    tiers: &str,
) -> Result<GenerationRow, StoreError> {
    Ok(GenerationRow {
        generation: Generation::new(unsigned(n)),
        at: Timestamp::from_millis(at),
        term: Term::new(unsigned(term)),
        products: unsigned(products),
        tiers: read("generation", &n.to_string(), tiers)?,
    })
}

pub(super) fn policy_row(
    version: i64,
    at: i64,
    by: Option<String>,
    why: Option<String>,
    policy: &str,
) -> Result<PolicyRow, StoreError> {
    Ok(PolicyRow {
        version: unsigned(version),
        at: Timestamp::from_millis(at),
        by: by.unwrap_or_else(|| "config".to_owned()),
        why: why.unwrap_or_default(),
        policy: read("policy", &version.to_string(), policy)?,
    })
}
