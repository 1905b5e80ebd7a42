//! The purchase suite: whole cores over real HTTP, each story once, on every combination of {SQLite, MariaDB} ×
//! {in-process, Redis} × {SQLite log, Kafka}. The servers are real and started here.
#![cfg(all(feature = "mysql", feature = "redis"))]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod administered;
mod client;
mod cores;
mod doors;
mod faults;
mod life;
mod line;
mod moves;
mod paths;
mod payments;
mod place;
mod sell_outs;
mod shared;
mod shop;
mod till;

/// Stories as tests of their own, each at a place of this kind.
macro_rules! stories {
    ($kind:expr; $($module:ident :: { $($story:ident),* $(,)? })*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            crate::$module::$story($kind).await;
        }
    )*)*};
}

/// One combination; the number is its place in `Kind::ALL`.
macro_rules! combination {
    ($name:ident, $number:literal $(, $server_story:ident)*) => {
        mod $name {
            stories! {
                crate::place::Kind::ALL[$number];
                doors::{
                    a_purchase_is_an_order_and_a_retry_has_the_same_answer,
                    a_buyer_gets_no_more_than_his_limit_by_whatever_path,
                    sold_out_is_said_only_when_nothing_can_come_back,
                    the_stop_button_and_the_window_bind_the_door,
                    waiting_brings_the_end_or_a_ticket,
                }
                paths::{
                    each_path_sells_exactly_the_stock_to_a_crowd,
                    a_ticket_is_its_owners_and_has_one_end,
                    a_ticket_whose_record_was_lost_is_decided_by_its_reader,
                    an_attempt_that_lay_too_long_is_decided_so,
                    the_queue_says_where_one_stands_and_is_bounded,
                    poison_is_set_aside_and_blocks_nobody,
                    a_used_token_is_good_only_for_its_own_key,
                }
                life::{
                    units_come_back_by_cancel_and_by_expiry_and_stay_when_paid,
                    a_failed_payment_binds_nothing,
                    a_late_payment_takes_the_unit_again_or_is_owed,
                    units_that_expire_in_the_redis_tier_are_sold_again,
                    a_sale_is_closed_only_when_its_leases_are_home,
                }
                moves::{
                    a_product_moves_round_and_round_under_load_and_loses_nothing,
                    a_core_that_is_killed_again_and_again_loses_nothing,
                    half_done_moves_are_finished_by_whoever_finds_them,
                }
                cores::{
                    any_core_answers_for_every_other,
                    a_retry_at_the_other_core_has_its_answer_when_nothing_is_left,
                    two_cores_sell_one_product_while_it_moves,
                    the_queue_is_open_again_whichever_core_has_decided,
                    a_core_that_dies_leaves_its_tickets_to_the_other,
                }
                faults::{ $($server_story),* }
            }
        }
    };
}

combination!(sqlite_inprocess_sqlitelog, 0);
combination!(sqlite_inprocess_kafka, 1, kafka_is_killed_while_it_sells);
combination!(sqlite_redis_sqlitelog, 2, redis_is_killed_while_it_sells);
combination!(sqlite_redis_kafka, 3, redis_is_killed_while_it_sells, kafka_is_killed_while_it_sells);
combination!(mariadb_inprocess_sqlitelog, 4, mariadb_is_killed_while_it_sells);
combination!(mariadb_inprocess_kafka, 5, mariadb_is_killed_while_it_sells, kafka_is_killed_while_it_sells);
combination!(mariadb_redis_sqlitelog, 6, mariadb_is_killed_while_it_sells, redis_is_killed_while_it_sells);
combination!(
    mariadb_redis_kafka,
    7,
    mariadb_is_killed_while_it_sells,
    redis_is_killed_while_it_sells,
    kafka_is_killed_while_it_sells
);

/// Money and administration: on both databases; leases and log are none of their business.
macro_rules! money {
    ($name:ident, $number:literal) => {
        mod $name {
            stories! {
                crate::place::Kind::ALL[$number];
                payments::{
                    a_callback_that_is_not_right_changes_nothing,
                    every_callback_has_a_definite_answer,
                    the_shop_confirms_and_releases_itself,
                    the_simulated_provider_may_do_its_worst,
                    a_refund_outlives_a_crash_and_an_unwilling_provider,
                    what_expires_is_sold_at_once,
                }
                administered::{ a_sale_lives_from_its_file_to_its_close_across_both_clock_changes }
            }
        }
    };
}

money!(money_on_sqlite, 0);
money!(money_on_mariadb, 4);
