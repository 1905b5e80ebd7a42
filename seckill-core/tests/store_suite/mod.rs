//! The contract of every SQL provider of the stock store, as stories over `Arc<dyn StockStore>`. A provider's
//! test gives a [`Place`] and takes them all (`every_story_on!`); nothing here knows which database it is.
#![allow(clippy::unwrap_used, clippy::print_stdout, dead_code, unused_macros, unused_imports)]

pub mod adjust;
pub mod admin;
pub mod attempts;
pub mod feed;
pub mod imports;
pub mod invariants;
pub mod life;
pub mod live;
pub mod money;
pub mod moves;
pub mod orders;
pub mod races;
pub mod retention;
pub mod sales;
pub mod webhooks;

use std::num::NonZeroI64;
use std::sync::Arc;
use std::time::Duration;

use seckill_core::stock::adjustment::{Adjusted, Adjustment, Reason};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::stock::store::{
    Attempt, BodyHash, Claim, Decision, MoveStep, Moved, OrderRow, Outcome, Payment, ProductRow, SaleApplied,
    StockStore, Verdict,
};
use types::{
    BuyerId, Epoch, IdempotencyKey, LeaseId, Money, OrderId, PaymentId, ProductSpec, SaleName, SaleSpec, Sku, Tier,
    Timestamp,
};

/// Every story as a test of its own, each on a place that `$place` makes: one list for all providers.
macro_rules! every_story_on {
    (@tests $place:expr; $($module:ident :: { $($story:ident),* $(,)? })*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            $crate::store_suite::$module::$story($place).await;
        }
    )*)*};
    ($place:expr) => {
        $crate::store_suite::every_story_on! {
            @tests $place;
            adjust::{
                units_come_and_go_where_free_sells,
                an_adjustment_takes_effect_once,
                no_number_is_too_large_to_be_refused,
                lent_units_leave_at_once_and_their_grants_go_another_way,
                a_draining_product_is_adjusted_in_its_epoch,
                a_top_up_lends_what_is_free,
                an_adjusted_product_stays_in_its_sale,
            }
            admin::{
                an_act_and_its_line_are_one,
                a_sale_is_shown_as_its_file_says_it,
                lines_are_numbered_in_the_order_of_their_commits,
            }
            attempts::{
                the_first_decision_is_the_answer,
                the_door_says_sold_out_only_when_nothing_can_come_back,
                the_queue_refuses_for_ever_but_only_what_nobody_could_sell,
                over_the_limit_is_an_end_for_every_claim,
                the_window_binds_the_door_and_the_close_binds_all,
                past_its_deadline_an_attempt_is_decided_so,
                a_used_token_is_good_only_for_its_own_key,
                a_grant_is_worth_one_order_while_its_lease_lives,
                each_attempt_of_a_batch_stands_alone,
                a_contradiction_fails_alone,
            }
            feed::{
                pages_stay_where_they_are_while_orders_come,
                a_step_is_told_with_the_order_as_it_is_now,
                whoever_goes_on_from_the_last_step_misses_none,
            }
            live::{
                events_are_read_back_from_any_place,
                a_standing_is_of_one_moment,
                a_pass_is_good_once,
            }
            imports::{
                a_catalogue_is_imported_whole_or_not_at_all,
                a_stock_import_takes_effect_once,
                the_largest_file_is_one_transaction,
            }
            moves::{
                db_and_queue_switch_in_one_step,
                a_move_to_redis_and_back_loses_no_unit,
                a_lost_lease_gives_way_to_a_new_one,
                keep_never_takes_more_than_there_is,
                a_closed_sale_is_shown_until_it_is_at_rest,
            }
            orders::{
                a_paid_order_is_sold_and_its_refund_gives_the_unit_back,
                an_unpaid_order_expires_in_its_time,
                a_late_payment_takes_unit_and_limit_again_or_is_owed,
                a_late_payment_does_not_take_what_is_lent_or_over_the_limit,
                every_payment_is_kept_and_only_the_right_one_pays,
                the_relay_keeps_its_place,
                money_and_units_of_a_closed_sale_still_move,
            }
            sales::{
                a_file_changes_all_but_stock,
                what_a_file_may_not_do_is_refused_whole,
                a_sku_comes_back_after_its_sale_was_closed,
            }
            retention::{
                an_erased_buyer_leaves_his_money_and_no_name,
                buyers_are_forgotten_after_their_time_and_not_before,
                a_walk_over_refusals_goes_on_where_it_was,
            }
            webhooks::{
                one_core_holds_a_webhook_and_only_it_writes,
                what_is_given_up_can_be_replayed,
                a_webhook_goes_back_to_any_step,
            }
            races::{
                many_buyers_few_units_exactly_all_sold,
                one_key_at_once_is_one_order,
                late_grants_against_settlement,
                of_many_movers_one_wins_each_step,
                adjustments_against_grants_and_moves,
                payment_against_expiry_against_cancellation,
            }
        }
    };
}
pub(crate) use every_story_on;

