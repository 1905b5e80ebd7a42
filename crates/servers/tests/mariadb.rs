//! MariaDB as a child: what was committed is there again, each database is fresh, a failed start says why.
#![allow(clippy::unwrap_used)]

use servers::{MariaDb, ServerError};

#[test]
fn it_answers_is_killed_and_comes_back_with_what_was_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut db = MariaDb::start(dir.path()).unwrap();
    let port = db.port();
    let url = db.create_database().unwrap();
    let other = db.create_database().unwrap();
    assert_ne!(url, other);
    let name = url.rsplit('/').next().unwrap();
    assert_eq!(url, db.url_of(name));
    db.run(&format!("CREATE TABLE {name}.t (x INT PRIMARY KEY); INSERT INTO {name}.t VALUES (1), (2)")).unwrap();
    db.kill();
    assert!(db.run("SELECT 1").is_err());
    db.restart().unwrap();
    assert_eq!(db.port(), port);
    assert_eq!(db.run(&format!("SELECT x FROM {name}.t ORDER BY x")).unwrap(), "1\n2\n");
    let durable = "SELECT @@sync_binlog, @@innodb_flush_log_at_trx_commit, @@log_bin";
    assert_eq!(db.run(durable).unwrap(), "1\t1\t1\n");
    db.pause();
    assert!(db.is_running());
    db.resume();
    assert_eq!(db.run("SELECT 1").unwrap(), "1\n");
    db.stop();
    assert!(!db.is_running());
}

#[test]
fn a_failed_start_shows_the_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let error = MariaDb::start_with(dir.path(), &["no-such-setting=1"]).err().unwrap();
    assert!(matches!(error, ServerError::Died { .. }), "{error}");
    assert!(error.to_string().contains("no-such-setting"), "{error}");
}
