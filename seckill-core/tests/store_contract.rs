//! The stock store's contract on embedded SQL, and what only a file of its own can show: versions, foreign
//! files, damage.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod store_suite;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::store::{StockStore, StoreError};
use store_suite::Place;

struct File {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        Arc::new(Self { path: folder.path().join("stock.db"), _folder: folder })
    }
}

impl Place for File {
    fn open(&self) -> Arc<dyn StockStore> {
        Arc::new(SqliteStore::open(&self.path, SqliteStoreOptions::default()).unwrap())
    }
    fn rows(&self, sql: &str) -> Vec<String> {
        let db = Connection::open(&self.path).unwrap();
        let mut find = db.prepare(sql).unwrap();
        let columns = find.column_count();
        find.query_map([], |row| {
            (0..columns).map(|c| row.get::<_, rusqlite::types::Value>(c).map(|v| format!("{v:?}"))).collect()
        })
        .unwrap()
        .map(|row: Result<Vec<String>, _>| row.unwrap().join(" "))
        .collect()
    }
}

macro_rules! stories {
    ($($module:ident :: { $($story:ident),* $(,)? })*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $story() {
            store_suite::$module::$story(File::new()).await;
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
    let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..30, |seed: u64| seed..seed + 1);
    for seed in seeds {
        store_suite::life::walk(File::new(), seed, 120).await;
    }
}

#[test]
fn a_file_of_a_newer_version_or_another_program_is_left_alone() {
    let file = File::new();
    drop(file.open());
    let db = Connection::open(&file.path).unwrap();
    db.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'", []).unwrap();
    match SqliteStore::open(&file.path, SqliteStoreOptions::default()) {
        Err(e @ StoreError::Corrupt(_)) => {
            assert!(e.to_string().contains("schema version 2") && !e.retryable(), "{e}");
        }
        other => panic!("{other:?}"),
    }

    let foreign = File::new();
    Connection::open(&foreign.path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    match SqliteStore::open(&foreign.path, SqliteStoreOptions::default()) {
        Err(StoreError::Corrupt(why)) => assert!(why.contains("another program's"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(foreign.rows("SELECT name FROM sqlite_master").len(), 1, "not a table was added");

    let noise = File::new();
    std::fs::write(&noise.path, vec![7u8; 8_192]).unwrap();
    match SqliteStore::open(&noise.path, SqliteStoreOptions::default()) {
        Err(StoreError::Corrupt(why)) => assert!(why.contains("not a database"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_place_that_cannot_be_opened_is_unavailable_and_bad_settings_are_named() {
    let file = File::new();
    let nowhere = file.path.with_file_name("no/such/folder.db");
    assert!(matches!(
        SqliteStore::open(&nowhere, SqliteStoreOptions::default()),
        Err(e @ StoreError::Unavailable(_)) if e.retryable()
    ));
    let bad = SqliteStoreOptions { readers: 0, ..SqliteStoreOptions::default() };
    let why = SqliteStore::open(&file.path, bad).unwrap_err().to_string();
    assert!(why.contains("stock.sqlite.readers"), "{why}");
    let text = serde_json::to_string(&SqliteStoreOptions::default()).unwrap();
    insta::assert_snapshot!(text, @r#"{"queue":8192,"group":500,"linger":"1ms","readers":2,"busy_timeout":"5s"}"#);
    assert!(serde_json::from_str::<SqliteStoreOptions>(r#"{"reader":2}"#).is_err(), "an unknown field");
}
