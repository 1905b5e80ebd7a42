//! The stock store on a real MariaDB: the contract of every SQL provider, and what only a server can show: several
//! cores, deadlocks, lost connections, lost answers to a commit, migrations, kill -9 and pauses.
#![cfg(feature = "mysql")]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod auditor;
mod cores;
mod faults;
mod migrations;
mod place;
mod proxy;
mod speed;
#[path = "../store_suite/mod.rs"]
mod store_suite;

use place::Database;

macro_rules! stories {
    ($($module:ident :: { $($story:ident),* $(,)? })*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            store_suite::$module::$story(Database::fresh()).await;
        }
    )*)*};
}

stories! {
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
    races::{
        many_buyers_few_units_exactly_all_sold,
        one_key_at_once_is_one_order,
        late_grants_against_settlement,
        of_many_movers_one_wins_each_step,
        payment_against_expiry_against_cancellation,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_things_is_as_the_model_says() {
    let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..12, |seed: u64| seed..seed + 1);
    for seed in seeds {
        store_suite::life::walk(Database::fresh(), seed, 120).await;
    }
}
