//! The stock store's contract on embedded SQL, and what only a file of its own can show: versions, foreign
//! files, damage.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod store_suite;

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::Connection;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::stock::store::StoreError;
use store_suite::*;

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
    fn open(&self) -> Arc<dyn SqlStore> {
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

store_suite::every_story_on!(File::new());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_and_units_balance_in_every_order_of_callbacks() {
    let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..15, |seed: u64| seed..seed + 1);
    let (mut met, all) = (std::collections::BTreeSet::new(), seeds.end - seeds.start > 1);
    for seed in seeds {
        met.append(&mut store_suite::money::walk(File::new(), seed, 150).await);
    }
    let missing: Vec<_> = store_suite::money::MUST_BE_MET.into_iter().filter(|case| !met.contains(*case)).collect();
    assert!(!all || missing.is_empty(), "no walk met {missing:#?} in {met:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_things_is_as_the_model_says() {
    let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..30, |seed: u64| seed..seed + 1);
    for seed in seeds {
        store_suite::life::walk(File::new(), seed, 120).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_first_version_begins_its_history_of_totals() {
    let file = File::new();
    let shop = Shop::selling(file.clone(), 4, 2).await;
    shop.accept(attempt(1)).await;
    Connection::open(&file.path)
        .unwrap()
        .execute_batch("DROP TABLE stock_change; UPDATE meta SET value = '1' WHERE key = 'schema_version'")
        .unwrap();
    let shop = shop.restart();
    shop.check();
    shop.store.adjust(adjustment(1, 2), NOW).await.unwrap();
    let shop = shop.restart();
    shop.check();
    let history = file.rows("SELECT cause, delta, total, after_event FROM stock_change ORDER BY seq");
    assert_eq!(
        history,
        [r#"Text("older") Integer(4) Integer(4) Integer(1)"#, r#"Text("adjustment") Integer(2) Integer(6) Integer(1)"#]
    );
    shop.accept(attempt(2)).await;
    assert_eq!(shop.units().await, (4, 0, 2, 0));
}

#[test]
fn a_file_of_a_newer_version_or_another_program_is_left_alone() {
    let file = File::new();
    drop(file.open());
    let db = Connection::open(&file.path).unwrap();
    db.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'", []).unwrap();
    match SqliteStore::open(&file.path, SqliteStoreOptions::default()) {
        Err(e @ StoreError::Corrupt(_)) => {
            assert!(e.to_string().contains("schema version 99") && !e.retryable(), "{e}");
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
