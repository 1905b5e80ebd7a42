//! What a product's total was at every instant, by the store's own history of changes: brought by a sale, adjusted,
//! or there before the history began. The history itself is judged first; it is worth no more than that.

use std::collections::{BTreeMap, HashSet};

use rusqlite::Transaction;

use super::books::Stock;
use crate::{AuditError, Invariant};

/// One change of a total.
#[derive(Debug)]
pub(super) struct Change {
    seq: i64,
    cause: String,
    delta: i64,
    /// The total right after it.
    pub(super) total: i64,
    /// The last order event before it.
    pub(super) after_event: i64,
    /// When, by the writer's clock.
    pub(super) at: i64,
    /// Name, reason and author of an adjustment.
    adjustment: [Option<String>; 3],
}

impl Change {
    /// The product sold before its history began: what its total was then is not known.
    pub(super) fn is_older(&self) -> bool {
        self.cause == "older"
    }
}

/// Every product's changes, each in its order.
pub(super) struct Changes(BTreeMap<String, Vec<Change>>);

impl Changes {
    pub(super) fn read(snapshot: &Transaction<'_>) -> Result<Self, AuditError> {
        let mut changes: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        let mut statement = snapshot.prepare(
            "SELECT product_id, seq, cause, delta, total, after_event, at, adjustment_id, reason, made_by
             FROM stock_change ORDER BY seq",
        )?;
        let rows = statement.query_map([], |r| {
            let change = Change {
                seq: r.get(1)?,
                cause: r.get(2)?,
                delta: r.get(3)?,
                total: r.get(4)?,
                after_event: r.get(5)?,
                at: r.get(6)?,
                adjustment: [r.get(7)?, r.get(8)?, r.get(9)?],
            };
            Ok((r.get::<_, String>(0)?, change))
        })?;
        for row in rows {
            let (product, change) = row?;
            changes.entry(product).or_default().push(change);
        }
        Ok(Self(changes))
    }

    /// A product's changes, in their order.
    pub(super) fn of(&self, product: &str) -> &[Change] {
        self.0.get(product).map(Vec::as_slice).unwrap_or_default()
    }

    /// Every product that has changes.
    pub(super) fn products(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Whether the history can be believed: each total is the one before it and its change, places among the events
    /// only rise, the first brings the product, each adjustment says who, why and under which name (once), and the
    /// last total is the one that stands in the books.
    pub(super) fn check(&self, last_event: i64, stock: &Stock, found: &mut Invariant) {
        let mut names: HashSet<&str> = HashSet::new();
        for (product, changes) in &self.0 {
            found.check(stock.0.contains_key(product), || {
                format!("the total of {product} changed, but it has no stock")
            });
            let (mut total, mut after_event) = (0, 0);
            for (i, change) in changes.iter().enumerate() {
                let seq = change.seq;
                found.check(total + change.delta == change.total && change.total >= 0, || {
                    format!("{product} change {seq}: total {total} and {} are not {}", change.delta, change.total)
                });
                found.check((after_event..=last_event).contains(&change.after_event), || {
                    format!(
                        "{product} change {seq}: after event {}, which is not in {after_event} to {last_event}",
                        change.after_event
                    )
                });
                let fits = match change.cause.as_str() {
                    "sale" => true,
                    "older" => i == 0,
                    "adjustment" => i > 0 && change.delta != 0,
                    _ => false,
                };
                found.check(fits, || format!("{product} change {seq} ({}) cannot stand at place {i}", change.cause));
                let told = change.adjustment.iter().filter(|part| part.is_some()).count();
                found.check(told == if change.cause == "adjustment" { 3 } else { 0 }, || {
                    format!("{product} change {seq} ({}): {told} of name, reason and author are known", change.cause)
                });
                if let [Some(name), ..] = &change.adjustment {
                    found.check(names.insert(name), || {
                        format!("{product} change {seq}: adjustment {name} took effect twice")
                    });
                }
                (total, after_event) = (change.total, change.after_event);
            }
        }
        for (product, s) in &stock.0 {
            let last = self.of(product).last().map(|change| change.total);
            found.check(last == Some(s.total), || {
                format!("{product}: total {}, but by its changes it would be {last:?}", s.total)
            });
        }
    }
}
