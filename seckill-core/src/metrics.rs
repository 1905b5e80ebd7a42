//! Names, help texts and labels of this core's metrics (what every purchase call counts in: `meters`). Labels come
//! from closed sets; no product and no buyer is ever one.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use types::Tier;

use crate::stock::adjustment::Adjusted;
use crate::webhooks::send::End;

/// Purchase calls answered, by tier and outcome.
pub const ATTEMPTS: &str = "seckill_core_attempts_total";
/// Orders committed, by tier.
pub const ORDERS: &str = "seckill_core_orders_accepted_total";
/// Refused purchase calls and refusing decisions, by reason.
pub const REFUSALS: &str = "seckill_core_refusals_total";
/// Time from a purchase call to its answer, by tier.
pub const PURCHASE_SECONDS: &str = "seckill_core_purchase_seconds";
/// Moves ended, by from and to.
pub const MOVES: &str = "seckill_core_moves_total";
/// Time between fence and open of a move.
pub const HANDOVER_SECONDS: &str = "seckill_core_handover_seconds";
/// Time that requests waited for a move, by how the wait ended.
pub const HANDOVER_WAIT_SECONDS: &str = "seckill_core_handover_wait_seconds";
/// Units that came back and were lent to an open lease again.
pub const TOPPED_UP: &str = "seckill_core_topped_up_units_total";
/// Leases that were replaced, by why.
pub const REPLACED: &str = "seckill_core_leases_replaced_total";
/// Queued attempts that are not decided yet.
pub const BACKLOG: &str = "seckill_core_backlog";
/// Decisions per second that a consumer was measured to make, by topic.
pub const RATE: &str = "seckill_core_decision_rate";
/// Attempts submitted again, by why.
pub const RESUBMISSIONS: &str = "seckill_core_resubmissions_total";
/// Resubmitted attempts left to their deadline because too many wait.
pub const LEFT_TO_DEADLINE: &str = "seckill_core_left_to_deadline_total";
/// What must never happen and was survived, by what.
pub const ALARMS: &str = "seckill_core_alarms_total";
/// Records that could not be decided and were dead-lettered, by topic and why.
pub const POISON: &str = "seckill_core_poison_records_total";
/// Adjustments of stock answered, by answer.
pub const ADJUSTMENTS: &str = "seckill_core_adjustments_total";
/// Acts of administration, by action and outcome.
pub const ADMIN_ACTS: &str = "seckill_core_admin_acts_total";
/// Calls of administration by somebody who may not, by why.
pub const NOT_ALLOWED: &str = "seckill_core_admin_not_allowed_total";
/// Orders expired unpaid.
pub const EXPIRED: &str = "seckill_core_orders_expired_total";
/// Payments applied, by effect.
pub const PAYMENTS: &str = "seckill_core_payments_total";
/// Payment callbacks answered, by answer.
pub const CALLBACKS: &str = "seckill_core_payment_callbacks_total";
/// Payments that are owed back.
pub const REFUNDS_DUE: &str = "seckill_core_refunds_due";
/// Questions for a refund, by answer.
pub const REFUNDS_ASKED: &str = "seckill_core_refunds_asked_total";
/// Outbox events relayed to the event log.
pub const RELAYED: &str = "seckill_core_outbox_relayed_total";
/// Plan pushes answered, by answer.
pub const PLANS: &str = "seckill_core_plan_pushes_total";
/// Failures of a port that are tried again, by part.
pub const RETRIES: &str = "seckill_core_retries_total";

/// Webhook deliveries, by how they ended.
pub const WEBHOOK_DELIVERIES: &str = "seckill_core_webhook_deliveries_total";
/// Time of a webhook delivery.
pub const WEBHOOK_SECONDS: &str = "seckill_core_webhook_seconds";
/// Events that webhooks gave up.
pub const WEBHOOK_DEAD: &str = "seckill_core_webhook_dead_letters_total";
/// Events that wait for another try, of all webhooks.
pub const WEBHOOK_WAITING: &str = "seckill_core_webhook_waiting";
/// How many events the webhook is behind that is furthest behind.
pub const WEBHOOK_BEHIND: &str = "seckill_core_webhook_behind";
/// Webhooks that this core began to deliver: at its start, after a change, or because another core died.
pub const WEBHOOK_TAKEN: &str = "seckill_core_webhooks_taken_total";

