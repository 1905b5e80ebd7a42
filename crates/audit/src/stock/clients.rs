//! What clients were told, held against what was decided (invariants 4, 7, 11, 12). An answer is judged only
//! where the store and the samples can decide it; doubt speaks for the store.

use std::collections::{HashMap, HashSet};

use rusqlite::Transaction;

use super::books::{Orders, Stock};
use super::history::Timeline;
use super::{Options, Sampler};
use crate::journal::{Entry, Told};
use crate::{AuditError, Invariant};

/// The states an accepted order may be in, for ever.
const LEGAL: [&str; 6] = ["accepted", "paid", "expired", "cancelled", "refund_due", "refunded"];

/// A row of `decision`.
pub(super) struct DecisionRow {
    product: String,
    outcome: String,
    order: Option<String>,
    at: i64,
}

/// Every decision, by `(buyer, key)`; and whether some were forgotten with their buyers.
pub(super) struct Decisions(HashMap<(String, String), DecisionRow>, bool);

/// Whether a buyer was forgotten: the order is still there, whose it was is not.
fn is_nobody(buyer: &str) -> bool {
    let digits = buyer.strip_prefix("erased-");
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl Decisions {
    pub(super) fn read(snapshot: &Transaction<'_>) -> Result<Self, AuditError> {
        let mut statement =
            snapshot.prepare("SELECT buyer, key, product_id, outcome, order_id, decided_at FROM decision")?;
        let rows = statement.query_map([], |r| {
            let row = DecisionRow { product: r.get(2)?, outcome: r.get(3)?, order: r.get(4)?, at: r.get(5)? };
            Ok(((r.get(0)?, r.get(1)?), row))
        })?;
        let rows = rows.collect::<Result<_, _>>()?;
        let forgotten = snapshot.prepare("SELECT 1 FROM meta WHERE key = 'forgotten'")?.exists([])?;
        Ok(Self(rows, forgotten))
    }
    /// Whether the decision that this client remembers may be gone with its buyer.
    fn may_be_forgotten(&self, entry: &Entry) -> bool {
        self.1 && self.of(entry).is_none()
    }
    fn of(&self, entry: &Entry) -> Option<&DecisionRow> {
        self.0.get(&(entry.buyer.clone(), entry.key.clone()))
    }
}

/// Invariant 4, the store's half: each accepted decision has its order, each order its decision.
pub(super) fn decisions_have_orders(decisions: &Decisions, orders: &Orders, found: &mut Invariant) {
    for ((buyer, key), decision) in &decisions.0 {
        if decision.outcome != "accepted" {
            continue;
        }
        let order = decision.order.as_deref().and_then(|id| orders.get(id));
        found.check(order.is_some_and(|o| o.buyer == *buyer && o.key == *key && o.product == decision.product), || {
            format!("an attempt on {} was accepted as order {:?}, which is not there", decision.product, decision.order)
        });
    }
    for (id, order) in orders.iter() {
        let decision = decisions.0.get(&(order.buyer.clone(), order.key.clone()));
        found.check(decision.is_some_and(|d| d.order.as_ref() == Some(id)), || {
            format!("order {id} of {} has no decision that accepted it", order.product)
        });
        found.check(LEGAL.contains(&order.state.as_str()), || format!("order {id} is in state {:?}", order.state));
    }
}

/// Invariant 4, the clients' half: what a client saw accepted is there, as he saw it.
pub(super) fn accepted_orders_exist(entries: &[Entry], decisions: &Decisions, orders: &Orders, found: &mut Invariant) {
    for entry in entries.iter().filter(|e| e.outcome == Told::Accepted) {
        let Some(id) = &entry.order else {
            found.check(false, || format!("a client was told accepted on {} without an order's id", entry.product));
            continue;
        };
        let Some(order) = orders.get(id) else {
            found.check(false, || format!("order {id} of {} was accepted to a client and is gone", entry.product));
            continue;
        };
        if is_nobody(&order.buyer) {
            let same = order.product == entry.product && u64::try_from(order.quantity) == Ok(entry.quantity);
            found.check(same, || format!("order {id} is not what a forgotten client saw accepted ({})", entry.product));
            continue;
        }
        let same = order.buyer == entry.buyer
            && order.key == entry.key
            && order.product == entry.product
            && u64::try_from(order.quantity) == Ok(entry.quantity);
        found.check(same, || format!("order {id} is not what the client saw accepted ({})", entry.product));
        let decided = decisions.of(entry).and_then(|d| d.order.as_ref());
        found.check(decided == Some(id), || format!("a client was told order {id}, the key decided {decided:?}"));
    }
}

/// Invariant 7: a ticket has an end in time, and the end is the decision.
pub(super) fn tickets_end(entries: &[Entry], decisions: &Decisions, options: &Options, found: &mut Invariant) {
    let mut ended: HashSet<(&str, &str)> = HashSet::new();
    for entry in entries.iter().filter(|e| e.is_end()) {
        // A refusal at the door ends a try, never a ticket.
        if entry.bound || entry.outcome == Told::Accepted {
            ended.insert((&entry.buyer, &entry.key));
        }
        if !entry.bound {
            continue;
        }
        if decisions.may_be_forgotten(entry) {
            continue;
        }
        // The end of a ticket binds: it must be the row that everybody reads for ever.
        let decision = decisions.of(entry).map(|d| d.outcome.as_str());
        let agrees = match entry.outcome {
            Told::Accepted => decision == Some("accepted"),
            Told::SoldOut => decision == Some("sold_out"),
            Told::AllReserved => decision == Some("all_reserved"),
            Told::Limit => decision == Some("limit"),
            Told::Refused => matches!(decision, Some("deadline" | "closed")),
            Told::Queued | Told::Error => true,
        };
        found.check(agrees, || {
            format!(
                "{}: a ticket ended {:?} for its client, the decision is {decision:?}",
                entry.product, entry.outcome
            )
        });
    }
    for entry in entries.iter().filter(|e| e.outcome == Told::Queued) {
        let Some(deadline) = entry.ticket_deadline else {
            found.check(false, || format!("{}: a ticket without a deadline", entry.product));
            continue;
        };
        let limit = deadline + options.skew_ms;
        // `sent` decides: an answer may travel, but a question asked after the deadline must be answered.
        found.check(!entry.bound || entry.sent.unwrap_or(entry.t) <= limit, || {
            let late = entry.sent.unwrap_or(entry.t) - deadline;
            format!("{}: a ticket was still without an end {late} ms after its deadline", entry.product)
        });
        if options.at_rest && limit < options.now_ms {
            let has_end = ended.contains(&(entry.buyer.as_str(), entry.key.as_str()));
            found.check(has_end || decisions.of(entry).is_some() || decisions.may_be_forgotten(entry), || {
                format!("{}: a ticket of {} never came to an end", entry.product, deadline)
            });
        }
    }
}

/// Invariant 11: a refusal at the door for want of units is wrong if there were enough of them all through
/// the time that a hint may be old, and through the request itself.
pub(super) fn told_sold_out(
    entries: &[Entry],
    decisions: &Decisions,
    timeline: &Timeline,
    samples: Option<&Sampler>,
    options: &Options,
    found: &mut Invariant,
) {
    if entries.is_empty() {
        found.not_examined = Some("no client's journal was given".to_owned());
        return;
    }
    for entry in entries.iter().filter(|e| matches!(e.outcome, Told::SoldOut | Told::AllReserved)) {
        // A bound refusal stays true for ever to its key; whether it was right is invariant 12.
        if entry.bound || decisions.of(entry).is_some() {
            continue;
        }
        let from = entry.sent.unwrap_or(entry.t) - options.hint_ms - options.commit_slack_ms;
        let to = entry.t + options.commit_slack_ms;
        let by_events = timeline.least_sellable(&entry.product, from, to).unwrap_or(0);
        let by_samples = samples
            .and_then(|s| s.least(&entry.product, from, to))
            .map_or(by_events, |n| i64::try_from(n).unwrap_or(i64::MAX));
        let sellable = by_events.min(by_samples);
        let wanted = i64::try_from(entry.quantity).unwrap_or(i64::MAX);
        found.check(sellable < wanted, || {
            format!(
                "{}: a client who wanted {wanted} was told {:?} at {} while {sellable} or more were sellable",
                entry.product, entry.outcome, entry.t
            )
        });
    }
}

/// Invariant 12: as 11, for refusals that were decided. The table does not hold the quantity; where no journal
/// tells it, the buyer's limit stands in, which can only acquit.
pub(super) fn decided_sold_out(
    entries: &[Entry],
    decisions: &Decisions,
    timeline: &Timeline,
    stock: &Stock,
    options: &Options,
    found: &mut Invariant,
) {
    // One key may have been asked for several quantities, of which one was decided: the largest can only acquit.
    let mut quantities: HashMap<(&str, &str), u64> = HashMap::new();
    for entry in entries {
        let most = quantities.entry((&entry.buyer, &entry.key)).or_default();
        *most = entry.quantity.max(*most);
    }
    for ((buyer, key), decision) in &decisions.0 {
        if !matches!(decision.outcome.as_str(), "sold_out" | "all_reserved") {
            continue;
        }
        let wanted = quantities
            .get(&(buyer.as_str(), key.as_str()))
            .and_then(|n| i64::try_from(*n).ok())
            .or_else(|| stock.0.get(&decision.product).and_then(|s| s.limit))
            .unwrap_or(i64::MAX);
        let span = (decision.at - options.commit_slack_ms, decision.at + options.commit_slack_ms);
        let sellable = timeline.least_sellable(&decision.product, span.0, span.1).unwrap_or(0);
        found.check(sellable < wanted, || {
            format!(
                "{}: an attempt for {wanted} was decided {} at {} while {sellable} were sellable",
                decision.product, decision.outcome, decision.at
            )
        });
    }
}
