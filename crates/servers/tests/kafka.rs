//! Kafka as a child: it serves, keeps what it has over `kill -9`, and a failed start says why. (Records are
//! the matter of `eventlog`'s tests.)
#![allow(clippy::unwrap_used)]

use servers::{Kafka, ServerError};

#[test]
fn it_serves_is_killed_and_comes_back_with_its_topics() {
    let dir = tempfile::tempdir().unwrap();
    let mut kafka = Kafka::start(dir.path()).unwrap();
    let bootstrap = kafka.bootstrap();
    kafka.create_topic("kept", 3).unwrap();
    kafka.create_topic("gone", 1).unwrap();
    kafka.delete_topic("gone").unwrap();
    kafka.kill();
    assert!(!kafka.is_running());
    kafka.restart().unwrap();
    assert_eq!((kafka.bootstrap(), kafka.list_topics().unwrap()), (bootstrap, vec!["kept".to_owned()]));
    kafka.pause();
    assert!(kafka.is_running());
    kafka.resume();
    let told = kafka.create_topic("kept", 3).unwrap_err();
    assert!(told.to_string().contains("already exists"), "{told}");
    kafka.stop();
    assert!(!kafka.is_running());
}

#[test]
fn a_failed_start_shows_the_end_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    drop(Kafka::start(dir.path()).unwrap());
    let error = Kafka::start_with(dir.path(), &["num.io.threads=none"]).err().unwrap();
    assert!(matches!(error, ServerError::Died { .. }), "{error}");
    assert!(error.to_string().contains("num.io.threads"), "{error}");
}