/// Edges that ask for admission credits.
pub const EDGES: &str = "seckill_core_edges";

/// Rows in which a buyer was forgotten, by what they are.
pub const FORGOTTEN: &str = "seckill_core_forgotten_total";

/// Registers the help texts.
pub fn describe() {
    crate::stock::db::metrics::describe();
    crate::live::metrics::describe();
    #[cfg(feature = "redis")]
    crate::stock::redis::server::metrics::describe();
    describe_counter!(ATTEMPTS, "Purchase calls answered, by tier and outcome");
    describe_counter!(ORDERS, "Orders committed, by the tier that accepted them");
    describe_counter!(REFUSALS, "Refused purchase calls and refusing decisions, by reason");
    describe_histogram!(PURCHASE_SECONDS, Unit::Seconds, "Time from a purchase call to its answer, by tier");
    describe_counter!(MOVES, "Moves of products between tiers, by from and to");
    describe_histogram!(HANDOVER_SECONDS, Unit::Seconds, "Time between fence and open of a move");
    describe_histogram!(HANDOVER_WAIT_SECONDS, Unit::Seconds, "Time that requests waited for a move, by how it ended");
    describe_counter!(TOPPED_UP, "Units that came back and were lent to an open lease again");
    describe_counter!(REPLACED, "Leases that were replaced by a new one, by why");
    describe_gauge!(BACKLOG, "Queued attempts that are not decided yet");
    describe_gauge!(RATE, "Decisions per second that the consumer of a topic was measured to make");
    describe_counter!(RESUBMISSIONS, "Attempts submitted again under the same key, by why");
    describe_counter!(LEFT_TO_DEADLINE, "Resubmitted attempts that were left to their deadline");
    describe_counter!(ALARMS, "Grants that contradict the store and other things that must never happen, by what");
    describe_counter!(POISON, "Records that could not be decided and were dead-lettered, by topic and why");
    describe_counter!(ADJUSTMENTS, "Adjustments of stock answered, by answer");
    describe_counter!(ADMIN_ACTS, "Acts of administration, each with a line in the audit log, by action and outcome");
    describe_counter!(NOT_ALLOWED, "Calls of administration by somebody who may not make them, by why");
    describe_counter!(EXPIRED, "Orders that expired unpaid");
    describe_counter!(PAYMENTS, "What was said of payments and settled, by the payment's state after it");
    describe_counter!(CALLBACKS, "Payment callbacks answered, by the payment's state or the refusal's name");
    describe_gauge!(REFUNDS_DUE, "Payments that are owed back, as the last look found them");
    describe_counter!(REFUNDS_ASKED, "Questions to the provider for a refund, by answer");
    describe_counter!(RELAYED, "Outbox events relayed to the event log");
    describe_counter!(PLANS, "Plan pushes answered, by answer");
    describe_gauge!(EDGES, "Edges that ask for admission credits");
    describe_counter!(FORGOTTEN, "Rows in which a buyer was forgotten, by what they are");
    describe_counter!(WEBHOOK_DELIVERIES, "Webhook deliveries, by how they ended");
    describe_histogram!(WEBHOOK_SECONDS, Unit::Seconds, "Time of a webhook delivery");
    describe_counter!(WEBHOOK_DEAD, "Events that webhooks gave up; they can be replayed");
    describe_gauge!(WEBHOOK_WAITING, "Events that wait for another try, of all webhooks");
    describe_gauge!(WEBHOOK_BEHIND, "How many events the webhook is behind that is furthest behind");
    describe_counter!(WEBHOOK_TAKEN, "Webhooks that this core began to deliver");
    describe_counter!(RETRIES, "Failures of a port that are tried again, by part");
}