/// Where one database lives. Dropping every store and opening again is a restart.
pub trait Place: Send + Sync {
    /// Opens the store (again).
    fn open(&self) -> Arc<dyn SqlStore>;
    /// Runs a query through a connection of its own and prints its rows, one text each.
    fn rows(&self, sql: &str) -> Vec<String>;
}

/// First moment of the sale.
pub const OPENS: Timestamp = Timestamp::from_millis(1_000_000);
/// End of the sale.
pub const CLOSES: Timestamp = Timestamp::from_millis(2_000_000);
/// A moment in the sale.
pub const NOW: Timestamp = Timestamp::from_millis(1_500_000);
/// How long orders may stay unpaid.
pub const RESERVE: Duration = Duration::from_secs(60);
/// Price of a unit in cents.
pub const PRICE: u64 = 250;

pub fn later(ms: u64) -> Timestamp {
    NOW.plus(Duration::from_millis(ms))
}
pub fn buyer(n: usize) -> BuyerId {
    BuyerId::new(format!("buyer-{n}")).unwrap()
}
pub fn key(n: usize) -> IdempotencyKey {
    IdempotencyKey::new(format!("key-{n}")).unwrap()
}
pub fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}
pub fn euros(cents: u64) -> Money {
    Money::new(cents, "EUR".parse().unwrap()).unwrap()
}
pub fn order_id(n: usize) -> OrderId {
    OrderId::from_bits(0xabc0_0000_0000_0000_0000_0000_0000_0000 + n as u128)
}
pub fn lease_id(n: usize) -> LeaseId {
    LeaseId::from_bits(0x1ea5_0000_0000_0000_0000_0000_0000_0000 + n as u128)
}
pub fn payment_id(n: usize) -> PaymentId {
    PaymentId::from_bits(0xbead_0000_0000_0000_0000_0000_0000_0000 + n as u128)
}
pub fn spec(name: &str, stock: u64, limit: u32) -> ProductSpec {
    ProductSpec {
        sku: sku(name),
        name: format!("The {name}"),
        price: euros(PRICE),
        stock,
        limit,
        initial_tier: None,
        pages: vec![name.parse().unwrap()],
    }
}
pub fn sale(name: &str, products: Vec<ProductSpec>) -> SaleSpec {
    SaleSpec {
        policy: types::SalePolicy::default(),
        name: SaleName::new(name).unwrap(),
        zone: "Europe/Berlin".into(),
        opens: OPENS,
        closes: CLOSES,
        products,
    }
}

/// Attempt `n`: its own key and order id; one unit of `a` for buyer `n` at the door, until told otherwise.
pub fn attempt(n: usize) -> Attempt {
    Attempt {
        buyer: buyer(n),
        key: key(n),
        body_hash: BodyHash([n as u8; 32]),
        product: sku("a"),
        quantity: 1,
        claim: Claim::Door,
        deadline: NOW.plus(Duration::from_secs(10)),
        request: Some(format!("request-{n}").parse().unwrap()),
        order: order_id(n),
        token: None,
    }
}
pub fn queued(n: usize) -> Attempt {
    Attempt { claim: Claim::Queue, ..attempt(n) }
}
pub fn granted(n: usize, lease: LeaseId, seq: u64) -> Attempt {
    Attempt { claim: Claim::Grant { lease, seq }, ..attempt(n) }
}

