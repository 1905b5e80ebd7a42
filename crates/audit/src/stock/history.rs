//! What happened, as the store's own history tables tell it: moves (invariant 5), order events (invariant 8)
//! and, from the events, what was sellable at every moment (used for 2, 11 and 12).

use std::collections::{BTreeMap, HashMap};

use rusqlite::Transaction;

use super::books::{Orders, Stock};
use super::changes::{Change, Changes};
use crate::{AuditError, Invariant};

/// Invariant 5: each epoch has at most one fence, one settle and one open; none lies beyond the product's own
/// epoch; the last open is where the product stands.
///
/// Times are not used: a clock that was set back is no broken protocol.
pub(super) fn moves(snapshot: &Transaction<'_>, stock: &Stock, found: &mut Invariant) -> Result<(), AuditError> {
    #[derive(Default)]
    struct Steps {
        fences: u32,
        settles: u32,
        opens: u32,
        opened_to: Option<String>,
    }
    let mut history: BTreeMap<String, BTreeMap<i64, Steps>> = BTreeMap::new();
    let mut statement = snapshot.prepare("SELECT product_id, epoch, step, to_tier FROM move")?;
    let rows = statement.query_map([], |r| {
        Ok((r.get::<_, String>(0)?, r.get::<_, i64>(1)?, r.get::<_, String>(2)?, r.get::<_, String>(3)?))
    })?;
    for row in rows {
        let (product, epoch, step, to) = row?;
        let steps = history.entry(product).or_default().entry(epoch).or_default();
        match step.as_str() {
            "fence" => steps.fences += 1,
            "settle" => steps.settles += 1,
            _ => {
                steps.opens += 1;
                steps.opened_to = Some(to);
            }
        }
    }
    for (product, epochs) in &history {
        let Some(now) = stock.0.get(product) else {
            found.check(false, || format!("{product} was moved but has no stock row"));
            continue;
        };
        for (epoch, steps) in epochs {
            found.check(steps.fences <= 1 && steps.settles <= 1 && steps.opens <= 1, || {
                format!(
                    "{product} epoch {epoch}: {} fences, {} settles, {} opens",
                    steps.fences, steps.settles, steps.opens
                )
            });
            found.check(*epoch <= now.epoch, || {
                format!("{product} moved in epoch {epoch}, but stands at epoch {}: it fell", now.epoch)
            });
            let finished = steps.fences == 0 || steps.opens == 1 || *epoch == now.epoch;
            found.check(finished, || format!("{product} was fenced in epoch {epoch} and never opened again in it"));
        }
        if now.phase == "active"
            && let Some(tier) = epochs.values().rev().find_map(|s| s.opened_to.as_ref())
        {
            found.check(*tier == now.tier, || format!("{product} was opened on {tier}, yet it sells on {}", now.tier));
        }
    }
    let mut statement = snapshot.prepare("SELECT lease_id, product_id, epoch FROM lease")?;
    for row in statement.query_map([], |r| Ok((r.get::<_, String>(0)?, r.get::<_, String>(1)?, r.get::<_, i64>(2)?)))? {
        let (lease, product, epoch) = row?;
        let now = stock.0.get(&product).map_or(-1, |s| s.epoch);
        found.check(epoch <= now, || format!("lease {lease} of {product} is of epoch {epoch}, the product of {now}"));
    }
    Ok(())
}

/// Whether an order in `from` may go to `to`, by the protocol.
fn is_legal(from: Option<&str>, to: &str) -> bool {
    matches!(
        (from, to),
        (None, "accepted")
            | (Some("accepted"), "paid" | "expired" | "cancelled")
            | (Some("paid"), "refund_due")
            | (Some("expired"), "paid" | "refund_due")
            | (Some("cancelled"), "refund_due")
            | (Some("refund_due"), "refunded")
    )
}

fn holds_units(state: Option<&str>) -> bool {
    matches!(state, Some("accepted" | "paid"))
}

/// One change of what is sellable.
struct Step {
    at: i64,
    before: i64,
    after: i64,
}

/// What was sellable when, per product, reconstructed from order events and the changes of its total.
pub(super) struct Timeline {
    /// In the order of commits, which is also by time (see [`Track::moment`]).
    steps: HashMap<String, Vec<Step>>,
}

impl Timeline {
    /// The least number of units sellable at any moment of `[from, to]`: 0 before the product's history begins;
    /// `None` for a product without one.
    pub(super) fn least_sellable(&self, product: &str, from: i64, to: i64) -> Option<i64> {
        let steps = self.steps.get(product)?;
        let start = steps.partition_point(|s| s.at < from);
        let end = steps.partition_point(|s| s.at <= to);
        let at_start = if start == 0 { 0 } else { steps[start - 1].after };
        // Both sides of a step inside the span count: the reader may have seen either.
        let inside = steps[start..end.max(start)].iter().map(|s| s.before.min(s.after)).min();
        Some(inside.unwrap_or(at_start).min(at_start))
    }
    /// Units beyond the total at the worst moment of each product, summed.
    pub(super) fn oversold(&self) -> u64 {
        let worst = |steps: &Vec<Step>| steps.iter().map(|s| s.after).min().unwrap_or(0);
        self.steps.values().map(|steps| u64::try_from(-worst(steps)).unwrap_or(0)).sum()
    }
}