pub(crate) fn moved(from: Tier, to: Tier, took: Duration) {
    counter!(MOVES, "from" => from.as_str(), "to" => to.as_str()).increment(1);
    histogram!(HANDOVER_SECONDS).record(took.as_secs_f64());
}
pub(crate) fn waited_for_move(end: &'static str, waited: Duration) {
    histogram!(HANDOVER_WAIT_SECONDS, "end" => end).record(waited.as_secs_f64());
}
pub(crate) fn topped_up(units: u64) {
    counter!(TOPPED_UP).increment(units);
}
pub(crate) fn lease_replaced(why: &'static str) {
    counter!(REPLACED, "why" => why).increment(1);
}
pub(crate) fn backlog(attempts: u64) {
    gauge!(BACKLOG).set(attempts as f64);
}
pub(crate) fn rate(topic: &'static str, per_second: u64) {
    gauge!(RATE, "topic" => topic).set(per_second as f64);
}
pub(crate) fn resubmitted(why: &'static str) {
    counter!(RESUBMISSIONS, "why" => why).increment(1);
}
pub(crate) fn left_to_deadline() {
    counter!(LEFT_TO_DEADLINE).increment(1);
}
pub(crate) fn alarm(what: &'static str) {
    counter!(ALARMS, "what" => what).increment(1);
}
pub(crate) fn poison(topic: &'static str, why: &'static str) {
    counter!(POISON, "topic" => topic, "why" => why).increment(1);
}
pub(crate) fn adjusted(adjusted: &Adjusted) {
    let answer = match adjusted {
        Adjusted::Done { product: Some(_), .. } => "done",
        Adjusted::Done { product: None, .. } => "repeated",
        Adjusted::OtherBody => "other_body",
        Adjusted::TooFew { .. } => "too_few",
        Adjusted::TooMany { .. } => "too_many",
        Adjusted::UnknownProduct => "unknown_product",
    };
    counter!(ADJUSTMENTS, "answer" => answer).increment(1);
}
pub(crate) fn administered(action: &'static str, outcome: &'static str) {
    counter!(ADMIN_ACTS, "action" => action, "outcome" => outcome).increment(1);
}
pub(crate) fn not_allowed(why: &'static str) {
    counter!(NOT_ALLOWED, "why" => why).increment(1);
}
pub(crate) fn expired(orders: u64) {
    counter!(EXPIRED).increment(orders);
}
pub(crate) fn payment(effect: &'static str) {
    counter!(PAYMENTS, "effect" => effect).increment(1);
}
pub(crate) fn callback(answer: &'static str) {
    counter!(CALLBACKS, "answer" => answer).increment(1);
}
pub(crate) fn refunds_due(payments: usize) {
    gauge!(REFUNDS_DUE).set(payments as f64);
}
pub(crate) fn refund_asked(answer: &'static str) {
    counter!(REFUNDS_ASKED, "answer" => answer).increment(1);
}
pub(crate) fn relayed(events: u64) {
    counter!(RELAYED).increment(events);
}
pub(crate) fn plan_push(answer: &'static str) {
    counter!(PLANS, "answer" => answer).increment(1);
}
pub(crate) fn retry(part: &'static str) {
    counter!(RETRIES, "part" => part).increment(1);
}
pub(crate) fn webhook_delivery(end: &End, took: Duration) {
    let end = match end {
        End::Delivered => "delivered",
        End::Refused(_) => "refused",
        End::Away(_) => "away",
    };
    counter!(WEBHOOK_DELIVERIES, "end" => end).increment(1);
    histogram!(WEBHOOK_SECONDS).record(took.as_secs_f64());
}
pub(crate) fn webhook_dead(events: u64) {
    counter!(WEBHOOK_DEAD).increment(events);
}
pub(crate) fn webhooks(waiting: u64, behind: u64) {
    gauge!(WEBHOOK_WAITING).set(waiting as f64);
    gauge!(WEBHOOK_BEHIND).set(behind as f64);
}
pub(crate) fn webhook_taken() {
    counter!(WEBHOOK_TAKEN).increment(1);
}
pub(crate) fn edges(asking: usize) {
    gauge!(EDGES).set(asking as f64);
}
pub(crate) fn forgotten(what: &'static str, rows: u64) {
    counter!(FORGOTTEN, "what" => what).increment(rows);
}