/// Adjustment `n` of product `a`.
pub fn adjustment(n: usize, delta: i64) -> Adjustment {
    Adjustment {
        id: IdempotencyKey::new(format!("count-{n}")).unwrap(),
        product: sku("a"),
        delta: NonZeroI64::new(delta).unwrap(),
        reason: Reason::new("counted again").unwrap(),
        by: "m. keeper".into(),
    }
}

/// A store with a sale `sale` of the product `a`.
pub struct Shop {
    pub store: Arc<dyn SqlStore>,
    pub place: Arc<dyn Place>,
}

impl Shop {
    pub async fn selling(place: Arc<dyn Place>, stock: u64, limit: u32) -> Self {
        let store = place.open();
        let applied = store.apply_sale(sale("sale", vec![spec("a", stock, limit)]), NOW).await.unwrap();
        assert_eq!(applied, SaleApplied::Created);
        Self { store, place }
    }
    /// Closes the database and opens it again.
    pub fn restart(self) -> Self {
        let Self { store, place } = self;
        assert_eq!(Arc::strong_count(&store), 1, "somebody still holds the store");
        drop(store);
        Self { store: place.open(), place }
    }
    pub async fn decide(&self, attempt: Attempt) -> Verdict {
        self.decide_at(attempt, NOW).await
    }
    pub async fn decide_at(&self, attempt: Attempt, now: Timestamp) -> Verdict {
        self.store.decide(vec![attempt], RESERVE, now).await.unwrap().pop().unwrap()
    }
    pub async fn accept(&self, attempt: Attempt) -> OrderRow {
        let (order, buyer) = (attempt.order, attempt.buyer.clone());
        let verdict = self.decide(attempt).await;
        assert_eq!(outcome(&verdict), Some((Outcome::Accepted(order), true)), "{verdict:?}");
        self.store.order(order, &buyer).await.unwrap().expect("an accepted order exists")
    }
    pub async fn product(&self) -> ProductRow {
        self.store.product(&sku("a")).await.unwrap().expect("the product exists")
    }
    /// `(free, leased, reserved, sold)` of product `a`.
    pub async fn units(&self) -> (u64, u64, u64, u64) {
        let p = self.product().await;
        (p.free, p.state.sellable - p.free, p.state.reserved, p.sold)
    }
    pub async fn step(&self, step: MoveStep) -> Moved {
        self.store.step(step, NOW).await.unwrap()
    }
    pub async fn moved(&self, step: MoveStep) -> ProductRow {
        match self.step(step.clone()).await {
            Moved::Done(row) => row,
            Moved::Stale(row) => panic!("{step:?} was stale: {row:?}"),
        }
    }
    /// Moves all of `free` into lease `n`.
    pub async fn lend(&self, n: usize) -> LeaseId {
        let epoch = self.product().await.state.epoch;
        self.moved(MoveStep::OpenLease { product: sku("a"), epoch, lease: lease_id(n), keep: 0 }).await;
        lease_id(n)
    }
    pub async fn fence(&self, target: Tier) -> Epoch {
        let epoch = self.product().await.state.epoch;
        self.moved(MoveStep::Fence { product: sku("a"), epoch, target }).await.state.epoch
    }
    pub async fn pay(&self, n: usize, order: &OrderRow) -> seckill_core::stock::store::PaymentEffect {
        let payment = Payment { payment: payment_id(n), order: order.order, amount: order.amount };
        self.store.pay(payment, NOW).await.unwrap()
    }
    pub async fn state(&self, order: &OrderRow) -> seckill_core::stock::store::OrderState {
        self.store.order(order.order, &order.buyer).await.unwrap().expect("an order exists for ever").state
    }
    /// Every invariant that SQL alone can show.
    pub fn check(&self) {
        invariants::check(self.place.as_ref());
    }
}

/// What was decided, and whether just now.
pub fn outcome(verdict: &Verdict) -> Option<(Outcome, bool)> {
    match verdict {
        Verdict::Decided { decision: Decision { outcome, .. }, fresh, .. } => Some((*outcome, *fresh)),
        _ => None,
    }
}