/// One product on its way through events and changes.
#[derive(Default)]
struct Track {
    /// Units of living orders.
    living: i64,
    /// `None` before the first change.
    total: Option<i64>,
    /// How many of its changes are behind it.
    passed: usize,
    /// It sold before its history began, and there it still is: its total is not known.
    unknown: bool,
    /// The latest time of all that is behind it.
    latest: i64,
    steps: Vec<Step>,
}

impl Track {
    fn new(changes: &[Change]) -> Self {
        Self { unknown: changes.first().is_some_and(Change::is_older), ..Self::default() }
    }

    /// When a change took effect. Rows bear the time at which their caller asked; whoever asked early may have waited
    /// long for the product's lock and be committed after one who asked later. What came before it in the order of
    /// commits was in effect before it.
    fn moment(&mut self, asked: i64) -> i64 {
        self.latest = self.latest.max(asked);
        self.latest
    }

    /// Passes the changes that came before event `id`.
    fn pass(&mut self, product: &str, changes: &[Change], id: i64, totals: &mut Invariant) {
        while let Some(change) = changes.get(self.passed).filter(|change| change.after_event < id) {
            let before = self.total.map_or(0, |total| total - self.living);
            (self.total, self.unknown) = (Some(change.total), false);
            self.passed += 1;
            let at = self.moment(change.at);
            self.steps.push(Step { at, before, after: change.total - self.living });
            totals.check(self.living <= change.total, || {
                format!(
                    "{product}: {} units in living orders as its total became {} after event {}",
                    self.living, change.total, change.after_event
                )
            });
        }
    }

    /// Takes an order's event that changes the units it holds.
    fn take(&mut self, product: &str, (id, at): (i64, i64), units: i64, totals: &mut Invariant) {
        let before = self.living;
        self.living += units;
        let at = self.moment(at);
        if self.unknown {
            return;
        }
        let total = self.total.unwrap_or(0);
        self.steps.push(Step { at, before: total - before, after: total - self.living });
        totals.check(self.living <= total, || {
            format!("{product}: {} units in living orders at event {id}, total {total}", self.living)
        });
    }
}

/// Invariant 8, and invariant 2 at every instant. Order events and the changes of a product's total have one order,
/// by the events' numbers.
pub(super) fn events(
    snapshot: &Transaction<'_>,
    stock: &Stock,
    orders: &Orders,
    changes: &Changes,
    legal: &mut Invariant,
    totals: &mut Invariant,
) -> Result<Timeline, AuditError> {
    let mut states: HashMap<String, String> = HashMap::with_capacity(orders.len());
    let mut tracks: HashMap<String, Track> = HashMap::new();
    let mut last_event = 0;
    let mut statement = snapshot.prepare("SELECT id, order_id, kind, at FROM outbox ORDER BY id")?;
    let rows = statement.query_map([], |r| {
        Ok((r.get::<_, i64>(0)?, r.get::<_, String>(1)?, r.get::<_, String>(2)?, r.get::<_, i64>(3)?))
    })?;
    for row in rows {
        let (id, order_id, kind, at) = row?;
        last_event = id;
        let Some(order) = orders.get(&order_id) else {
            legal.check(false, || format!("event {id} ({kind}) is of order {order_id}, which does not exist"));
            continue;
        };
        let from = states.get(&order_id).map(String::as_str);
        legal.check(is_legal(from, &kind), || format!("event {id}: order {order_id} went from {from:?} to {kind}"));
        let units = order.quantity * (i64::from(holds_units(Some(&kind))) - i64::from(holds_units(from)));
        if units != 0 {
            let product = order.product.as_str();
            if !tracks.contains_key(product) {
                tracks.insert(product.to_owned(), Track::new(changes.of(product)));
            }
            if let Some(track) = tracks.get_mut(product) {
                track.pass(product, changes.of(product), id, totals);
                track.take(product, (id, at), units, totals);
            }
        }
        states.insert(order_id, kind);
    }
    changes.check(last_event, stock, totals);
    let mut timeline = Timeline { steps: HashMap::new() };
    for product in changes.products() {
        tracks.entry(product.clone()).or_insert_with(|| Track::new(changes.of(product)));
    }
    for (product, mut track) in tracks {
        track.pass(&product, changes.of(&product), i64::MAX, totals);
        timeline.steps.insert(product, track.steps);
    }
    for (id, order) in orders.iter() {
        let last = states.get(id).map(String::as_str);
        legal.check(last == Some(order.state.as_str()), || {
            format!("order {id} is {}, but its last event says {last:?}", order.state)
        });
    }
    Ok(timeline)
}
