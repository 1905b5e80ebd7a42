//! The tables: made once, by whoever comes first; a database that is not this program's is left alone.

use std::sync::Arc;

use futures::future::join_all;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::store::{StockStore, StoreError};
use testkit::servers::MariaDb;

use crate::place::Database;
use crate::store_suite::*;

async fn refused(place: &Database, why: &str) {
    match MariaStore::connect(place.options()).await {
        Err(e @ StoreError::Corrupt(_)) => assert!(e.to_string().contains(why) && !e.retryable(), "{e}"),
        other => panic!("{why}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_cores_that_start_at_once_make_the_tables_once() {
    let place = Database::fresh();
    let stores = join_all((0..6).map(|_| place.connect())).await;
    let shop = Shop { store: Arc::clone(&stores[0]), place: place.clone() };
    shop.store.apply_sale(sale("sale", vec![spec("a", 6, 1)]), NOW).await.unwrap();
    for (n, store) in stores.iter().enumerate() {
        let verdict = store.decide(vec![attempt(n)], RESERVE, NOW).await.unwrap();
        assert!(outcome(&verdict[0]).is_some());
    }
    let whole = "SELECT MIN(version) = 1 AND COUNT(DISTINCT version) = COUNT(*) AND COUNT(*) >= 8 AND MIN(finished) = 1 FROM schema_migration";
    assert_eq!(place.rows(whole), ["1"], "each migration once, finished");
    assert_eq!(
        place.rows(
            "SELECT DISTINCT engine, table_collation FROM information_schema.tables WHERE table_schema = DATABASE()"
        ),
        ["InnoDB utf8mb4_bin"]
    );
    drop(place.connect().await);
    assert_eq!(shop.units().await, (0, 0, 6, 0), "and again, with all that was there");
    shop.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_a_changed_or_a_foreign_database_is_refused_and_left_alone() {
    let newer = Database::fresh();
    drop(newer.connect().await);
    newer.rows("INSERT INTO schema_migration VALUES (99, 'later', 'x', 1)");
    refused(&newer, "schema version 99, this program knows").await;

    let changed = Database::fresh();
    drop(changed.connect().await);
    changed.rows("UPDATE schema_migration SET checksum = REPEAT('0', 64)");
    refused(&changed, "made by other statements").await;

    let foreign = Database::fresh();
    foreign.rows("CREATE TABLE theirs (x INT)");
    refused(&foreign, "another program").await;
    let tables = foreign.rows("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()");
    assert_eq!(tables, ["theirs"], "not a table was added");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_was_cut_off_is_finished() {
    let place = Database::fresh();
    drop(place.connect().await);
    place.rows("UPDATE schema_migration SET finished = 0");
    place.rows("DROP TABLE outbox_head, writer_mark, move");
    let shop = Shop::selling(place, 3, 1).await;
    shop.accept(attempt(1)).await;
    shop.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_keep_the_promises_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start_with(folder.path(), &["binlog_format=STATEMENT"]).unwrap();
    refused(&Database::at(server.create_database().unwrap()), "binlog_format is STATEMENT").await;
    let port = server.port();
    drop(server);
    let nowhere =
        MariaStoreOptions { url: Some(format!("mysql://root@127.0.0.1:{port}/x")), ..MariaStoreOptions::default() };
    match MariaStore::connect(nowhere).await {
        Err(e @ StoreError::Unavailable(_)) => assert!(e.retryable()),
        other => panic!("{other:?}"),
    }
}

/// The password comes from its file, for each connection anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_read_from_its_file() {
    let place = Database::fresh();
    let server = place.url.strip_prefix("mysql://root@127.0.0.1:").unwrap().split_once('/').unwrap();
    let (port, database): (u16, String) = (server.0.parse().unwrap(), server.1.to_owned());
    place.rows(&format!("CREATE USER {database}@'127.0.0.1' IDENTIFIED BY 'pa\"ss wörd'"));
    place.rows(&format!("GRANT ALL ON {database}.* TO {database}@'127.0.0.1'"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let options = MariaStoreOptions {
        port,
        user: database.clone(),
        database,
        password_file: Some(file.clone()),
        ..MariaStoreOptions::default()
    };
    let why = MariaStore::connect(options.clone()).await.unwrap_err();
    assert!(why.to_string().contains("Access denied") && !why.to_string().contains("wrong"), "{why}");
    std::fs::write(&file, "pa\"ss wörd\n").unwrap();
    let store = MariaStore::connect(options).await.unwrap();
    assert!(store.products().await.unwrap().is_empty(), "an account with rights on its own database is enough");
}
